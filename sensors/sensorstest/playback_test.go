// SPDX-License-Identifier: Apache-2.0

package sensorstest_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/bme280"
	"github.com/streembit/edge/sensors/sensorstest"
)

// What is recorded on one board and written as text plays back to the same samples.
func TestRecordAndPlayback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := sim.New(sim.Config{Seed: 5})
		defer board.Close()
		record, err := sensorstest.Record(board, hal.Request{Addr: sim.BME280Address})
		if err != nil {
			t.Fatal(err)
		}
		recorded := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{
			Name: "/dev/i2c-1", Open: func() (i2c.BusCloser, error) { return closer{record}, nil },
		}}})
		want := readOnce(t, recorded)
		ops, err := sensorstest.ParseOps(append([]byte("# BME280\n\n"), sensorstest.FormatOps(record.Ops)...))
		if err != nil || !bytes.Equal(sensorstest.FormatOps(ops), sensorstest.FormatOps(record.Ops)) {
			t.Fatal(ops, err)
		}
		if got := readOnce(t, sensorstest.Playback(ops)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, recorded %v", got, want)
		}
	})
}

type closer struct{ i2c.Bus }

func (closer) Close() error { return nil }

func readOnce(t *testing.T, board *hal.Board) map[string]float64 {
	t.Helper()
	s, err := bme280.Driver.Connect(t.Context(), board, hal.Request{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	samples, err := s.Read(t.Context())
	if err != nil || len(samples) != len(bme280.Driver.Measures) {
		t.Fatal(samples, err)
	}
	values := make(map[string]float64)
	for _, sample := range samples {
		values[sample.Name] = sample.Value
	}
	if _, ok := values[sensors.Pressure.Name]; !ok {
		t.Fatal(values)
	}
	return values
}

func TestPlaybackRefuses(t *testing.T) {
	p, err := sensorstest.Playback(nil).Port(hal.Request{Kind: hal.I2C, Addr: 0x44})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.I2C.Tx(t.Context(), []byte{1}, make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "no transaction") {
		t.Errorf("a transaction that was not recorded: %v", err)
	}
	for _, text := range []string{"zz 00 00", "44 0 00", "44 00 xx", "44"} {
		if _, err := sensorstest.ParseOps([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
