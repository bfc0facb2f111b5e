// SPDX-License-Identifier: Apache-2.0

package gpio_test

import (
	"context"
	"fmt"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors/gpio"
)

func Example() {
	board := sim.New(sim.Config{Seed: 1})
	defer board.Close()
	meter, err := gpio.Pulses.Connect(context.Background(), board, hal.Request{Pin: sim.MeterPin},
		map[string]any{"as": "energy", "per-pulse": 3600}) // 1000 pulses per kWh
	if err != nil {
		fmt.Println(err)
		return
	}
	defer meter.Close()
	samples, err := meter.Read(context.Background())
	fmt.Println(samples[0].Name, samples[0].Unit, err)
	// Output: energy J <nil>
}
