// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/hal/sim"
)

// onewire drives a ds2482 as a master's software does.
type onewire struct {
	t *testing.T
	d *ds2482
}

func (o onewire) command(w ...byte) (status byte) {
	o.t.Helper()
	must(o.t, o.d.Tx(w, nil))
	var r [1]byte
	must(o.t, o.d.Tx([]byte{cmdSetPointer, pointerStatus}, r[:]))
	return r[0]
}

func (o onewire) reset() bool { return o.command(cmdWireReset)&statusPresence != 0 }

func (o onewire) write(bytes ...byte) {
	for _, b := range bytes {
		o.command(cmdWireWrite, b)
	}
}

func (o onewire) read(n int) (out []byte) {
	o.t.Helper()
	for range n {
		o.command(cmdWireRead)
		var r [1]byte
		must(o.t, o.d.Tx([]byte{cmdSetPointer, pointerData}, r[:]))
		out = append(out, r[0])
	}
	return out
}

// search finds all ROM ids (Maxim application note 187).
func (o onewire) search() (found []string) {
	var last [8]byte
	for turn := -1; ; {
		if !o.reset() {
			return nil
		}
		o.write(romSearch)
		var rom [8]byte
		zero := -1
		for i := range 64 {
			want := last[i/8] >> (i % 8) & 1
			if i == turn {
				want = 1
			} else if i > turn {
				want = 0
			}
			st := o.command(cmdWireTriplet, want<<7)
			bit, complement, taken := st&statusBit != 0, st&statusBitTwo != 0, st&statusDirection != 0
			if bit && complement {
				return found
			}
			if !bit && !complement && !taken {
				zero = i
			}
			if taken {
				rom[i/8] |= 1 << (i % 8)
			}
		}
		found, last = append(found, hex.EncodeToString(rom[:])), rom
		if turn = zero; turn < 0 {
			return found
		}
	}
}

func TestOneWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		celsius := func(x float64) func(time.Time) float64 { return func(time.Time) float64 { return x } }
		d := newDS2482(newDS18B20(0x5e2fdc3, time.Now, celsius(-10.13)), newDS18B20(0x5e2fdc2, time.Now, celsius(125)), newDS18B20(0xffffffffffff, time.Now, celsius(21.62)))
		o := onewire{t, d}
		if st := o.command(cmdDeviceReset); st != 0x18 {
			t.Errorf("status after reset %#x", st)
		}
		if err := d.Tx([]byte{0xc3, 0xf0}, nil); !errors.Is(err, sim.ErrNAK) {
			t.Errorf("channel selection of the DS2482-800: %v", err)
		}
		if err := d.Tx([]byte{cmdWriteConfig, 0xf1}, nil); !errors.Is(err, sim.ErrNAK) {
			t.Errorf("configuration that is not its own complement: %v", err)
		}
		if st := o.command(cmdWriteConfig, 0xe1); st != 0x08 {
			t.Errorf("status after configuration %#x", st)
		}
		roms := o.search()
		if len(roms) != 3 {
			t.Fatalf("found %v", roms)
		}
		o.reset()
		o.write(romSkip, 0x4e, 1, 2, 0x3f, romSkip) // the last is not for the scratchpad
		read := map[string]string{}
		ask := func() {
			for _, rom := range roms {
				id, err := hex.DecodeString(rom)
				must(t, err)
				if crc8(id) != 0 {
					t.Errorf("checksum of %s", rom)
				}
				o.reset()
				o.write(append([]byte{romMatch}, id...)...)
				o.write(funcRead)
				read[rom[2:8]] = hex.EncodeToString(o.read(9))
			}
		}
		// The data sheet's table "Temperature/Data Relationship": +85 °C at power-up is 0550h, -10.125 is ff5eh, +125 is 07d0h.
		if ask(); read["c3fde2"][:10] != "500501023f" {
			t.Errorf("after power-up %v", read)
		}
		o.reset()
		o.write(romSkip, funcConvert)
		time.Sleep(conversionTime/4 - time.Millisecond) // 10 bits
		if o.command(cmdWireBit, 0x80)&statusBit != 0 {
			t.Error("ready too early")
		}
		time.Sleep(time.Millisecond)
		if o.command(cmdWireBit, 0x80)&statusBit == 0 {
			t.Error("not ready in time")
		}
		ask()
		for serial, want := range map[string]string{"c3fde2": "5cff", "c2fde2": "d007", "ffffff": "5801"} { // multiples of 0.25 °C
			if read[serial][:4] != want {
				t.Errorf("%s: %s, want %s…", serial, read[serial], want)
			}
		}
		o.reset()
		o.write(romSkip, 0xb4)
		if o.command(cmdWireBit, 0x80)&statusBit == 0 {
			t.Error("it says that it lives on the data line's power")
		}
	})
}

func TestNobodyOnTheWire(t *testing.T) {
	o := onewire{t, newDS2482()}
	if o.reset() || o.search() != nil {
		t.Error("somebody answers")
	}
	if got := hex.EncodeToString(o.read(2)); got != "ffff" {
		t.Errorf("read %s", got)
	}
}

// The scratchpad of the data sheet's CRC example, and the ROM id of application note 27.
func TestCRC(t *testing.T) {
	for text, want := range map[string]byte{"021cb801000000": 0xa2, "5005" + "4b467fff0c10": 0x1c} {
		b, err := hex.DecodeString(text)
		must(t, err)
		if got := crc8(b); got != want {
			t.Errorf("%s: %#x, want %#x", text, got, want)
		}
	}
}
