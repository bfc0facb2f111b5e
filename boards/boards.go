// SPDX-License-Identifier: Apache-2.0

// Package boards holds facts about boards: how to recognise one, where its header pins, I²C bus, SPI port, 1-wire line and watchdog
// are, what switches them on, and what must never be touched. The facts are tables (raspberrypi.go, beagle.go, sunxi.go, rockchip.go,
// odroid.go, pc.go); each says in Checked where they come from. None was tried on hardware by us.
//
// Start with Detect. A new board is a row in a table and a folder in testdata: docs/adding-a-board.md.
package boards

import "time"

// Board is what is known about one kind of board. A field that is empty is not known.
type Board struct {
	ID         string   // short name for tables, for example "rpi-4"
	Name       string   // in All the kind of board; from Detect what the board calls itself: printable, at most 128 characters
	Compatible []string // strings of the device tree's root node, each of which is enough to recognise the board
	Revisions  []uint32 // with old Raspberry Pi boards also the revision code must be one of these; 0 = none is given

	GOARCH, GOARM string // what to build for
	Header        string // what the positions of Pins mean; "" = there is no table of pins

	I2C       Bus    // the bus on the header
	EnableI2C string // for messages: what switches it on
	SPI       string // the port on the header, for example "/dev/spidev0.0"
	EnableSPI string
	OneWire   OneWire
	Watchdog  Watchdog
	Reserved  []Reserved
	Pins      []Pin
	Checked   string // where the facts come from
}

// Bus says which I²C adapter is meant. Where the kernel numbers adapters as it finds them, the device tree's node decides.
type Bus struct {
	Number int      // of /dev/i2c-N; negative = it is not fixed
	Nodes  []string // ends of the path of the adapter's node, for example "i2c@7e804000"; any of them fits
	Name   string   // beginning of the adapter's name, for adapters that have no node, for example "SMBus"
}

// Pin is one GPIO line on a header. The chip is found by Label, which gpiodetect shows; where the kernel gives labels in the order in
// which it finds the chips Label is empty and Node decides.
type Pin struct {
	Header string // position, for example "P1-11" or "P9_12"
	Line   string // name, for example "GPIO17"
	Label  string // of the gpiochip
	Node   string // end of the path of the chip's device-tree node, for example "target-module@4c000/gpio@0"
	Offset int    // of the line in the chip
	Use    string // what the board itself uses the line for until that is switched off
}

// OneWire says where 1-wire chips are usually connected.
type OneWire struct {
	Line   string // a Pin's Line
	Enable string // what makes the kernel drive it
}

// Watchdog is the hardware that restarts the board.
type Watchdog struct {
	Device  string
	Driver  string        // kernel module or driver
	Longest time.Duration // that the hardware counts; newer kernels accept more and feed it themselves. 0 = ask the driver
}

// Reserved is a range of I²C addresses that must never be written to, nor probed by a write.
type Reserved struct {
	Bus         Bus
	First, Last uint16 // 7 bits
	Why         string
}

// All returns all boards of the tables, each time as a new slice.
func All() []Board {
	var all []Board
	for _, family := range [][]Board{raspberryPis(), beagleBones(), orangePis(), nanoPis(), rocks(), odroids(), {pc()}} {
		all = append(all, family...)
	}
	return all
}

// Pin finds a line by header position or by name.
func (b Board) Pin(name string) (Pin, bool) {
	for _, p := range b.Pins {
		if p.Header == name || p.Line == name {
			return p, true
		}
	}
	return Pin{}, false
}

// generic is what is true of every board that Linux runs on.
func generic() Board {
	return Board{
		ID: "generic", Name: "unknown board", I2C: Bus{Number: -1},
		EnableI2C: "enable the bus in the device tree (an overlay) or plug in a USB adapter; i2cdetect -l lists what there is",
		Watchdog:  Watchdog{Device: "/dev/watchdog"},
		Checked:   "Documentation/watchdog/watchdog-api.rst; Documentation/i2c/dev-interface.rst",
	}
}
