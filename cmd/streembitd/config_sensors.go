// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// wrongSensor is what is wrong with the i-th [[sensor]] at a key.
func (c *config) wrongSensor(i int, key string, err error) error {
	return &faultyEntry{"sensor", i, key, fmt.Errorf("sensor %q: %w", c.Sensors[i].Name, err)}
}

// checkSensors finds what is wrong with the sensors as far as that can be known without the board.
func (c *config) checkSensors() error {
	seen := map[string]bool{}
	for i, s := range c.Sensors {
		if s.Name == "" || s.Driver == "" {
			return &faultyEntry{"sensor", i, "", fmt.Errorf("sensor %d: it needs a name and a driver", i+1)}
		}
		if key, err := c.checkSensor(s, seen); err != nil {
			return c.wrongSensor(i, key, err)
		}
		seen[s.Name] = true
	}
	return nil
}

// checkSensor also says at which key the error lies.
func (c *config) checkSensor(s sensorConfig, seen map[string]bool) (key string, err error) {
	d, err := all.Find(s.Driver)
	every := time.Duration(s.Interval)
	probe := edge.Reading{Sensor: s.Name, Sample: edge.Sample{Quantity: edge.Quantity{Name: "x", Kind: edge.Text}}}
	switch {
	case probe.Validate() != nil:
		return "name", errors.New("the name wants 1 to 63 of a-z 0-9 . _ -, a letter or digit first")
	case seen[s.Name]:
		return "name", errors.New("two sensors have this name")
	case err != nil:
		return "driver", err
	case !slices.ContainsFunc(c.Streams, func(st streamConfig) bool { return st.Name == s.Stream }):
		return "stream", fmt.Errorf("stream %q is not declared: add [[stream]] name = %q", s.Stream, s.Stream)
	case every < time.Millisecond:
		return "interval", errors.New("interval: want 1ms or more")
	case every < d.Fastest:
		return "interval", fmt.Errorf("interval = %q: a %s gives at most one reading per %s", every, d.Name, d.Fastest)
	}
	if err := d.Check(request(s), nil); err != nil {
		if d.Bus == hal.GPIO || s.Pin != "" {
			return "pin", err
		}
		return "addr", err
	}
	return "options", d.Check(request(s), s.Options)
}

// checkPlaces finds two sensors at one place, or one where the kernel's driver or a part of the board is, which only the board can tell. A bus or line
// that is not there now is no error: it may come later.
func (c *config) checkPlaces(board *hal.Board) error {
	at := map[string]string{}
	for i, s := range c.Sensors {
		d, err := all.Find(s.Driver)
		if err != nil {
			return c.wrongSensor(i, "driver", err)
		}
		where, key, err := locate(board, d, s)
		if errors.Is(err, hal.ErrClaimed) {
			return c.wrongSensor(i, key, err)
		}
		if other, taken := at[where]; taken && where != "" {
			return c.wrongSensor(i, key, fmt.Errorf("%s is the place of sensor %q already: two sensors cannot share it", where, other))
		}
		at[where] = s.Name
	}
	return nil
}

// locate returns the one name of the place where a sensor is, and the key that says so. It is "" where others may be too, and together with the
// board's error where it has no such place.
func locate(board *hal.Board, d sensors.Driver, s sensorConfig) (where, key string, err error) {
	r := request(s)
	r.Kind = d.Bus
	switch d.Bus {
	case hal.I2C:
		key = "addr"
		if r.Addr == 0 && len(d.Addrs) > 0 {
			r.Addr = d.Addrs[0]
		}
	case hal.GPIO:
		key = "pin"
	case hal.OneWire: // the kernel serves several readers, yet the same chip twice is a mistake
		if id, ok := s.Options[slaveOption].(string); ok && id != "" {
			where = "1-wire chip " + strings.ToLower(id)
		}
		return where, "options", nil
	default:
		return "", "", nil
	}
	port, err := board.Port(r)
	return port.Name, key, err
}

func request(c sensorConfig) hal.Request { return hal.Request{Bus: c.Bus, Addr: c.Addr, Pin: c.Pin} }
