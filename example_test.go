// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"fmt"

	"github.com/streembit/edge"
)

func ExampleMarshalSenML() {
	device := edge.ID{31: 1}
	closed := edge.Instant{Mono: 61_500, Wall: 1_764_000_000_000} // when the pack was closed
	pack, err := edge.MarshalSenML(device, closed.Mono, []edge.Reading{{
		Sensor: "room",
		Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: 21.5},
		At:     edge.Instant{Mono: 60_250},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	readings, err := edge.UnmarshalSenML(pack, device, closed)
	if err != nil {
		fmt.Println(err)
		return
	}
	r := readings[0]
	fmt.Println(r.Name(), r.Value, r.Unit, r.At.Time().Format("15:04:05.000"))
	// Output: room/temperature 21.5 Cel 15:59:58.750
}

func ExampleMarshalSenMLJSON() {
	text, err := edge.MarshalSenMLJSON(edge.ID{31: 1}, []edge.Reading{{
		Sensor: "door",
		Sample: edge.Sample{Quantity: edge.Quantity{Name: "contact", Kind: edge.State}, Value: 1},
		At:     edge.Instant{Mono: 60_250, Wall: 1_764_000_000_250},
	}})
	fmt.Print(string(text), err, "\n")
	// Output:
	// [
	// {"n":"12D3KooW9pNAk8aiBuGVQtWRdbkLmo5qVL3e2h5UxbN2Nz9ttwix/door/contact","vb":true,"t":1764000000.250}]
	// <nil>
}
