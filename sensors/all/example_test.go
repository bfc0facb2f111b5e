// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"context"
	"fmt"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors/all"
)

func ExampleFind() {
	board := sim.New(sim.Config{Seed: 1})
	defer board.Close()
	driver, err := all.Find("bme280")
	if err != nil {
		fmt.Println(err)
		return
	}
	sensor, err := driver.Connect(context.Background(), board, hal.Request{}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sensor.Close()
	samples, err := sensor.Read(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range samples {
		fmt.Println(s.Name, s.Unit)
	}
	// Output:
	// temperature Cel
	// humidity %RH
	// pressure Pa
}
