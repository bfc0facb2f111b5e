// SPDX-License-Identifier: Apache-2.0

// Package hal opens the buses of a board and hands out Ports, one for each sensor. It stands on periph (periph.io/x/conn
// and periph.io/x/host) and adds what a gateway that nobody visits needs:
//
//   - a context and a deadline for each I²C transaction, one at a time on a bus, few retries, and errors that say what happened
//     (ErrAbsent, ErrTimeout, ErrGone) beside the kernel's own;
//   - adapters that come, go, and return under another number: Board looks anew each time, closes what is gone and opens it again;
//   - refusal of addresses that the kernel or the board itself uses (ErrClaimed);
//   - GPIO lines by name, header position or number that report errors and lose no edge that the kernel has seen;
//   - messages that say which buses exist when one is missing.
//
// A stuck bus is first the kernel's business: its adapters end a transaction after their own time-out, which Open sets, and
// clock a chip free that holds SDA low, where the hardware can. What that does not cure is closed, opened again with pauses, and shows in Board.Health.
//
// Package hal/sim gives the same Board made of chip models. Start with Open, then Board.Port.
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

// What Board.Port may wrap.
var (
	ErrNoBus   = errors.New("not on this board")              // there is no such bus or line
	ErrClaimed = errors.New("this address is in use already") // by a driver of the kernel or by the board itself
)

// What a transaction on an I²C bus of a Board may wrap, beside the kernel's own error.
var (
	ErrAbsent  = errors.New("no chip answers at this address: check wiring, supply and addr")
	ErrTimeout = errors.New("the bus did not answer in time: a chip may hold it low, check the wiring and power-cycle the chip")
	ErrGone    = errors.New("the bus is gone: its adapter was unplugged or its driver unloaded; it is opened again when it returns")
)

// Request names the connection of one sensor, as its config entry does.
type Request struct {
	Kind BusKind
	// Bus is the name or an alias of an I²C bus, SPI port or 1-wire master; "" = the board's usual one. An I²C bus has, as far as each
	// exists and is of one bus only: "/dev/i2c-1", "i2c-1", "I2C1", "1", the adapter's name in sysfs, its node in the device tree
	// ("i2c@7e804000", "i2c1"), and for a USB adapter where it is plugged in ("usb-1-1.2"), which stays when the number changes.
	Bus  string
	Addr uint16 // I²C address, 7 bits
	Pin  string // GPIO line: its name ("GPIO17"), place on the header ("P1-11"), or chip and number ("gpiochip0:17", "pinctrl-bcm2711:17")
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

// contextBus is what the buses of a Board can do beside i2c.Bus.
type contextBus interface {
	TxContext(ctx context.Context, addr uint16, w, r []byte) error
}

// Tx writes w and then reads len(r) bytes into r in one transaction; either may be empty. A context that ends stops the waiting; one
// transaction that runs on the bus cannot be interrupted and goes on behind. The error names bus and address and wraps the context's
// error or the bus's own; that of a Board's bus wraps ErrAbsent, ErrTimeout or ErrGone where it is known to be one of these.
func (c *Conn) Tx(ctx context.Context, w, r []byte) error {
	err := ctx.Err()
	if err == nil {
		if bus, ok := c.Bus.(contextBus); ok {
			err = bus.TxContext(ctx, c.Addr, w, r)
		} else {
			err = c.Bus.Tx(c.Addr, w, r)
		}
	}
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
	// WaitForEdge waits for the next edge of the kind asked for, at most for timeout (> 0); false means none came. It returns true once for
	// each edge, also for those that came between two calls. A board says how many of these it can hold (see Open).
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
