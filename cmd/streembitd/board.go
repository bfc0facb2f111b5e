// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// openBoard opens the machine's own buses, or the simulated board.
func openBoard(ctx context.Context, c boardConfig) (*hal.Board, error) {
	if c.Name != "sim" {
		return hal.Open(ctx, hal.Config{})
	}
	return sim.New(sim.Config{Seed: c.Seed, Faults: sim.Faults{
		Seed: c.Seed, PerHour: c.Faults.PerHour, Unplugs: c.Faults.Unplugs, Longest: time.Duration(c.Faults.Longest)}}), nil
}

// probes turns the config's sensors into what the agent samples. What the board can tell to be wrong with the config is an error at start; a sensor
// that is not there is not, it is tried again.
func probes(board *hal.Board, c *config) ([]agent.Probe, error) {
	if err := c.checkPlaces(board); err != nil {
		return nil, c.misuse(err)
	}
	var out []agent.Probe
	for i, s := range c.Sensors {
		d, err := all.Find(s.Driver)
		if err != nil {
			return nil, c.misuse(c.wrongSensor(i, "driver", err))
		}
		p := agent.Probe{
			Name: s.Name, Driver: s.Driver, Stream: s.Stream, Every: time.Duration(s.Interval),
			Open: func(ctx context.Context) (agent.Sensor, error) { return connect(ctx, board, d, s) },
		}
		if len(d.Actions) > 0 {
			p.CanSet = d.CanSet
		}
		out = append(out, p)
	}
	return out, nil
}

func connect(ctx context.Context, board *hal.Board, d sensors.Driver, c sensorConfig) (sensors.Sensor, error) {
	return d.Connect(ctx, board, request(c), c.Options)
}
