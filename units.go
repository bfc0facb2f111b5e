// SPDX-License-Identifier: Apache-2.0

package edge

// units lists the primary units of the IANA registry "SenML Units": RFC 8428 §12.1 and RFC 8798 §2. Those that the
// registry marks as not recommended (g, l, l/s, %, Bspl, 1/min, beat/min, beats, deg) are known too, since they are valid in signed data.
// Secondary units (RFC 8798 §3: ms, kWh, ppm, hPa, …) are not: they appear in exports only.
// The value repeats the key, so that a decoder can hand out this string for bytes it read without allocating.
var units = table(
	"m", "kg", "g", "s", "A", "K", "cd", "mol", "Hz", "rad", "sr", "N", "Pa", "J", "W", "C", "V", "F", "Ohm", "S", "Wb", "T", "H",
	"Cel", "lm", "lx", "Bq", "Gy", "Sv", "kat", "m2", "m3", "l", "m/s", "m/s2", "m3/s", "l/s", "W/m2", "cd/m2", "bit", "bit/s",
	"lat", "lon", "pH", "dB", "dBW", "Bspl", "count", "/", "%", "%RH", "%EL", "EL", "1/s", "1/min", "beat/min", "beats", "S/m",
	"B", "VA", "VAs", "var", "vars", "J/m", "kg/m3", "deg", "NTU",
)

func table(names ...string) map[string]string {
	m := make(map[string]string, len(names))
	for _, n := range names {
		m[n] = n
	}
	return m
}

// KnownUnit reports whether u is a SenML primary unit (RFC 8428 §12.1 and the later entries of the IANA registry), the only
// units allowed in signed data. The empty string is not a unit: a quantity without one is valid all the same.
func KnownUnit(u string) bool {
	_, ok := units[u]
	return ok
}
