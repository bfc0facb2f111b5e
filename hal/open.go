// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/conn/v3/spi/spireg"

	"github.com/streembit/edge/boards"

	// This registers the kernel's SPI buses. The drivers that map a chip's registers into memory (bcm283x, allwinner)
	// are left out on purpose: they need root, and on a Pi 5 they use the wrong address.
	_ "periph.io/x/host/v3/sysfs"
)

// Config says where Open looks.
type Config struct {
	Root string // file-system root above /dev, /proc and /sys; "" = "/". periph itself always opens what is below /dev
	// OpenI2C opens /dev/i2c-N; nil = by periph. Tests give their own.
	OpenI2C func(number int) (i2c.BusCloser, error)
}

// Open looks for the buses of the machine it runs on: I²C, SPI and 1-wire as the kernel offers them, GPIO by the character
// devices. That a machine has none is no error. What could not be looked at is in Board.Problems; the rest of the board works. A board that package
// boards does not know is one of the problems: it works, but no bus is the usual one and lines have no header position.
//
// I²C adapters and 1-wire masters may come and go later; SPI ports and GPIO chips are those of now.
//
// A GPIO input counts edges exactly: the kernel keeps 1024 of them for each line and numbers those that it had to throw away.
func Open(ctx context.Context, c Config) (*Board, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("hal: opening board: %w", err)
	}
	state, err := driverreg.Init()
	if err != nil {
		return nil, fmt.Errorf("hal: opening board: %w", err)
	}
	if c.Root == "" {
		c.Root = "/"
	}
	if c.OpenI2C == nil {
		c.OpenI2C = openI2C
	}
	files := os.DirFS(c.Root)
	board, known := boards.Detect(files)
	w := Wiring{Name: board.Name, Root: c.Root, Files: files, Enable: enable(board)}
	if !known {
		w.Problems = append(w.Problems, fmt.Errorf("hal: %s is not a board that we have a table for: "+
			"use /dev/i2c-N, and gpiochipN:line where lines have no names (see docs/adding-a-board.md)", w.Name))
	}
	for _, f := range state.Failed { // Init returns no error for these
		if f.D.String() != "sysfs-i2c" { // looks for what is there at start, which we do ourselves and again
			w.Problems = append(w.Problems, fmt.Errorf("hal: %s: %w", f.D, f.Err))
		}
	}
	for _, ref := range spireg.All() {
		w.SPI = append(w.SPI, Bus[spi.PortCloser]{Name: ref.Name, Aliases: aliases(ref.Aliases, ref.Number), Usual: ref.Name == board.SPI, Open: ref.Open})
	}
	chips := gpioChips()
	w.Pins = lines(chips, headerNames(files, board, chips))
	w.ScanI2C = adapters{files: files, board: board, open: c.OpenI2C}.scan
	w.ScanOneWire = func() []string { return masters(files) }
	return NewBoard(w), nil
}

// enable says what switches a bus on that is not there.
func enable(b boards.Board) map[BusKind]string {
	return map[BusKind]string{I2C: b.EnableI2C, SPI: b.EnableSPI, OneWire: b.OneWire.Enable}
}

func aliases(names []string, number int) []string {
	if number < 0 {
		return names
	}
	return append([]string{strconv.Itoa(number)}, names...)
}

// masters lists the 1-wire masters that the kernel drives.
func masters(files fs.FS) []string {
	found, err := fs.Glob(files, "sys/bus/w1/devices/w1_bus_master*")
	if err != nil { // only a malformed pattern
		return nil
	}
	for i, f := range found {
		found[i] = path.Base(f)
	}
	return found
}
