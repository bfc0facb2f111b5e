// SPDX-License-Identifier: Apache-2.0

// Package sensorstest is the contract suite that every driver passes. A driver's test is one call of Run with a board, usually
// that of hal/sim, or one made of recorded transactions (Playback).
//
// What it shows: Read returns exactly the quantities it should, valid and covered by Driver.Measures; when any transaction fails, no
// samples come back, the bus's error is still reachable by errors.Is, and the message names the driver; a cancelled context stops it; a bus
// that reads all ones or all zeros is an error; sensors.Fault sorts each of these; a failed Open leaves nothing requested; Close ends every
// goroutine. Identify finds the chip and disturbs none; what an Actuator was told is what it then reads.
package sensorstest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// Case says how a driver is tested.
type Case struct {
	Driver  sensors.Driver
	At      hal.Request
	Options map[string]any
	Board   func() *hal.Board // makes a new board; its clock must be time.Now, which the suite fakes
	Want    []edge.Quantity   // exactly what Read returns, in order
	Sets    []edge.Quantity   // exactly what an Actuator's Set takes; State quantities

	// All zeros, or all ones, are a fault, unless the data sheet makes them a legal value that nothing else on the chip can confirm:
	// then the reason stands here. The suite then wants them to be taken, so that no exception stays that is not needed.
	ZerosLegal, OnesLegal string
}

var errInjected = errors.New("injected bus error")

// settle is long enough for a goroutine of a sensor to meet a fault on its line.
const settle = time.Second

// Run checks the driver against the contract. Every check runs in a synctest bubble: waits cost no time, and a
// goroutine that outlives Close fails the test.
func Run(t *testing.T, c Case) {
	for _, check := range []struct {
		name string
		run  func(*testing.T, Case)
	}{
		{"driver", checkDriver},
		{"quantities", checkQuantities},
		{"failing reads", checkFailingReads},
		{"failing open", checkFailingOpen},
		{"cancelled", checkCancelled},
		{"fault kinds", checkFaults},
		{"all ones", func(t *testing.T, c Case) { checkFill(t, c, 0xff, c.OnesLegal) }},
		{"all zeros", func(t *testing.T, c Case) { checkFill(t, c, 0, c.ZerosLegal) }},
		{"unknown option", checkOption},
		{"identify", checkIdentify},
		{"actuator", checkActuator},
		{"failing set", checkFailingSet},
	} {
		t.Run(check.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { check.run(t, c) })
		})
	}
}

func checkDriver(t *testing.T, c Case) {
	d := c.Driver
	if d.Name == "" || d.Doc == "" || len(d.Measures) == 0 || d.Fastest <= 0 || d.Open == nil {
		t.Errorf("%+v: Name, Doc, Measures, Fastest and Open must be set", d)
	}
	if (d.Bus == hal.I2C) != (len(d.Addrs) > 0) {
		t.Errorf("addresses %#x with bus %s", d.Addrs, d.Bus)
	}
	for _, q := range d.Measures {
		r := edge.Reading{Sensor: d.Name, Sample: edge.Sample{Quantity: q}}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, o := range d.Options {
		if o.Doc == "" || len(o.Allowed) > 0 && !slices.Contains(o.Allowed, o.Default) {
			t.Errorf("option %+v: needs a Doc, and a Default that is allowed", o)
		}
	}
}

// connect opens the sensor behind a tap.
func connect(ctx context.Context, t *testing.T, c Case) (sensors.Sensor, *tap, error) {
	t.Helper()
	board := c.Board()
	t.Cleanup(func() { board.Close() })
	tapped := &tap{board: board}
	s, err := c.Driver.Connect(ctx, tapped, c.At, c.Options)
	if (s == nil) == (err == nil) {
		t.Fatalf("Open returned %v and %v: want a sensor or an error", s, err)
	}
	return s, tapped, err
}

func mustConnect(t *testing.T, c Case) (sensors.Sensor, *tap) {
	t.Helper()
	s, tapped, err := connect(t.Context(), t, c)
	if err != nil {
		t.Fatal(err)
	}
	return s, tapped
}

func closeSensor(t *testing.T, s sensors.Sensor) {
	t.Helper()
	if err := s.Close(); err != nil && !errors.Is(err, errInjected) {
		t.Errorf("Close: %v", err)
	}
}

func checkQuantities(t *testing.T, c Case) {
	s, _ := mustConnect(t, c)
	defer closeSensor(t, s)
	for range 3 {
		samples, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []edge.Quantity
		for _, sample := range samples {
			got = append(got, sample.Quantity)
			if !c.Driver.CanMeasure(sample.Quantity) {
				t.Errorf("%+v is not in Measures", sample.Quantity)
			}
			if err := (edge.Reading{Sensor: "test", Sample: sample}).Validate(); err != nil {
				t.Error(err)
			}
		}
		if !reflect.DeepEqual(got, c.Want) {
			t.Fatalf("Read returned %+v, want %+v", got, c.Want)
		}
		time.Sleep(c.Driver.Fastest)
	}
}

// checkRefused: no samples, the cause reachable, the driver named.
func checkRefused(t *testing.T, c Case, what string, samples []edge.Sample, err, cause error) {
	t.Helper()
	switch {
	case err == nil || len(samples) > 0:
		t.Errorf("%s: Read returned %v and %v: want no samples and an error", what, samples, err)
	case cause != nil && !errors.Is(err, cause):
		t.Errorf("%s: the cause %q is lost in %q: wrap with %%w", what, cause, err)
	case !strings.Contains(err.Error(), c.Driver.Name):
		t.Errorf("%s: %q does not name the driver", what, err)
	}
}

// checkFailingReads lets each transaction of a Read fail in turn, and then everything.
func checkFailingReads(t *testing.T, c Case) {
	s, tapped := mustConnect(t, c)
	before := tapped.used()
	if _, err := s.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := tapped.used() - before
	for i := range n {
		reached := tapped.failAt(i)
		samples, err := s.Read(t.Context())
		if *reached || err != nil { // a Read that polls may need fewer transactions than the first one
			checkRefused(t, c, fmt.Sprintf("transaction %d of %d", i, n), samples, err, errInjected)
		} else if i == 0 {
			t.Error("Read gave samples without a transaction")
		}
		tapped.heal()
		if _, err := s.Read(t.Context()); err != nil {
			t.Errorf("after the failed transaction %d the sensor does not recover: %v", i, err)
		}
	}
	tapped.failAll(errInjected)
	time.Sleep(settle)
	samples, err := s.Read(t.Context())
	checkRefused(t, c, "every transaction fails", samples, err, errInjected)
	closeSensor(t, s)
}

// checkFaults lets the bus fail in the ways that hal names, and wants sensors.Fault to see through the driver's wrapping.
func checkFaults(t *testing.T, c Case) {
	for cause, kind := range map[error]string{hal.ErrAbsent: "absent", hal.ErrTimeout: "timeout", hal.ErrGone: "gone"} {
		s, tapped := mustConnect(t, c)
		tapped.failAll(fmt.Errorf("%w: %w", errInjected, cause))
		time.Sleep(settle)
		samples, err := s.Read(t.Context())
		checkRefused(t, c, kind, samples, err, cause)
		if got := sensors.Fault(err); got != kind {
			t.Errorf("the fault is counted as %q, want %q: %v", got, kind, err)
		}
		closeSensor(t, s)
	}
}

func checkFailingOpen(t *testing.T, c Case) {
	s, tapped := mustConnect(t, c)
	n := tapped.used()
	closeSensor(t, s)
	for i := range n {
		board := c.Board()
		broken := &tap{board: board}
		reached := broken.failAt(i)
		s, err := c.Driver.Connect(t.Context(), broken, c.At, c.Options)
		switch {
		case err == nil && (c.Driver.Bus == hal.Host || !*reached): // a source that the machine lacks may be left out
			closeSensor(t, s)
		case err == nil:
			closeSensor(t, s)
			t.Errorf("transaction %d of %d failed and Open did not", i, n)
		default:
			checkRefused(t, c, fmt.Sprintf("opening, transaction %d of %d", i, n), nil, err, errInjected)
			checkOpensAgain(t, c, broken)
		}
		board.Close()
	}
}

// checkOpensAgain wants that an Open that failed gave back what it had requested.
func checkOpensAgain(t *testing.T, c Case, healed *tap) {
	t.Helper()
	healed.heal()
	s, err := c.Driver.Connect(t.Context(), healed, c.At, c.Options)
	if err != nil {
		t.Errorf("after an Open that failed the next one fails too: %v", err)
		return
	}
	closeSensor(t, s)
}

func checkCancelled(t *testing.T, c Case) {
	s, tapped := mustConnect(t, c)
	defer closeSensor(t, s)
	before := tapped.used()
	if _, err := s.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range tapped.used() - before + 1 {
		ctx, cancel := context.WithCancel(t.Context())
		if i == 0 {
			cancel()
		} else {
			tapped.callAt(i-1, cancel)
		}
		samples, err := s.Read(ctx)
		if ctx.Err() != nil || err != nil { // a Read that polls may need fewer transactions than the first one
			checkRefused(t, c, fmt.Sprintf("cancelled at transaction %d", i-1), samples, err, context.Canceled)
		}
		cancel()
		tapped.heal()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, _, err := connect(ctx, t, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context: %v", err)
		if s != nil {
			closeSensor(t, s)
		}
	}
}

// checkFill lets everything read as one byte. Lines have two levels and both are right, so that this is not for GPIO.
func checkFill(t *testing.T, c Case, fill byte, legal string) {
	if c.Driver.Bus == hal.GPIO {
		return
	}
	s, tapped := mustConnect(t, c)
	tapped.fillWith(fill)
	samples, err := s.Read(t.Context())
	if legal != "" {
		if err != nil {
			t.Errorf("everything reads %#x and Read refuses it: drop the exception %q: %v", fill, legal, err)
		}
		closeSensor(t, s)
		return
	}
	checkRefused(t, c, fmt.Sprintf("everything reads %#x", fill), samples, err, nil)
	if err != nil && c.Driver.Bus == hal.I2C && sensors.Fault(err) == "other" {
		t.Errorf("everything reads %#x: %v: wrap one of the errors of package sensors", fill, err)
	}
	closeSensor(t, s)
	board := c.Board()
	defer board.Close()
	stuck := &tap{board: board}
	stuck.fillWith(fill)
	if s, err := c.Driver.Connect(t.Context(), stuck, c.At, c.Options); err == nil && c.Driver.Bus != hal.Host {
		closeSensor(t, s)
		t.Errorf("Open took a chip for which everything reads %#x", fill)
	}
}

func checkOption(t *testing.T, c Case) {
	board := c.Board()
	defer board.Close()
	_, err := c.Driver.Connect(t.Context(), board, c.At, map[string]any{"no-such-option": 1})
	if err == nil || !strings.Contains(err.Error(), "no-such-option") || !strings.Contains(err.Error(), c.Driver.Name) {
		t.Errorf("an unknown option: %v", err)
	}
}
