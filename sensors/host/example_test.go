// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"fmt"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/host"
)

func Example() {
	board := hal.NewBoard(hal.Wiring{Root: "testdata/pi4"}) // hal.Open for the machine itself
	defer board.Close()
	machine, err := host.Driver.Connect(context.Background(), board, hal.Request{}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer machine.Close()
	samples, err := machine.Read(context.Background())
	fmt.Println(samples[0].Name, samples[0].Value, err)
	// Output: load 0.52 <nil>
}
