// SPDX-License-Identifier: Apache-2.0

package mqtt_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/streembit/edge"
)

// quantities are those that our drivers measure, and others that need care.
func quantities() []edge.Quantity {
	q := func(name, unit string, kind edge.Kind) edge.Quantity {
		return edge.Quantity{Name: name, Unit: unit, Kind: kind}
	}
	return []edge.Quantity{q("temperature", "Cel", 0), q("humidity", "%RH", 0), q("pressure", "Pa", 0), q("voltage", "V", 0), q("voltage.1", "V", 0),
		q("current", "A", 0), q("power", "W", 0), q("illuminance", "lx", 0), q("co2", "/", 0), q("concentration", "/", 0), q("particles", "kg/m3", 0),
		q("resistance", "Ohm", 0), q("conductivity", "S/m", 0), q("ph", "pH", 0), q("distance", "m", 0), q("fan", "1/min", 0), q("load", "/", 0),
		q("memory-free", "B", 0), q("uptime", "s", 0), q("count", "count", edge.Counter), q("energy", "J", edge.Counter), q("energy.now", "J", 0),
		q("volume", "m3", edge.Counter), q("rain", "m", edge.Counter), q("contact", "", edge.State), q("motion", "", edge.State), q("leak", "", edge.State),
		q("switch", "", edge.State), q("other", "", edge.State), q("log", "", edge.Text), q("battery", "%EL", 0), q("rssi", "dBW", 0), q("frequency", "Hz", 0),
		q("weight", "kg", 0), q("speed", "m/s", 0), q("total", "V", edge.Counter)}
}

// checkDiscovery holds a message to testdata/discovery.schema.json: Home Assistant's documented keys, the values that it knows, and for each
// device class the units and state classes that it takes.
func checkDiscovery(t *testing.T, message []byte) {
	t.Helper()
	schema := discoverySchema(t)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, message)
	}
}

func discoverySchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/discovery.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("discovery.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("discovery.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDiscoverySchema: the schema refuses what Home Assistant refuses.
func TestDiscoverySchema(t *testing.T) {
	const good = `{"device":{"identifiers":["x"]},"origin":{"name":"o"},"components":{"a":{"platform":"sensor","unique_id":"u","state_topic":"t","device_class":"temperature","unit_of_measurement":"°C","state_class":"measurement"}}}`
	schema := discoverySchema(t)
	valid := func(s string) error {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(s)))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(doc)
	}
	if err := valid(good); err != nil {
		t.Error(err)
	}
	for from, to := range map[string]string{`"identifiers":["x"]`: `"name":"x"`, `"name":"o"`: `"sw":"1"`, `"sensor"`: `"gauge"`, `"unique_id":"u",`: ``, `"°C"`: `"hPa"`,
		`"measurement"`: `"total"`, `"state_topic":"t",`: ``, `"temperature"`: `"warmth"`} {
		if bad := string(bytes.Replace([]byte(good), []byte(from), []byte(to), 1)); valid(bad) == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}
