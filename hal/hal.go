// SPDX-License-Identifier: Apache-2.0

// Package hal opens the buses of a board and hands out Ports, one for each sensor. It stands on periph (periph.io/x/conn
// and periph.io/x/host) and adds what a gateway needs: a context for each transaction, GPIO lines that report errors, and messages that say
// which buses exist when one is missing. Package hal/sim gives the same Board made of chip models.
//
// Start with Open, then Board.Port.
package hal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"
)

// BusKind says how a chip is connected.
type BusKind uint8

// The kinds of connection.
const (
	Host    BusKind = iota // no bus: the machine itself, its /proc and /sys
	I2C                    // I²C bus and address
	SPI                    // SPI port: bus and chip select
	OneWire                // 1-wire bus
	GPIO                   // one GPIO line
)

// String returns the name that messages and lists use.
func (k BusKind) String() string {
	if names := [...]string{"host", "I2C", "SPI", "1-wire", "GPIO"}; int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("BusKind(%d)", uint8(k))
}

// ErrNoBus is wrapped by Board.Port when the board has no such bus or line.
var ErrNoBus = errors.New("not on this board")

// What a transaction on an I²C bus of a Board may wrap, beside the kernel's own error.
var (
	ErrAbsent  = errors.New("no chip answers at this address: check wiring, supply and addr")
	ErrTimeout = errors.New("the bus did not answer in time: a chip may hold it low, check the wiring and power-cycle the chip")
	ErrGone    = errors.New("the bus is gone: its adapter was unplugged or its driver unloaded; it is opened again when it returns")
)

// Request names the connection of one sensor, as its config entry does.
type Request struct {
	Kind BusKind
	Bus  string // name, alias or number of an I²C bus, SPI port or 1-wire master; "" = the board's usual one
	Addr uint16 // I²C address, 7 bits
	Pin  string // GPIO line, for example "GPIO17"
}

// Port is one sensor's connection to the board. Of I2C, SPI, W1 and Pin the one of its kind is set.
type Port struct {
	Name  string // what messages call it, for example "/dev/i2c-1 address 0x76"
	Root  string // file-system root above /proc and /sys; always set, "/" unless the board uses fixtures
	Files fs.FS  // the same root for reading, for example "proc/loadavg"; always set
	I2C   *Conn
	SPI   spi.Port
	W1    string // 1-wire: the folder in Files that has a folder for each slave, for example "sys/bus/w1/devices/w1_bus_master1"
	Pin   Pin
}

// Conn is one chip on an I²C bus. It is safe for concurrent use if the bus is, as those of a Board are; a sequence of
// transactions is not a unit.
type Conn struct {
	Bus  i2c.Bus
	Addr uint16 // 7 bits
}

// Tx writes w and then reads len(r) bytes into r in one transaction; either may be empty. A context that has ended stops
// it before or after the transaction: one that runs on the bus cannot be interrupted, the kernel's adapter limits it (about a second).
// The error names bus and address and wraps the bus's own.
func (c *Conn) Tx(ctx context.Context, w, r []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("hal: %s address %#x: %w", c.Bus, c.Addr, err)
	}
	err := c.Bus.Tx(c.Addr, w, r)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("hal: %s address %#x: %w", c.Bus, c.Addr, err)
	}
	return nil
}

// Pin is a GPIO line that nobody has requested yet.
type Pin interface {
	// Input requests the line as an input. With edge other than gpio.NoEdge the kernel notes the edges from now on.
	Input(pull gpio.Pull, edge gpio.Edge) (Line, error)
	// Output requests the line as an output that drives level from now on.
	Output(level gpio.Level) (Output, error)
}

// Line is a requested GPIO input. Read may run beside WaitForEdge; Close only when neither runs.
type Line interface {
	// Read returns the electrical level.
	Read() (gpio.Level, error)
	// WaitForEdge waits for the next edge of the kind asked for, at most for timeout (> 0); false means none came.
	WaitForEdge(timeout time.Duration) (bool, error)
	// Close gives the line back to the kernel.
	Close() error
}

// Output is a requested GPIO output.
type Output interface {
	// Set drives the electrical level.
	Set(gpio.Level) error
	// Read returns the level that is on the line, which a short circuit may make another than the one that was set.
	Read() (gpio.Level, error)
	// Close gives the line back to the kernel, which then drives it no longer.
	Close() error
}

// Sleep waits for d or until the context ends, and then returns the context's error.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
