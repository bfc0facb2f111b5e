// SPDX-License-Identifier: Apache-2.0

// Package expander drives 8-bit I/O expanders on I²C as actuators: PCF8574 and PCF8574A, and the register-based PCA9554, TCA9554, PCA9534,
// TCA9534 and their A variants. A line is an output (switch.0 … switch.7) or an input (contact.0 … contact.7).
//
// A chip keeps its outputs when the program ends without Close, by a crash or kill -9.
package expander

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

const lines = 8

// PCF8574 describes NXP's and TI's PCF8574 (0x20 … 0x27) and PCF8574A (0x38 … 0x3f). An output sinks 10 mA or more when low, and is only pulled up,
// by 30 to 300 µA, when high: see pcf8574.go.
var PCF8574 = driver("pcf8574", "PCF8574(A) expander: 8 lines, outputs sink and hardly source (NXP PCF8574 rev. 5)",
	func(conn *hal.Conn, outputs byte) chip { return &pcf8574{conn, outputs} })

// PCA9554 describes PCA9554, TCA9554, PCA9534 and TCA9534 (0x20 … 0x27) and their A variants (0x38 … 0x3f). Outputs are push-pull, 25 mA low and
// 10 mA high; the 9554 pulls its inputs up, the 9534 does not: see pca9554.go.
var PCA9554 = driver("pca9554", "PCA9554/TCA9534(A) expander: 8 lines, push-pull outputs (NXP PCA9554 rev. 9)",
	func(conn *hal.Conn, outputs byte) chip { return &pca9554{conn: conn, outputs: outputs} })

// driver describes a chip. None has an id, and any byte written to a PCF8574 acts, which shares its addresses with the others: hence Touchy.
func driver(name, doc string, on func(conn *hal.Conn, outputs byte) chip) sensors.Driver {
	return sensors.Driver{
		Name:     name,
		Doc:      doc,
		Bus:      hal.I2C,
		Addrs:    []uint16{0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f},
		Measures: []edge.Quantity{sensors.SwitchOn, sensors.Contact},
		Actions:  []edge.Quantity{sensors.SwitchOn},
		Options: []sensors.Option{
			{Name: "outputs", Doc: "numbers of the lines that are driven, for example \"0 1 7\"; the others are inputs"},
			{Name: "active", Default: "low", Allowed: []string{"low", "high"}, Doc: "level that means 1; the chips start with all lines high, so that low keeps relays off until then"},
			{Name: "initial", Default: "off", Allowed: []string{"off", "keep"}, Doc: "outputs at the start; keep = the levels that are on the lines"},
			{Name: "at-exit", Default: "off", Allowed: []string{"off", "keep"}, Doc: "outputs at the end, and when the bus fails for long; off because nobody is left to switch them off, keep where off is the danger"},
		},
		Fastest: 10 * time.Millisecond,
		Touchy:  true,
		Open: func(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
			return open(ctx, name, p.I2C, opts, on)
		},
	}
}

// chip is what differs. One bit a line, 1 = high.
type chip interface {
	// drive makes the outputs have these levels and releases the inputs.
	drive(ctx context.Context, levels byte) error
	// levels returns what is on the lines. It fails if the chip cannot be this one, and changes no line.
	levels(ctx context.Context) (byte, error)
}

type expander struct {
	name    string
	chip    chip
	outputs byte
	off     byte // levels of outputs that are off
	latch   byte // levels that were last written
	keep    bool // at exit
}

func open(ctx context.Context, name string, conn *hal.Conn, opts map[string]string, on func(*hal.Conn, byte) chip) (sensors.Sensor, error) {
	outputs, err := parseLines(opts["outputs"])
	if err != nil {
		return nil, fmt.Errorf("%s: option outputs = %q: %w", name, opts["outputs"], err)
	}
	e := &expander{name: name, chip: on(conn, outputs), outputs: outputs, keep: opts["at-exit"] == "keep"}
	if opts["active"] == "low" {
		e.off = 0xff
	}
	levels, err := e.chip.levels(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: reading the lines: %w", name, err)
	}
	if opts["initial"] == "off" {
		levels = e.off
	}
	if err := e.drive(ctx, levels); err != nil {
		return nil, fmt.Errorf("%s: driving the outputs: %w", name, err)
	}
	return e, nil
}

// parseLines reads numbers of lines; a list of a config file comes with brackets.
func parseLines(text string) (mask byte, err error) {
	for word := range strings.FieldsSeq(strings.NewReplacer(",", " ", "[", " ", "]", " ").Replace(text)) {
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil || n >= lines {
			return 0, fmt.Errorf("line %q: use numbers from 0 to %d, for example \"0 1 7\"", word, lines-1)
		}
		mask |= 1 << n
	}
	return mask, nil
}

// drive writes levels and looks whether the lines follow.
func (e *expander) drive(ctx context.Context, levels byte) error {
	if err := e.chip.drive(ctx, levels); err != nil {
		return err
	}
	e.latch = levels
	got, err := e.chip.levels(ctx)
	if err != nil {
		return err
	}
	if wrong := (got ^ levels) & e.outputs; wrong != 0 {
		return fmt.Errorf("the lines of mask %#02x do not follow: check for a short circuit, a load that is too strong, or another chip", wrong)
	}
	return nil
}

// Set implements sensors.Actuator. One that failed may have been carried out; the next one writes all outputs anew.
func (e *expander) Set(ctx context.Context, s edge.Sample) error {
	for n := range lines {
		if s.Quantity != line(sensors.SwitchOn, n) || e.outputs&(1<<n) == 0 || s.Value != 0 && s.Value != 1 {
			continue
		}
		levels := e.latch &^ (1 << n)
		if (s.Value == 1) == (e.off == 0) {
			levels |= 1 << n
		}
		if err := e.drive(ctx, levels); err != nil {
			return fmt.Errorf("%s: setting %s: %w", e.name, s.Name, err)
		}
		return nil
	}
	return fmt.Errorf("%s: setting %q to %v: only the lines of option outputs, switch.0 to switch.%d, can be set, to 0 or 1", e.name, s.Name, s.Value, lines-1)
}

// Read implements sensors.Sensor.
func (e *expander) Read(ctx context.Context) ([]edge.Sample, error) {
	levels, err := e.chip.levels(ctx)
	if err == nil && (levels == 0 || levels == 0xff) && (levels^e.latch)&e.outputs != 0 {
		err = fmt.Errorf("all lines read %#02x, also those driven to the other level: %w", levels, sensors.ErrNoData)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: reading: %w", e.name, err)
	}
	samples := make([]edge.Sample, lines)
	for n := range lines {
		kind := sensors.Contact
		if e.outputs&(1<<n) != 0 {
			kind = sensors.SwitchOn
		}
		samples[n] = sensors.On(line(kind, n), (levels^e.off)&(1<<n) != 0)
	}
	return samples, nil
}

func line(q edge.Quantity, n int) edge.Quantity {
	q.Name = fmt.Sprintf("%s.%d", q.Name, n)
	return q
}

// Close implements sensors.Sensor.
func (e *expander) Close() error {
	if e.keep || e.outputs == 0 {
		return nil
	}
	if err := e.chip.drive(context.Background(), e.off); err != nil {
		return fmt.Errorf("%s: switching off: %w", e.name, err)
	}
	return nil
}
