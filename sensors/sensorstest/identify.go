// SPDX-License-Identifier: Apache-2.0

package sensorstest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/streembit/edge/hal"
)

// checkIdentify wants that Identify takes the right chip, in use or not, fails with the bus, refuses a stuck bus, and leaves every chip as it was.
func checkIdentify(t *testing.T, c Case) {
	if c.Driver.Identify == nil {
		return
	}
	if c.Driver.Touchy {
		t.Error("a driver is Touchy or has Identify: Identify writes at least the address of a register")
	}
	fresh, port := identifyPort(t, c)
	if err := c.Driver.Identify(t.Context(), port); err != nil {
		t.Fatalf("the right chip: %v", err)
	}
	checkHarmless(t, fresh.transactions())
	n := fresh.used()
	for i := range n {
		reached := fresh.failAt(i)
		if err := c.Driver.Identify(t.Context(), port); *reached && !errors.Is(err, errInjected) {
			t.Errorf("transaction %d of %d failed, and Identify says %v: want that error", i, n, err)
		}
	}
	fresh.heal()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Driver.Identify(ctx, port); !errors.Is(err, context.Canceled) {
		t.Errorf("Identify with a cancelled context: %v", err)
	}
	for fill, legal := range map[byte]string{0: c.ZerosLegal, 0xff: c.OnesLegal} {
		fresh.fillWith(fill)
		if err := c.Driver.Identify(t.Context(), port); err == nil && legal == "" {
			t.Errorf("Identify took a chip for which everything reads %#x", fill)
		}
	}
	checkInUse(t, c)
}

// checkInUse identifies a chip that a sensor has open, which must not disturb it.
func checkInUse(t *testing.T, c Case) {
	s, tapped := mustConnect(t, c)
	defer closeSensor(t, s)
	port, err := tapped.Port(request(c))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Driver.Identify(t.Context(), port); err != nil {
			t.Errorf("the right chip while it is in use: %v", err)
		}
		if _, err := s.Read(t.Context()); err != nil {
			t.Errorf("after Identify the sensor cannot be read: %v", err)
		}
	}
}

// checkHarmless wants that only addresses of registers and commands that read were written: a byte, or two that a read without a write follows,
// since two bytes in other chips are a register and its new value.
func checkHarmless(t *testing.T, txs []tx) {
	t.Helper()
	for i, x := range txs {
		fetched := x.read == 0 && i+1 < len(txs) && len(txs[i+1].wrote) == 0 && txs[i+1].read > 0
		if len(x.wrote) > 2 || len(x.wrote) == 2 && x.read == 0 && !fetched {
			t.Errorf("Identify wrote % x: it may write the address of a register or a command that reads", x.wrote)
		}
	}
}

func request(c Case) hal.Request {
	r := c.At
	r.Kind = c.Driver.Bus
	if r.Addr == 0 && len(c.Driver.Addrs) > 0 {
		r.Addr = c.Driver.Addrs[0]
	}
	return r
}

func identifyPort(t *testing.T, c Case) (*tap, hal.Port) {
	t.Helper()
	board := c.Board()
	t.Cleanup(func() { board.Close() })
	tapped := &tap{board: board}
	port, err := tapped.Port(request(c))
	if err != nil {
		t.Fatal(fmt.Errorf("the board has no port for the case: %w", err))
	}
	return tapped, port
}
