// SPDX-License-Identifier: Apache-2.0

// Package sensors is the contract between the agent and the drivers: a Driver is plain data that describes one chip model,
// a Sensor is one chip that was powered up. Quantities and the conversion of units are here too (units.go). One folder below holds one driver;
// package all lists them; package sensorstest checks them; docs/adding-a-sensor.md says how to write one.
//
// Start with Driver.Connect.
package sensors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
)

// Sensor is one powered-up chip. It is never used concurrently.
type Sensor interface {
	// Read takes one measurement. It returns either samples or an error, never both, and stops when the context ends.
	// A value that the chip did not give is never made up.
	Read(ctx context.Context) ([]edge.Sample, error)
	// Close leaves the chip in its lowest-power state and waits for whatever the sensor started.
	Close() error
}

// Actuator is a Sensor that can also be told something. Its Read gives the state that is on the lines, not the one that was asked for.
type Actuator interface {
	Sensor
	// Set makes the chip reach the state, or returns an error. The sample is of one of the Driver's Actions.
	Set(ctx context.Context, s edge.Sample) error
}

// Driver describes one chip model. It is plain data: importing it has no effect.
type Driver struct {
	Name  string      // config key, for example "bme280"; [a-z0-9-]
	Doc   string      // one line for lists: what it is, accuracy, data sheet
	Bus   hal.BusKind // how it is connected
	Addrs []uint16    // I²C addresses that the chip can have, the default first

	// Measures is everything that Read may return. A quantity also stands for those that have its unit and kind and whose name goes
	// on after a dot: "temperature" for "temperature.cpu-thermal". Which ones Read returns is settled by Open.
	Measures []edge.Quantity
	Actions  []edge.Quantity // what its Actuator takes, with Measures' rule for names; none = it is no Actuator
	Options  []Option        // what a config may set
	Fastest  time.Duration   // shortest useful sampling interval

	// Identify tells whether the chip at the port is of this model, for a scan of the bus: nil, or an error, which wraps ErrWrongChip if
	// another chip answered. It changes nothing in any chip that could be there: it reads, or writes only the address of a register or a
	// command that reads. nil for a chip that cannot be told from others.
	Identify func(ctx context.Context, p hal.Port) error
	// Touchy says that any byte written to the chip acts on the outside world, as an expander's outputs do: a scan
	// writes nothing to an address where one could be.
	Touchy bool

	// Open powers the chip up and checks that it is the right one. opts has a value for every entry of Options. Use Connect to call it.
	Open func(ctx context.Context, p hal.Port, opts map[string]string) (Sensor, error)
}

// Option is one setting of a driver.
type Option struct {
	Name    string
	Default string
	Allowed []string // all values there are; empty = the driver checks the value itself
	Doc     string
}

// Porter hands out ports; *hal.Board is one.
type Porter interface {
	Port(r hal.Request) (hal.Port, error)
}

// Connect gets the sensor's port and opens the sensor there. at.Kind is set by the driver, and at.Addr if it is 0. The values of
// opts are strings, booleans or numbers as a TOML file has them. The error names the driver and says what is wrong with the config or the wiring.
func (d Driver) Connect(ctx context.Context, board Porter, at hal.Request, opts map[string]any) (Sensor, error) {
	at, settings, err := d.resolve(at, opts)
	if err != nil {
		return nil, fmt.Errorf("sensors: %s: %w", d.Name, err)
	}
	port, err := board.Port(at)
	if err != nil {
		return nil, fmt.Errorf("sensors: %s: %w", d.Name, err)
	}
	s, err := d.Open(ctx, port, settings)
	if err != nil {
		return nil, fmt.Errorf("sensors: opening %s: %w", d.Name, err)
	}
	return s, nil
}

// Check says what is wrong with a config entry as far as that can be known without the board: address, line and options.
func (d Driver) Check(at hal.Request, opts map[string]any) error {
	if _, _, err := d.resolve(at, opts); err != nil {
		return fmt.Errorf("sensors: %s: %w", d.Name, err)
	}
	return nil
}

// resolve fills in what a config entry leaves to the driver.
func (d Driver) resolve(at hal.Request, opts map[string]any) (hal.Request, map[string]string, error) {
	settings, err := d.settings(opts)
	if err != nil {
		return at, nil, err
	}
	at.Kind = d.Bus
	if at.Addr == 0 && len(d.Addrs) > 0 {
		at.Addr = d.Addrs[0]
	}
	switch {
	case len(d.Addrs) > 0 && !slices.Contains(d.Addrs, at.Addr):
		return at, nil, fmt.Errorf("address %#x: this chip can have %#x only: set addr", at.Addr, d.Addrs)
	case len(d.Addrs) == 0 && at.Addr != 0:
		return at, nil, fmt.Errorf("address %#x: a sensor on %s has none: leave addr out", at.Addr, d.Bus)
	case d.Bus == hal.GPIO && at.Pin == "":
		return at, nil, errors.New("no GPIO line: set pin, for example pin = \"GPIO17\"")
	case d.Bus != hal.GPIO && at.Pin != "":
		return at, nil, fmt.Errorf("pin = %q: a sensor on %s has no GPIO line: leave pin out", at.Pin, d.Bus)
	}
	return at, settings, nil
}

// CanMeasure reports whether q is covered by Measures.
func (d Driver) CanMeasure(q edge.Quantity) bool { return covers(d.Measures, q) }

// CanSet reports whether q is covered by Actions.
func (d Driver) CanSet(q edge.Quantity) bool { return covers(d.Actions, q) }

func covers(list []edge.Quantity, q edge.Quantity) bool {
	return slices.ContainsFunc(list, func(m edge.Quantity) bool {
		return m.Unit == q.Unit && m.Kind == q.Kind && (m.Name == q.Name || strings.HasPrefix(q.Name, m.Name+"."))
	})
}

// settings checks the options and fills in the defaults.
func (d Driver) settings(opts map[string]any) (map[string]string, error) {
	settings := make(map[string]string, len(d.Options))
	names := make([]string, len(d.Options))
	for i, o := range d.Options {
		settings[o.Name], names[i] = o.Default, o.Name
	}
	for name, value := range opts {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("option %q is unknown: it has %s", name, listOr(names, "none"))
		}
		text := fmt.Sprint(value)
		if allowed := d.Options[i].Allowed; len(allowed) > 0 && !slices.Contains(allowed, text) {
			return nil, fmt.Errorf("option %s = %q: use one of %s", name, text, strings.Join(allowed, ", "))
		}
		settings[name] = text
	}
	return settings, nil
}

func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}
