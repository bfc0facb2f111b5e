// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"strings"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector/delivery"
)

// metric is how a quantity is shown: in base units, named as https://prometheus.io/docs/practices/naming/ asks for.
type metric struct {
	name, help string
	factor     float64
	kind       client.ValueType
}

// suffix of a SenML unit, and what its values are multiplied by.
func suffix(unit string) (string, float64) {
	s, known := map[string]string{
		"Cel": "celsius", "K": "kelvins", "Pa": "pascals", "V": "volts", "A": "amperes", "W": "watts", "J": "joules", "Ohm": "ohms", "F": "farads", "H": "henries",
		"Hz": "hertz", "m": "meters", "m2": "square_meters", "m3": "cubic_meters", "g": "grams", "m/s": "meters_per_second", "m/s2": "meters_per_second_squared",
		"rad": "radians", "deg": "degrees", "N": "newtons", "cd": "candelas", "lm": "lumens", "T": "teslas", "lx": "lux",
		"S": "siemens", "S/m": "siemens_per_meter", "NTU": "ntu", "pH": "", "s": "seconds", "B": "bytes", "bit": "bits", "bit/s": "bits_per_second", "/": "ratio", "count": "",
		"VA": "volt_amperes", "VAs": "volt_ampere_seconds", "var": "vars", "vars": "var_seconds", "W/m2": "watts_per_square_meter", "dB": "decibels", "dBW": "decibel_watts",
		"lat": "degrees_latitude", "lon": "degrees_longitude", "1/s": "per_second", "1/min": "per_minute", "m3/s": "cubic_meters_per_second", "l": "liters", "l/s": "liters_per_second",
		"C": "coulombs", "Wb": "webers", "Bq": "becquerels", "Gy": "grays", "Sv": "sieverts", "kat": "katals", "mol": "moles", "sr": "steradians", "cd/m2": "candelas_per_square_meter",
		"Bspl": "bels_spl", "EL": "seconds_left", "beats": "beats", "beat/min": "beats_per_minute", "J/m": "joules_per_meter", "": "",
	}[unit]
	switch {
	case unit == "%RH" || unit == "%" || unit == "%EL":
		return "ratio", 0.01
	case unit == "kg":
		return "grams", 1000 // Prometheus's base unit of mass
	case unit == "kg/m3":
		return "grams_per_cubic_meter", 1000
	case known:
		return s, 1
	}
	return "unit_" + clean(unit), 1
}

// clean makes a part of a metric's name.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(s))
}

// metricOf names a quantity; voltage.1 is a voltage, the label name tells which.
func metricOf(quantity string, v delivery.Value) metric {
	base, _, _ := strings.Cut(quantity, ".")
	unit, factor := suffix(v.Unit)
	m := metric{name: "streembit_" + clean(base), help: "Newest reading of " + base + ".", factor: factor, kind: client.GaugeValue}
	if unit != "" && !strings.HasSuffix(m.name, "_"+unit) {
		m.name += "_" + unit
	}
	if v.Kind == edge.Counter {
		m.name, m.kind = m.name+"_total", client.CounterValue
	} else if v.Kind == edge.State {
		m.help = "Newest state of " + base + ", 1 or 0."
	}
	return m
}
