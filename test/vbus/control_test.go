// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors/sensorstest"
)

// newSession is a vbus without a kernel.
func newSession(log *bytes.Buffer) *session {
	v := &values{fixed: usual()}
	bus := sim.NewBus("vbus")
	populate(bus, time.Now, v)
	return &session{bus: bus, values: v, record: &recorder{bus: bus, log: log}}
}

func TestCommands(t *testing.T) {
	s := newSession(&bytes.Buffer{})
	probe := func() error { return s.bus.Tx(0x4a, []byte{0}, make([]byte, 2)) }
	for _, c := range []struct {
		line, want string
		probe      error
	}{
		{"nak 0x4a", "ok", sim.ErrNAK},
		{"stuck 74", "ok", hal.ErrTimeout},
		{"heal 0x4a", "ok", nil},
		{"slow 0x4a 1ms", "ok", nil},
		{"nak", "error: not understood", nil},
		{"nak 0x80", "error: an address has 7 bits", nil},
		{"slow 0x4a", "error: slow ADDR DURATION", nil},
		{"set celsius 1 2", "error: set NAME VALUE", nil},
		{"set humour 1", "error: there is no value \"humour\"", nil},
		{"jump", "error: not understood", nil},
		{"unplug", "ok", nil},
	} {
		var out bytes.Buffer
		must(t, s.run(strings.NewReader(c.line+"\n\n"), &out))
		if !strings.HasPrefix(out.String(), c.want) {
			t.Errorf("%q: %q, want %q", c.line, out.String(), c.want)
		}
		if err := probe(); !errors.Is(err, c.probe) {
			t.Errorf("after %q the chip says %v, want %v", c.line, err, c.probe)
		}
	}
}

// What is set is measured, what is not follows the weather.
func TestValues(t *testing.T) {
	s := newSession(&bytes.Buffer{})
	must(t, s.values.set("celsius", -3.5))
	must(t, s.values.set("lux", 100))
	at := time.Unix(1e9, 0)
	if got := s.values.air(at); got != (sim.Air{Celsius: -3.5, Pascal: 100653, Percent: 47.5}) {
		t.Errorf("air %+v", got)
	}
	if got := s.values.of("lux", s.values.weather.Lux)(at); got != 100 {
		t.Errorf("lux %v", got)
	}
	free := &values{weather: sim.Weather{Seed: 5}, fixed: map[string]float64{}}
	if got := free.air(at); got != free.weather.At(at) {
		t.Errorf("air %+v, the weather is %+v", got, free.weather.At(at))
	}
}

// The log is what sensorstest plays back.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	s := newSession(&log)
	must(t, s.run(strings.NewReader("note lm75\n"), &bytes.Buffer{}))
	var r [2]byte
	must(t, s.record.Tx(0x4a, []byte{0}, r[:]))
	must(t, s.record.Tx(0x4a, []byte{1, 1}, nil))
	if err := s.record.Tx(0x30, nil, r[:]); !errors.Is(err, sim.ErrNAK) {
		t.Errorf("an absent chip: %v", err)
	}
	ops, err := sensorstest.ParseOps(log.Bytes())
	must(t, err)
	if got := string(sensorstest.FormatOps(ops)); !strings.HasPrefix(got, "4a 00 ") || !strings.HasSuffix(got, "\n4a 0101 -\n") || len(ops) != 2 {
		t.Errorf("log\n%s", &log)
	}
	if !strings.Contains(log.String(), "# lm75\n") || !strings.Contains(log.String(), "# 30 -: ") {
		t.Errorf("log\n%s", &log)
	}
}
