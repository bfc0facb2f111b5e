// SPDX-License-Identifier: Apache-2.0

package hal_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/hal"
)

// fakeBus counts what is done to it.
type fakeBus struct {
	name   string
	tx     int
	closed int
	err    error
}

func (b *fakeBus) String() string                  { return b.name }
func (b *fakeBus) SetSpeed(physic.Frequency) error { return nil }
func (b *fakeBus) Close() error                    { b.closed++; return b.err }
func (b *fakeBus) Tx(uint16, []byte, []byte) error { b.tx++; return b.err }

var errBus = errors.New("remote I/O error")

func openerOf(b *fakeBus, opened *int) func() (i2c.BusCloser, error) {
	return func() (i2c.BusCloser, error) { *opened++; return b, nil }
}

func TestBusIsOpenedOnceAndClosed(t *testing.T) {
	bus, opened := &fakeBus{name: "/dev/i2c-1"}, 0
	b := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: bus.name, Aliases: []string{"1", "I2C1"}, Open: openerOf(bus, &opened)}}})
	var first i2c.Bus
	for _, name := range []string{"", "1", "I2C1", "/dev/i2c-1"} {
		p, err := b.Port(hal.Request{Kind: hal.I2C, Bus: name, Addr: 0x76})
		if first == nil && err == nil {
			first = p.I2C.Bus
		}
		if err != nil || p.I2C.Bus != first || p.Name != "/dev/i2c-1 address 0x76" {
			t.Fatalf("%q: %+v, %v", name, p, err)
		}
	}
	if err := b.Close(); err != nil || opened != 1 || bus.closed != 1 {
		t.Errorf("opened %d, closed %d, %v", opened, bus.closed, err)
	}
}

func TestUsualBus(t *testing.T) {
	opened := 0
	wiring := func(usual bool) hal.Wiring {
		var w hal.Wiring
		for _, name := range []string{"/dev/i2c-0", "/dev/i2c-1"} {
			w.I2C = append(w.I2C, hal.Bus[i2c.BusCloser]{Name: name, Usual: usual && name == "/dev/i2c-1", Open: openerOf(&fakeBus{name: name}, &opened)})
		}
		return w
	}
	p, err := hal.NewBoard(wiring(true)).Port(hal.Request{Kind: hal.I2C, Addr: 0x76})
	if err != nil || !strings.HasPrefix(p.Name, "/dev/i2c-1 ") {
		t.Errorf("%+v, %v", p, err)
	}
	_, err = hal.NewBoard(wiring(false)).Port(hal.Request{Kind: hal.I2C, Addr: 0x76})
	if err == nil || !strings.Contains(err.Error(), "/dev/i2c-0, /dev/i2c-1: say which") {
		t.Errorf("two buses and none usual: %v", err)
	}
}

func TestPortErrorsSayWhatToDo(t *testing.T) {
	opened := 0
	w := hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{
		{Name: "/dev/i2c-1", Open: openerOf(&fakeBus{}, &opened)},
		{Name: "/dev/i2c-2", Open: func() (i2c.BusCloser, error) { return nil, os.ErrPermission }},
	}}
	for i := range 20 {
		w.Pins = append(w.Pins, hal.NamedPin{Name: "GPIO" + string(rune('A'+i))})
	}
	b := hal.NewBoard(w)
	for name, tc := range map[string]struct {
		r     hal.Request
		cause error
		says  []string
	}{
		"missing I2C":    {hal.Request{Kind: hal.I2C, Bus: "i2c-7", Addr: 1}, hal.ErrNoBus, []string{`"i2c-7"`, "/dev/i2c-1, /dev/i2c-2", "restart"}},
		"no SPI":         {hal.Request{Kind: hal.SPI, Bus: "SPI0.0"}, hal.ErrNoBus, []string{"SPI", "none", "raspi-config"}},
		"no 1-wire":      {hal.Request{Kind: hal.OneWire}, hal.ErrNoBus, []string{"1-wire bus"}},
		"missing line":   {hal.Request{Kind: hal.GPIO, Pin: "GPIO99"}, hal.ErrNoBus, []string{`GPIO line "GPIO99"`, "GPIOA", "8 more"}},
		"not allowed":    {hal.Request{Kind: hal.I2C, Bus: "/dev/i2c-2", Addr: 1}, os.ErrPermission, []string{"groups i2c"}},
		"no address":     {hal.Request{Kind: hal.I2C, Bus: "/dev/i2c-1"}, nil, []string{"set addr"}},
		"10-bit address": {hal.Request{Kind: hal.I2C, Bus: "/dev/i2c-1", Addr: 0x80}, nil, []string{"0x80", "7 bits"}},
		"kind":           {hal.Request{Kind: 99}, nil, []string{"BusKind(99)"}},
	} {
		_, err := b.Port(tc.r)
		if err == nil || tc.cause != nil && !errors.Is(err, tc.cause) {
			t.Errorf("%s: %v, want %v", name, err, tc.cause)
			continue
		}
		for _, s := range tc.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v; want it to say %q", name, err, s)
			}
		}
	}
}

func TestConn(t *testing.T) {
	bus := &fakeBus{name: "/dev/i2c-1", err: errBus}
	c := hal.Conn{Bus: bus, Addr: 0x76}
	err := c.Tx(t.Context(), []byte{1}, nil)
	if !errors.Is(err, errBus) || !strings.Contains(err.Error(), "/dev/i2c-1 address 0x76") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Tx(ctx, []byte{1}, nil); !errors.Is(err, context.Canceled) || bus.tx != 1 {
		t.Errorf("%v after %d transactions", err, bus.tx)
	}
	if err := hal.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("Sleep: %v", err)
	}
	if err := hal.Sleep(t.Context(), time.Microsecond); err != nil {
		t.Errorf("Sleep: %v", err)
	}
}

// A machine without any bus is a board all the same.
func TestOpenThisMachine(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "proc/device-tree/model")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("Raspberry Pi 4 Model B Rev 1.4\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := hal.Open(t.Context(), hal.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Name() != "Raspberry Pi 4 Model B Rev 1.4" {
		t.Errorf("board %q", b.Name())
	}
	p, err := b.Port(hal.Request{Kind: hal.Host})
	if err != nil || p.Root != root {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: "no-such-bus", Addr: 1}); !errors.Is(err, hal.ErrNoBus) {
		t.Errorf("%v", err)
	}
	t.Logf("I2C %v, SPI %v, 1-wire %v, %d lines, problems %v", b.Buses(hal.I2C), b.Buses(hal.SPI), b.Buses(hal.OneWire), len(b.Buses(hal.GPIO)), b.Problems())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hal.Open(ctx, hal.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
