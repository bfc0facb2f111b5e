// SPDX-License-Identifier: Apache-2.0

package shape

// unit is a secondary unit: value in it = (value in the primary unit - offset) · per / times.
type unit struct {
	of         string // the primary unit
	times, per float64
	offset     float64
}

// from converts a value in the primary unit. Multiplying and dividing by whole numbers rounds once each, so 1013.25 hPa is that.
func (u unit) from(v float64) float64 { return (v - u.offset) * u.per / u.times }

// secondary knows RFC 8798 §3, table 2: the scale is given as times/per, so that 1/1000 has no rounding of its own.
func secondary(name string) (unit, bool) {
	u, ok := map[string]unit{
		"ms": {"s", 1, 1000, 0}, "min": {"s", 60, 1, 0}, "h": {"s", 3600, 1, 0}, "MHz": {"Hz", 1e6, 1, 0}, "kW": {"W", 1000, 1, 0},
		"kVA": {"VA", 1000, 1, 0}, "kvar": {"var", 1000, 1, 0}, "Ah": {"C", 3600, 1, 0}, "Wh": {"J", 3600, 1, 0}, "kWh": {"J", 3600000, 1, 0},
		"varh": {"vars", 3600, 1, 0}, "kvarh": {"vars", 3600000, 1, 0}, "kVAh": {"VAs", 3600000, 1, 0}, "Wh/km": {"J/m", 36, 10, 0},
		"KiB": {"B", 1024, 1, 0}, "GB": {"B", 1e9, 1, 0}, "Mbit/s": {"bit/s", 1e6, 1, 0}, "B/s": {"bit/s", 8, 1, 0}, "MB/s": {"bit/s", 8e6, 1, 0},
		"mV": {"V", 1, 1000, 0}, "mA": {"A", 1, 1000, 0}, "dBm": {"dBW", 1, 1, -30}, "ug/m3": {"kg/m3", 1, 1e9, 0}, "mm/h": {"m/s", 1, 3600000, 0},
		"m/h": {"m/s", 1, 3600, 0}, "ppm": {"/", 1, 1e6, 0}, "/100": {"/", 1, 100, 0}, "/1000": {"/", 1, 1000, 0}, "hPa": {"Pa", 100, 1, 0},
		"mm": {"m", 1, 1000, 0}, "cm": {"m", 1, 100, 0}, "km": {"m", 1000, 1, 0}, "km/h": {"m/s", 10, 36, 0},
	}[name]
	return u, ok
}
