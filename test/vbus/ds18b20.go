// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"time"
)

// ROM and function commands of the DS18B20 (Maxim 19-7487, "ROM Commands" and "DS18B20 Function Commands").
const (
	romSearch = 0xf0
	romRead   = 0x33
	romMatch  = 0x55
	romSkip   = 0xcc

	funcConvert = 0x44
	funcWrite   = 0x4e
	funcRead    = 0xbe
	funcCopy    = 0x48
	funcRecall  = 0xb8

	ds18b20Family  = 0x28
	conversionTime = 750 * time.Millisecond // of 12 bits, at most; half of it for each bit less
)

// expects says what the next slots mean to a ds18b20.
type expects uint8

const (
	nothing   expects = iota // it was not meant, or has no more to say
	aROM                     // a ROM command
	aMatch                   // the 64 bits of a ROM id
	aSearch                  // the three slots for each bit of a search
	aFunction                // a function command
	aWrite                   // three bytes for the scratchpad
	aRead                    // slots in which it sends
)

// ds18b20 models a thermometer with its own supply, slot by slot.
type ds18b20 struct {
	now     func() time.Time
	celsius func(time.Time) float64
	rom     [8]byte
	scratch [8]byte // temperature, TH, TL, configuration, reserved; the checksum is made when it is read
	eeprom  [3]byte // TH, TL, configuration
	ends    time.Time

	state expects
	got   []byte // bits taken since state was entered
	send  []byte // bits to be sent
}

// newDS18B20 returns a chip that has just been powered: it holds 85 °C until its first conversion.
func newDS18B20(serial uint64, now func() time.Time, celsius func(time.Time) float64) *ds18b20 {
	d := &ds18b20{now: now, celsius: celsius, eeprom: [3]byte{75, 70, 0x7f}}
	d.rom[0] = ds18b20Family
	for i := range 6 {
		d.rom[1+i] = byte(serial >> (8 * i))
	}
	d.rom[7] = crc8(d.rom[:7])
	d.scratch = [8]byte{0x50, 0x05, 0, 0, 0, 0xff, 0x0c, 0x10}
	copy(d.scratch[2:], d.eeprom[:])
	return d
}

func (d *ds18b20) reset() { d.enter(aROM) }

func (d *ds18b20) enter(s expects) { d.state, d.got, d.send = s, d.got[:0], nil }

// reply sends bytes, lowest bit first.
func (d *ds18b20) reply(then expects, bytes ...byte) {
	d.enter(then)
	for _, b := range bytes {
		for i := range 8 {
			d.send = append(d.send, b>>i&1)
		}
	}
}

func (d *ds18b20) slot(bit byte) byte {
	d.convert()
	if len(d.send) > 0 && bit == 1 {
		bit, d.send = d.send[0], d.send[1:]
		return bit
	}
	switch d.state {
	case aSearch:
		return d.search(bit)
	case aRead:
		if d.ends.IsZero() {
			return 1
		}
		return 0 // converting
	case aROM, aMatch, aFunction, aWrite:
		d.got = append(d.got, bit)
		d.take()
	}
	return bit
}

// take acts when a command or its data is complete.
func (d *ds18b20) take() {
	switch {
	case d.state == aROM && len(d.got) == 8:
		d.romCommand(packed(d.got)[0])
	case d.state == aFunction && len(d.got) == 8:
		d.function(packed(d.got)[0])
	case d.state == aMatch && len(d.got) == 64:
		if [8]byte(packed(d.got)) == d.rom {
			d.enter(aFunction)
		} else {
			d.enter(nothing)
		}
	case d.state == aWrite && len(d.got) == 24:
		copy(d.scratch[2:], packed(d.got))
		d.scratch[4] = d.scratch[4]&0x60 | 0x1f // only the resolution can be written
		d.enter(nothing)
	}
}

func (d *ds18b20) romCommand(cmd byte) {
	switch cmd {
	case romSearch:
		d.enter(aSearch)
	case romRead:
		d.reply(aFunction, d.rom[:]...)
	case romMatch:
		d.enter(aMatch)
	case romSkip:
		d.enter(aFunction)
	default:
		d.enter(nothing)
	}
}

// search answers a bit of the id, then its complement, and leaves the dialogue when the master takes the other branch.
func (d *ds18b20) search(bit byte) byte {
	n := len(d.got)
	own := d.rom[n/3/8] >> (n / 3 % 8) & 1
	d.got = append(d.got, bit)
	switch {
	case n%3 == 0:
		return own
	case n%3 == 1:
		return own ^ 1
	case bit != own:
		d.enter(nothing)
	case n == 3*64-1:
		d.enter(aFunction)
	}
	return bit
}

func (d *ds18b20) function(cmd byte) {
	switch cmd {
	case funcConvert:
		d.ends = d.now().Add(conversionTime >> (3 - d.scratch[4]>>5&3))
		d.enter(aRead)
	case funcRead:
		d.reply(nothing, append(d.scratch[:], crc8(d.scratch[:]))...)
	case funcWrite:
		d.enter(aWrite)
	case funcCopy:
		copy(d.eeprom[:], d.scratch[2:])
		d.enter(nothing)
	case funcRecall:
		copy(d.scratch[2:], d.eeprom[:])
		d.enter(nothing)
	default: // 0xb4 asks for the kind of supply: a chip with its own supply leaves the line high
		d.enter(nothing)
	}
}

// convert ends a conversion whose time is over.
func (d *ds18b20) convert() {
	if d.ends.IsZero() || d.now().Before(d.ends) {
		return
	}
	unused := 3 - d.scratch[4]>>5&3 // bits below the resolution are 0
	raw := int16(math.Round(min(max(d.celsius(d.ends), -55), 125)*16)) >> unused << unused
	d.scratch[0], d.scratch[1] = byte(raw), byte(raw>>8)
	d.ends = time.Time{}
}

// packed joins bits, lowest first, to bytes.
func packed(bits []byte) []byte {
	out := make([]byte, len(bits)/8)
	for i, b := range bits {
		out[i/8] |= b << (i % 8)
	}
	return out
}

// crc8 is the checksum of 1-wire chips: x⁸ + x⁵ + x⁴ + 1, lowest bit first (Maxim application note 27).
func crc8(data []byte) (crc byte) {
	for _, b := range data {
		crc ^= b
		for range 8 {
			if low := crc & 1; low != 0 {
				crc = crc>>1 ^ 0x8c
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
