// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// openBoard opens the machine's own buses, or the simulated board.
func openBoard(ctx context.Context, c boardConfig) (*hal.Board, error) {
	switch c.Name {
	case "sim":
		return sim.New(sim.Config{Seed: c.Seed}), nil
	case "", "auto":
		return hal.Open(ctx, hal.Config{})
	}
	return nil, cli.Usagef("board.name = %q: want auto or sim", c.Name)
}

// probes turns the config's sensors into what the agent samples. An unknown driver, or an interval faster than the chip,
// is an error at start; a sensor that is not there is not, it is tried again.
func probes(board *hal.Board, configs []sensorConfig) ([]agent.Probe, error) {
	var out []agent.Probe
	for _, c := range configs {
		d, err := all.Find(c.Driver)
		if err != nil {
			return nil, cli.Usagef("sensor %q: %w", c.Name, err)
		}
		if time.Duration(c.Interval) < d.Fastest {
			return nil, cli.Usagef("sensor %q: interval = %q: a %s gives at most one reading per %s", c.Name, time.Duration(c.Interval), d.Name, d.Fastest)
		}
		if err := d.Check(request(c), c.Options); err != nil {
			return nil, cli.Usagef("sensor %q: %w", c.Name, err)
		}
		out = append(out, agent.Probe{
			Name: c.Name, Driver: c.Driver, Stream: c.Stream, Every: time.Duration(c.Interval),
			Open: func(ctx context.Context) (agent.Sensor, error) { return connect(ctx, board, d, c) },
		})
	}
	return out, nil
}

func connect(ctx context.Context, board *hal.Board, d sensors.Driver, c sensorConfig) (sensors.Sensor, error) {
	return d.Connect(ctx, board, request(c), c.Options)
}

func request(c sensorConfig) hal.Request { return hal.Request{Bus: c.Bus, Addr: c.Addr, Pin: c.Pin} }
