// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// What a scan says of an address.
const (
	verdictIs      = "is"      // one driver identified its chip
	verdictMayBe   = "may be"  // these drivers have the address, and reading cannot tell
	verdictUnknown = "unknown" // something answers that no driver knows
	verdictClaimed = "claimed" // a driver of the kernel or the board itself has it: not touched
)

// chipFound is what a scan knows of one address.
type chipFound struct {
	Bus        string   `json:"bus"`
	Addr       string   `json:"addr"`
	Verdict    string   `json:"verdict"`
	Drivers    []string `json:"drivers,omitempty"`
	Note       string   `json:"note,omitempty"`
	Configured string   `json:"configured,omitempty"` // the sensor that the config has there

	addr  uint16
	place string // as locate names it
	key   string // the bus's name in a config: it stays when the adapter comes back under another number
}

// The addresses that the I²C specification (NXP UM10204, table 4) reserves are never asked.
const (
	firstAddr = 0x08
	lastAddr  = 0x77
)

// scanI2C looks at every address of a bus by reading only: it takes one byte, and lets drivers identify their chips, which they do without
// changing anything. Nothing at all is written where a chip could be on which any byte acts.
func scanI2C(ctx context.Context, board *hal.Board, bus string) (found []chipFound, err error) {
	claimed, err := board.Claimed(bus)
	if err != nil {
		return nil, err
	}
	full, key := bus, bus
	for addr := uint16(firstAddr); addr <= lastAddr; addr++ {
		c := chipFound{Bus: full, Addr: fmt.Sprintf("%#x", addr), addr: addr, key: key}
		if who, ok := claimed[addr]; ok {
			c.Verdict, c.Note = verdictClaimed, who
			found = append(found, c)
			continue
		}
		port, err := board.Port(hal.Request{Kind: hal.I2C, Bus: bus, Addr: addr})
		if err != nil {
			return found, err
		}
		full, key = busNames(board, port)
		c.Bus, c.key = full, key
		c.place = port.Name
		answers, err := c.ask(ctx, port)
		if err != nil {
			return found, err
		}
		if answers {
			found = append(found, c)
		}
	}
	return found, nil
}

// busNames returns the name of a port's bus, whatever name was asked for, and the one that stays.
func busNames(board *hal.Board, port hal.Port) (full, key string) {
	full = port.I2C.Bus.String()
	for _, h := range board.Health() {
		if h.Name == full {
			return full, h.Key
		}
	}
	return full, full
}

// ask finds out whether a chip answers at the port, and which it is. The error is of the bus, not of the chip.
func (c *chipFound) ask(ctx context.Context, port hal.Port) (answers bool, err error) {
	var candidates []sensors.Driver
	for _, d := range all.Drivers() {
		if d.Bus == hal.I2C && slices.Contains(d.Addrs, c.addr) {
			candidates = append(candidates, d)
		}
	}
	var b [1]byte
	err = port.I2C.Tx(ctx, nil, b[:])
	if err != nil && !errors.Is(err, hal.ErrAbsent) {
		return false, err
	}
	answers = err == nil
	if slices.ContainsFunc(candidates, func(d sensors.Driver) bool { return d.Touchy }) {
		c.Verdict, c.Drivers = verdictMayBe, names(candidates)
		return answers, nil
	}
	known, possible, notes := identify(ctx, port, candidates)
	// A chip may acknowledge commands and no bare reads, as Sensirion's do.
	answers = answers || len(known) > 0
	c.Note = strings.Join(notes, "; ")
	switch {
	case len(known) == 1:
		c.Verdict, c.Drivers = verdictIs, known
	case len(known) > 1:
		c.Verdict, c.Drivers = verdictMayBe, known
	case len(possible) > 0:
		c.Verdict, c.Drivers = verdictMayBe, possible
	default:
		c.Verdict = verdictUnknown
	}
	return answers, ctx.Err()
}

// identify returns the drivers that know their chip, those that cannot tell, and what kept others from telling.
func identify(ctx context.Context, port hal.Port, candidates []sensors.Driver) (known, possible, notes []string) {
	for _, d := range candidates {
		if d.Identify == nil {
			possible = append(possible, d.Name)
			continue
		}
		switch err := d.Identify(ctx, port); {
		case err == nil:
			known = append(known, d.Name)
		case !errors.Is(err, sensors.ErrWrongChip) && !errors.Is(err, hal.ErrAbsent):
			notes = append(notes, fmt.Sprintf("as a %s: %s", d.Name, sensors.Fault(err)))
		}
	}
	return known, possible, notes
}

func names(drivers []sensors.Driver) (out []string) {
	for _, d := range drivers {
		out = append(out, d.Name)
	}
	return out
}
