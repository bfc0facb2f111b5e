// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector/delivery"
)

// discovery is Home Assistant's message for a device and all that it measures
// (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload), with the long names of its keys.
type discovery struct {
	Device       haDevice               `json:"device"`
	Origin       haOrigin               `json:"origin"`
	Components   map[string]haComponent `json:"components"`
	Availability []haTopic              `json:"availability"`
	Mode         string                 `json:"availability_mode"`
	QoS          int                    `json:"qos"`
}

type haDevice struct {
	Identifiers  []string `json:"identifiers"`
	Name         string   `json:"name"`
	Manufacturer string   `json:"manufacturer"`
	Serial       string   `json:"serial_number"`
}

type haOrigin struct {
	Name string `json:"name"`
}

type haTopic struct {
	Topic string `json:"topic"`
}

type haComponent struct {
	Platform   string `json:"platform"`
	UniqueID   string `json:"unique_id"`
	Name       string `json:"name"`
	StateTopic string `json:"state_topic"`
	Template   string `json:"value_template"`
	Class      string `json:"device_class,omitempty"`
	Unit       string `json:"unit_of_measurement,omitempty"`
	StateClass string `json:"state_class,omitempty"`
	Attributes string `json:"json_attributes_topic"`
}

// unit says how Home Assistant shows a SenML unit: the factor is for units that it would show as unreadable numbers.
type unit struct {
	shown  string
	class  string
	factor float64
}

// units by SenML unit, and by quantity and SenML unit where the unit alone says too little. Classes and the units that each takes are
// those of Home Assistant's sensor integration.
func units(quantity, senml string) unit {
	switch quantity + " " + senml {
	case "co2 /":
		return unit{"ppm", "carbon_dioxide", 1e6}
	case "concentration /":
		return unit{"ppm", "volatile_organic_compounds_parts", 1e6}
	case "particles kg/m3":
		return unit{"µg/m³", "pm25", 1e9}
	case "pressure Pa":
		return unit{"hPa", "atmospheric_pressure", 0.01}
	case "rain m":
		return unit{"mm", "precipitation", 1000}
	case "energy J":
		return unit{"kWh", "energy", 1 / 3.6e6}
	case "volume m3":
		return unit{"m³", "water", 1}
	}
	u, known := map[string]unit{
		"Cel": {"°C", "temperature", 1}, "K": {"K", "temperature", 1}, "Pa": {"Pa", "pressure", 1}, "%RH": {"%", "humidity", 1},
		"V": {"V", "voltage", 1}, "A": {"A", "current", 1}, "W": {"W", "power", 1}, "VA": {"VA", "apparent_power", 1}, "var": {"var", "reactive_power", 1},
		"Hz": {"Hz", "frequency", 1}, "m": {"m", "distance", 1}, "kg": {"kg", "weight", 1}, "m/s": {"m/s", "speed", 1}, "lx": {"lx", "illuminance", 1},
		"W/m2": {"W/m²", "irradiance", 1}, "dBW": {"dBm", "signal_strength", 1}, "%EL": {"%", "battery", 1}, "B": {"B", "data_size", 1},
		"s": {"s", "duration", 1}, "pH": {"", "ph", 1}, "rad": {"rad", "", 1}, "Ohm": {"Ω", "", 1}, "deg": {"°", "", 1}, "m3": {"m³", "volume", 1},
		"J": {"J", "", 1}, "count": {"", "", 1}, "/": {"", "", 1}, "": {"", "", 1},
	}[senml]
	if !known {
		return unit{senml, "", 1}
	}
	return u
}

// binaryClass is the device class of a quantity that is on or off.
func binaryClass(quantity string) string {
	return map[string]string{"contact": "opening", "motion": "motion", "leak": "moisture", "switch": "power"}[quantity]
}

// discovery makes the message of a device. The lock is the caller's.
func (s *server) discovery(id edge.ID, d *device) ([]byte, error) {
	out := discovery{
		Device:       haDevice{Identifiers: []string{"streembit-" + id.String()}, Name: cmp.Or(d.name, id.Short()), Manufacturer: "Streembit", Serial: id.String()},
		Origin:       haOrigin{Name: "streembit"},
		Components:   make(map[string]haComponent, len(d.series)),
		Availability: []haTopic{{s.statusTopic()}, {s.availabilityTopic(id)}}, Mode: "all", QoS: 1,
	}
	for k, v := range d.series {
		out.Components[k.Sensor+"_"+k.Quantity] = s.component(k, v)
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("discovery of %s: %w", id, err)
	}
	return b, nil
}

func (s *server) component(k delivery.Series, v delivery.Value) haComponent {
	c := haComponent{Platform: "sensor", UniqueID: "streembit-" + k.Device.String() + "-" + k.Sensor + "-" + k.Quantity,
		Name: k.Sensor + " " + k.Quantity, StateTopic: s.stateTopic(k), Attributes: s.stateTopic(k), Template: "{{ value_json.value }}"}
	quantity, _, _ := strings.Cut(k.Quantity, ".") // voltage.1 is a voltage
	switch v.Kind {
	case edge.State:
		c.Platform, c.Class, c.Template = "binary_sensor", binaryClass(quantity), "{{ 'ON' if value_json.value else 'OFF' }}"
		return c
	case edge.Text:
		c.Template = "{{ value_json.value[:255] }}" // the longest state that Home Assistant has
		return c
	case edge.Counter:
		c.StateClass = "total_increasing"
	default:
		c.StateClass = "measurement"
	}
	u := units(quantity, v.Unit)
	c.Unit, c.Class = u.shown, u.class
	if u.factor != 1 {
		c.Template = fmt.Sprintf("{{ value_json.value * %g }}", u.factor)
	}
	if v.Unit == "dBW" {
		c.Template = "{{ value_json.value + 30 }}" // a milliwatt is 30 dB less than a watt
	}
	if !takes(c.Class, c.StateClass) {
		c.Class = ""
	}
	return c
}

// takes reports whether Home Assistant lets a class have a state class: totals and measurements are different classes there.
func takes(class, stateClass string) bool {
	switch class {
	case "energy", "water", "volume":
		return stateClass == "total_increasing"
	case "precipitation", "distance", "duration", "data_size", "weight", "":
		return true
	}
	return stateClass == "measurement"
}
