// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"errors"
	"slices"
	"testing"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/wire"
)

func conn(t *testing.T, ops ...i2ctest.IO) *hal.Conn {
	t.Helper()
	p, err := sensorstest.Playback(ops).Port(hal.Request{Kind: hal.I2C, Addr: 0x44})
	if err != nil {
		t.Fatal(err)
	}
	return p.I2C
}

// The example of the SHT3x-DIS data sheet §4.12, and two that were computed with another implementation (CRC-8/NRSC-5).
func TestCRC8(t *testing.T) {
	for _, c := range []struct {
		data []byte
		want byte
	}{{[]byte{0xbe, 0xef}, 0x92}, {[]byte{0, 0}, 0x81}, {[]byte("123456789"), 0xf7}} {
		if got := wire.CRC8(c.data); got != c.want {
			t.Errorf("% x: %#x, want %#x", c.data, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	words := make([]uint16, 2)
	good := i2ctest.IO{Addr: 0x44, R: []byte{0xbe, 0xef, 0x92, 0, 0, 0x81}}
	if err := wire.ReadWords(t.Context(), conn(t, good), words); err != nil || !slices.Equal(words, []uint16{0xbeef, 0}) {
		t.Errorf("%x, %v", words, err)
	}
	for i := range good.R {
		bad := i2ctest.IO{Addr: 0x44, R: slices.Clone(good.R)}
		bad.R[i] ^= 1
		if err := wire.ReadWords(t.Context(), conn(t, bad), words); !errors.Is(err, sensors.ErrCRC) {
			t.Errorf("byte %d is wrong: %v", i, err)
		}
	}
	if err := wire.ReadWords(t.Context(), conn(t), words); err == nil || errors.Is(err, sensors.ErrCRC) {
		t.Errorf("the bus fails: %v", err)
	}
	c := conn(t, i2ctest.IO{Addr: 0x44, W: []byte{7}, R: []byte{0x12, 0x34}}, i2ctest.IO{Addr: 0x44, W: []byte{1, 0xab, 0xcd}},
		i2ctest.IO{Addr: 0x44, W: []byte{0x24, 0x00}})
	if v, err := wire.ReadWord(t.Context(), c, 7); v != 0x1234 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
	if err := errors.Join(wire.WriteWord(t.Context(), c, 1, 0xabcd), wire.Command(t.Context(), c, 0x2400)); err != nil {
		t.Error(err)
	}
}

func TestUniform(t *testing.T) {
	for text, want := range map[string]bool{"\x00\x00": true, "\xff\xff": true, "\x00\xff": false, "\x01\x01": false} {
		if wire.Uniform([]byte(text)) != want {
			t.Errorf("%x", text)
		}
	}
}
