// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/conn/v3/spi/spireg"
	"periph.io/x/host/v3/gpioioctl"

	// This registers the kernel's I²C and SPI buses. The drivers that map a chip's registers into memory (bcm283x, allwinner)
	// are left out on purpose: they need root, and on a Pi 5 they use the wrong address.
	_ "periph.io/x/host/v3/sysfs"
)

// Config says where Open looks.
type Config struct {
	Root string // file-system root above /proc and /sys; "" = "/"
}

// Open looks for the buses of the machine it runs on: I²C, SPI and 1-wire as the kernel offers them, GPIO by the character
// devices. That a machine has none is no error. What could not be looked at is in Board.Problems; the rest of the board works.
func Open(ctx context.Context, c Config) (*Board, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("hal: opening board: %w", err)
	}
	state, err := driverreg.Init()
	if err != nil {
		return nil, fmt.Errorf("hal: opening board: %w", err)
	}
	w := Wiring{Name: model(c.Root), Root: c.Root}
	for _, f := range state.Failed { // Init returns no error for these
		w.Problems = append(w.Problems, fmt.Errorf("hal: %s: %w", f.D, f.Err))
	}
	w.I2C = i2cBuses()
	for _, ref := range spireg.All() {
		w.SPI = append(w.SPI, Bus[spi.PortCloser]{Name: ref.Name, Aliases: aliases(ref.Aliases, ref.Number), Open: ref.Open})
	}
	w.OneWire = masters(c.Root)
	w.Pins = lines()
	return NewBoard(w), nil
}

// i2cBuses marks /dev/i2c-1 as the usual bus: it is on the header of every Raspberry Pi but the first.
func i2cBuses() []Bus[i2c.BusCloser] {
	var buses []Bus[i2c.BusCloser]
	for _, ref := range i2creg.All() {
		short := append(aliases(ref.Aliases, ref.Number), strings.TrimPrefix(ref.Name, "/dev/"))
		buses = append(buses, Bus[i2c.BusCloser]{Name: ref.Name, Aliases: short, Usual: ref.Name == "/dev/i2c-1", Open: ref.Open})
	}
	return buses
}

func aliases(names []string, number int) []string {
	if number < 0 {
		return names
	}
	return append([]string{strconv.Itoa(number)}, names...)
}

// masters lists the 1-wire masters that the kernel drives.
func masters(root string) []string {
	if root == "" {
		root = "/"
	}
	found, err := fs.Glob(os.DirFS(root), "sys/bus/w1/devices/w1_bus_master*")
	if err != nil { // only a malformed pattern
		return nil
	}
	for i, f := range found {
		found[i] = filepath.Base(f)
	}
	return found
}

// lines lists the named lines of all GPIO chips. periph sorts the chips of the board itself (label pinctrl-…) first; where two
// chips have a line of one name it prefixes the second with its chip's name.
func lines() []NamedPin {
	var pins []NamedPin
	seen := make(map[string]bool)
	for _, chip := range gpioioctl.Chips {
		for _, line := range chip.Lines() {
			name := line.Name()
			if name == "" || name == "-" || name == "_" || seen[name] {
				continue
			}
			seen[name] = true
			pins = append(pins, NamedPin{Name: name, Pin: chipPin{chip, name}})
		}
	}
	return pins
}

// model reads the board's name from the device tree or, on a PC, from DMI.
func model(root string) string {
	if root == "" {
		root = "/"
	}
	for _, file := range []string{"proc/device-tree/model", "sys/class/dmi/id/product_name"} {
		if b, err := os.ReadFile(filepath.Join(root, file)); err == nil {
			if name := strings.TrimSpace(strings.Trim(string(b), "\x00")); name != "" {
				return name
			}
		}
	}
	return "unknown board"
}

// chipPin is a line of a GPIO character device.
type chipPin struct {
	chip *gpioioctl.GPIOChip
	name string
}

// Input requests a set of one line, because periph's single line logs a failed read and returns Low.
func (p chipPin) Input(pull gpio.Pull, edge gpio.Edge) (Line, error) {
	set, err := p.chip.LineSet(gpioioctl.LineInput, edge, pull, p.name)
	if err != nil {
		return nil, fmt.Errorf("hal: GPIO line %s of %s: %w: is another program using it (see gpioinfo)?", p.name, p.chip.Label(), err)
	}
	return &chipLine{set: set, name: p.name}, nil
}

// Output requests a set of one line, for the same reason.
func (p chipPin) Output(level gpio.Level) (Output, error) {
	set, err := p.chip.LineSet(gpioioctl.LineOutput, gpio.NoEdge, gpio.PullNoChange, p.name)
	if err != nil {
		return nil, fmt.Errorf("hal: GPIO line %s of %s: %w: is another program using it (see gpioinfo)?", p.name, p.chip.Label(), err)
	}
	out := &chipOutput{chipLine{set: set, name: p.name}}
	if err := out.Set(level); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

type chipOutput struct{ chipLine }

// Set implements Output.
func (o *chipOutput) Set(l gpio.Level) error {
	var bits gpio.GPIOValue
	if l {
		bits = 1
	}
	if err := o.set.Out(bits, 1); err != nil {
		return fmt.Errorf("hal: driving GPIO line %s: %w", o.name, err)
	}
	return nil
}

type chipLine struct {
	set  *gpioioctl.LineSet
	name string
}

// Read implements Line.
func (l *chipLine) Read() (gpio.Level, error) {
	v, err := l.set.Read(1)
	if err != nil {
		return gpio.Low, fmt.Errorf("hal: reading GPIO line %s: %w", l.name, err)
	}
	return v&1 != 0, nil
}

// WaitForEdge implements Line. periph takes 0 as for ever and a negative time-out as none.
func (l *chipLine) WaitForEdge(timeout time.Duration) (bool, error) {
	_, edge, err := l.set.WaitForEdge(max(timeout, time.Millisecond))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("hal: waiting for GPIO line %s: %w", l.name, err)
	}
	return edge != gpio.NoEdge, nil
}

// Close implements Line.
func (l *chipLine) Close() error {
	if err := l.set.Close(); err != nil {
		return fmt.Errorf("hal: closing GPIO line %s: %w", l.name, err)
	}
	return nil
}
