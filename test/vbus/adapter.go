// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/streembit/edge/hal/sim"
)

// Requests of the i2c-tiny-usb protocol (Linux, drivers/i2c/busses/i2c-tiny-usb.c).
const (
	getFunc   = 1
	setDelay  = 2
	getStatus = 3
	ioMessage = 4 // with the two flags that follow: 4 … 7
	ioBegin   = 1 // the first message of a transfer: START
	ioEnd     = 2 // the last: STOP

	statusACK = 1
	statusNAK = 2
	flagRead  = 1 // I2C_M_RD in wValue

	// functionality is I2C_FUNC_I2C | I2C_FUNC_SMBUS_EMUL of linux/i2c.h.
	functionality = 0x00000001 | 0x0eff0008
)

// Standard requests (USB 2.0 §9.4) and descriptor types.
const (
	getDeviceStatus  = 0
	clearFeature     = 1
	setFeature       = 3
	setAddress       = 5
	getDescriptor    = 6
	getConfiguration = 8
	setConfiguration = 9
	setInterface     = 11

	deviceType        = 1
	configurationType = 2
	stringType        = 3

	vendorRequest = 0x40
	requestType   = 0x60
)

// errStall: the adapter has no such request.
var errStall = errors.New("vbus: no such request")

// transactor is the bus behind the adapter; *sim.Bus is one.
type transactor interface {
	Tx(addr uint16, w, r []byte) error
}

// adapter is an i2c-tiny-usb adapter. The kernel sends the messages of a transfer one by one; a write that is followed by a read of the same
// chip after a repeated start is one transaction for the chip.
type adapter struct {
	bus    transactor
	status byte
	// A write that may be the first half of a transaction waits here.
	held     []byte
	heldAddr uint16
	waiting  bool
}

// control implements device.
func (a *adapter) control(s setup, data []byte) ([]byte, error) {
	if s.kind&requestType != vendorRequest {
		return standard(s)
	}
	switch {
	case s.request == getFunc:
		return binary.LittleEndian.AppendUint32(nil, functionality), nil
	case s.request == setDelay:
		return nil, nil
	case s.request == getStatus:
		return []byte{a.status}, nil
	case s.request >= ioMessage && s.request < ioMessage+4:
		return a.message(s, data)
	}
	return nil, errStall
}

// message carries out one message of a transfer. A missing acknowledge goes into the status, any other fault stalls, which the kernel
// makes an I/O error of. A held write is acknowledged on trust: if nobody is there, the read that follows says so.
func (a *adapter) message(s setup, data []byte) ([]byte, error) {
	a.status = statusACK
	if s.request&ioBegin != 0 {
		a.waiting = false // what a broken transfer left
	}
	if a.waiting && (s.value&flagRead == 0 || a.heldAddr != s.index) {
		a.waiting = false
		if err := a.transact(a.heldAddr, a.held, nil); err != nil {
			return nil, err
		}
		if a.status == statusNAK {
			return make([]byte, s.length), nil // the kernel sees the status and ends the transfer
		}
	}
	if s.value&flagRead == 0 {
		if s.request&ioEnd == 0 {
			a.held, a.heldAddr, a.waiting = data, s.index, true
			return nil, nil
		}
		return nil, a.transact(s.index, data, nil)
	}
	var w []byte
	if a.waiting {
		w, a.waiting = a.held, false
	}
	r := make([]byte, s.length)
	return r, a.transact(s.index, w, r)
}

func (a *adapter) transact(addr uint16, w, r []byte) error {
	err := a.bus.Tx(addr, w, r)
	if errors.Is(err, sim.ErrNAK) {
		a.status = statusNAK
		clear(r)
		return nil
	}
	if err != nil {
		return fmt.Errorf("vbus: %w", err)
	}
	return nil
}

// standard answers what every USB device must.
func standard(s setup) ([]byte, error) {
	switch s.request {
	case getDescriptor:
		return descriptor(byte(s.value>>8), byte(s.value))
	case getDeviceStatus:
		return []byte{0, 0}, nil
	case getConfiguration:
		return []byte{1}, nil
	case setAddress, setConfiguration, setInterface, clearFeature, setFeature:
		return nil, nil
	}
	return nil, errStall
}

// descriptor describes the adapter (USB 2.0 §9.6): one interface without endpoints, and the ids that the kernel's driver looks for.
func descriptor(kind, index byte) ([]byte, error) {
	switch kind {
	case deviceType:
		return []byte{18, deviceType, 0x10, 0x01, 0xff, 0, 0, 8, 0x03, 0x04, 0x31, 0xc6, 0x05, 0x02, 1, 2, 0, 1}, nil
	case configurationType:
		return []byte{9, configurationType, 18, 0, 1, 1, 0, 0x80, 5, 9, 4, 0, 0, 0, 0xff, 0, 0, 0}, nil
	case stringType:
		if texts := [...]string{1: "streembit", 2: "vbus"}; index > 0 && int(index) < len(texts) {
			text := texts[index]
			d := []byte{byte(2 + 2*len(text)), stringType}
			for i := range len(text) {
				d = append(d, text[i], 0)
			}
			return d, nil
		}
		if index == 0 {
			return []byte{4, stringType, 0x09, 0x04}, nil // English
		}
	}
	return nil, errStall
}
