// SPDX-License-Identifier: Apache-2.0

package sensorstest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/hal"
)

// Playback returns a board with one I²C bus, /dev/i2c-1, that answers as a recording says. It is for chips that hal/sim has no
// model of. A transaction is answered with the bytes that the recording has for the same address and written bytes; when it
// has several, they are given in turn and then again from the first.
func Playback(ops []i2ctest.IO) *hal.Board {
	bus := &playback{ops: ops, given: make(map[string]int)}
	return hal.NewBoard(hal.Wiring{
		Name: "recording",
		I2C:  []hal.Bus[i2c.BusCloser]{{Name: "/dev/i2c-1", Open: func() (i2c.BusCloser, error) { return bus, nil }}},
	})
}

// Record returns the board's I²C bus of a request with a recorder on it. Read the recorder's Ops when the sensor is closed.
func Record(board *hal.Board, r hal.Request) (*i2ctest.Record, error) {
	r.Kind = hal.I2C
	p, err := board.Port(r)
	if err != nil {
		return nil, fmt.Errorf("sensorstest: recording: %w", err)
	}
	return &i2ctest.Record{Bus: p.I2C.Bus}, nil
}

// FormatOps writes a recording as text, one transaction a line: address, written bytes, read bytes in hex, "-" for none.
func FormatOps(ops []i2ctest.IO) []byte {
	var b bytes.Buffer
	word := func(p []byte) string {
		if len(p) == 0 {
			return "-"
		}
		return hex.EncodeToString(p)
	}
	for _, op := range ops {
		fmt.Fprintf(&b, "%02x %s %s\n", op.Addr, word(op.W), word(op.R))
	}
	return b.Bytes()
}

// ParseOps reads what FormatOps wrote. Lines that begin with # are comments.
func ParseOps(text []byte) ([]i2ctest.IO, error) {
	var ops []i2ctest.IO
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		var op i2ctest.IO
		var w, r string
		_, err := fmt.Sscanf(line, "%x %s %s", &op.Addr, &w, &r)
		for _, word := range []struct {
			text string
			to   *[]byte
		}{{w, &op.W}, {r, &op.R}} {
			if err == nil && word.text != "-" {
				*word.to, err = hex.DecodeString(word.text)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("sensorstest: reading the recording: line %q: %w", line, err)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

type playback struct {
	mu    sync.Mutex
	ops   []i2ctest.IO
	given map[string]int
}

func (p *playback) String() string                  { return "/dev/i2c-1" }
func (p *playback) SetSpeed(physic.Frequency) error { return nil }
func (p *playback) Close() error                    { return nil }

// Tx implements i2c.Bus.
func (p *playback) Tx(addr uint16, w, r []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var answers [][]byte
	for _, op := range p.ops {
		if op.Addr == addr && slices.Equal(op.W, w) && len(op.R) == len(r) {
			answers = append(answers, op.R)
		}
	}
	if len(answers) == 0 {
		return fmt.Errorf("sensorstest: the recording has no transaction with address %#x, %x written and %d bytes read", addr, w, len(r))
	}
	key := string(append([]byte{byte(addr), byte(len(r))}, w...))
	copy(r, answers[p.given[key]%len(answers)])
	p.given[key]++
	return nil
}
