// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/streembit/edge/hal/sim"
)

// Commands and registers of the DS2482-100 (Maxim 19-4930, "Function Commands" and "Device Registers"); checked against
// Linux, drivers/w1/masters/ds2482.c.
const (
	cmdDeviceReset  = 0xf0
	cmdSetPointer   = 0xe1
	cmdWriteConfig  = 0xd2
	cmdWireReset    = 0xb4
	cmdWireBit      = 0x87
	cmdWireWrite    = 0xa5
	cmdWireRead     = 0x96
	cmdWireTriplet  = 0x78
	pointerStatus   = 0xf0
	pointerData     = 0xe1
	pointerConfig   = 0xc3
	statusPresence  = 1 << 1
	statusLineHigh  = 1 << 3
	statusReset     = 1 << 4
	statusBit       = 1 << 5
	statusBitTwo    = 1 << 6
	statusDirection = 1 << 7
)

// slave is a chip on a 1-wire bus.
type slave interface {
	// reset begins a new dialogue.
	reset()
	// slot is one time slot in which the master writes bit and then looks at the line, which the slave may hold low. A master that
	// wants to read writes 1.
	slot(bit byte) byte
}

// ds2482 models a DS2482-100, a master of a 1-wire bus on I²C. Its commands on the 1-wire line take no time, so it is never busy.
type ds2482 struct {
	slaves  []slave
	pointer byte
	status  byte
	data    byte
	config  byte
}

func newDS2482(slaves ...slave) *ds2482 {
	return &ds2482{slaves: slaves, pointer: pointerStatus, status: statusReset | statusLineHigh}
}

// Tx implements sim.Device. A command or parameter that the chip does not know is not acknowledged, as the channel selection of its
// larger sister, by which the kernel tells the two apart.
func (d *ds2482) Tx(w, r []byte) error {
	if len(w) > 0 {
		want := 1
		switch w[0] {
		case cmdSetPointer, cmdWriteConfig, cmdWireBit, cmdWireWrite, cmdWireTriplet:
			want = 2
		}
		if len(w) != want || !d.command(w[0], w[len(w)-1]) {
			return fmt.Errorf("vbus: ds2482: %x: %w", w, sim.ErrNAK)
		}
	}
	for i := range r {
		switch d.pointer {
		case pointerStatus:
			r[i] = d.status
		case pointerData:
			r[i] = d.data
		case pointerConfig:
			r[i] = d.config
		}
	}
	return nil
}

func (d *ds2482) command(cmd, arg byte) bool {
	pointer := byte(pointerStatus)
	switch cmd {
	case cmdDeviceReset:
		d.status, d.config, d.data = statusReset|statusLineHigh, 0, 0
	case cmdSetPointer:
		if pointer = arg; arg != pointerStatus && arg != pointerData && arg != pointerConfig {
			return false
		}
	case cmdWriteConfig: // the upper half is the complement of the lower
		if arg>>4 != ^arg&0xf {
			return false
		}
		d.config, d.status, pointer = arg&0xf, d.status&^statusReset, pointerConfig
	case cmdWireReset:
		d.wireReset()
	case cmdWireBit:
		d.note(statusBit, d.slot(arg>>7))
	case cmdWireWrite:
		for i := range 8 {
			d.slot(arg >> i & 1)
		}
	case cmdWireRead:
		d.data = 0
		for i := range 8 {
			d.data |= d.slot(1) << i
		}
	case cmdWireTriplet:
		d.triplet(arg >> 7)
	default:
		return false
	}
	d.pointer = pointer
	return true
}

func (d *ds2482) wireReset() {
	present := byte(0)
	for _, s := range d.slaves {
		s.reset()
		present = 1
	}
	d.note(statusPresence, present)
}

// triplet is one step of the search for ROM ids: two slots that read a bit and its complement, one that writes the branch to take.
func (d *ds2482) triplet(wanted byte) {
	bit, complement := d.slot(1), d.slot(1)
	direction := wanted
	if bit != complement {
		direction = bit
	} else if bit == 1 { // nobody answers
		direction = 1
	}
	d.slot(direction)
	d.note(statusBit, bit)
	d.note(statusBitTwo, complement)
	d.note(statusDirection, direction)
}

// slot is a time slot on the line, which is low when anybody holds it low.
func (d *ds2482) slot(bit byte) byte {
	line := bit
	for _, s := range d.slaves {
		line &= s.slot(bit)
	}
	return line
}

func (d *ds2482) note(flag, on byte) {
	d.status &^= flag
	if on != 0 {
		d.status |= flag
	}
}
