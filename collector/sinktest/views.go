// SPDX-License-Identifier: Apache-2.0

package sinktest

// VersionOneViews are questions, and the answers that a database gives which a program of version 1 filled (testdata of the packages of databases) and which
// was brought up to date.
func VersionOneViews() map[string][]string {
	return map[string][]string{
		`SELECT device_name, missing_segments, forks, chains FROM devices ORDER BY 1`: {"cellar 2 1 1", "roof 2 0 1"},
		`SELECT device_name, first_seq, last_seq, segments, reason FROM gaps ORDER BY 1`: {
			"cellar 5 6 2 no hub holds it", "roof 5 6 2 no hub holds it"},
		`SELECT device_name || '/' || kind || '/' || detail FROM alarms ORDER BY 1`: {
			"cellar/fork/two signed segments claim seq 5 of stream main: the device is cloned or was turned back",
			"cellar/missing/segments 5 to 6 of stream main: no hub holds it", "roof/missing/segments 5 to 6 of stream main: no hub holds it"},
		`SELECT sensor || '/' || name || ' ' || unit FROM series WHERE device = (SELECT id FROM device WHERE name = 'roof') ORDER BY 1`: {
			"bme280-0/temperature Cel", "host/state ", "relay/on "},
		`SELECT n, high FROM hourly ORDER BY device_name`: {"32 3001", "32 3001"},
	}
}
