// SPDX-License-Identifier: Apache-2.0

package thing_test

import (
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/thing"
)

// A device describes itself by what it has, and its description judges what somebody types.
func Example() {
	relay := edge.Quantity{Name: "switch", Kind: edge.State}
	d := thing.Build(thing.Device{ID: key(1).ID(), Title: "pi-1",
		Sensors: []thing.Sensor{{Name: "relay", Stream: "main", Measures: []edge.Quantity{relay}, Outputs: []edge.Quantity{relay}}}})
	set := d.Actions["relay/switch"].Input
	fmt.Println(set.Arguments([]string{"value=on", "for=1m30s"}))
	fmt.Println(set.Arguments([]string{"value=on", "for=2d"}))
	_, err := set.Arguments([]string{"value=on", "for=48h"})
	fmt.Println(err)
	// Output:
	// map[for:90 value:true] <nil>
	// map[] for is "2d": want a number from 0.1 to 86400 s
	// for is 172800: want a number from 0.1 to 86400 s
}
