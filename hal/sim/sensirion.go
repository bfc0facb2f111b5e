// SPDX-License-Identifier: Apache-2.0

package sim

import "math"

// crc8 is the checksum of Sensirion's chips and of the AHT20: polynomial 0x31, from 0xff, most significant bit first
// (SHT3x-DIS data sheet §4.12, AHT20 data sheet §5.4). It is written without looking at the drivers', so that each checks the other.
func crc8(data ...byte) byte {
	crc := byte(0xff)
	for _, b := range data {
		crc ^= b
		for range 8 {
			top := crc & 0x80
			crc <<= 1
			if top != 0 {
				crc ^= 0x31
			}
		}
	}
	return crc
}

// words puts a checksum behind each word, as Sensirion's chips send them.
func words(values ...uint16) []byte {
	out := make([]byte, 0, 3*len(values))
	for _, v := range values {
		high, low := byte(v>>8), byte(v)
		out = append(out, high, low, crc8(high, low))
	}
	return out
}

// word returns the two bytes that a command is.
func word(w []byte) uint16 { return uint16(w[0])<<8 | uint16(w[1]) }

// argument returns the word that follows a command of two bytes, false if its checksum is wrong.
func argument(w []byte) (uint16, bool) {
	return word(w[2:]), crc8(w[2], w[3]) == w[4]
}

// ratio returns the word that stands for value in [low, high] when the word's whole range stands for span.
func ratio(value, low, span float64) uint16 {
	return uint16(quantise((value-low)/span*65535, 1, 0, 65535))
}

// heated is air that was warmed by some degrees without more water in it (Magnus formula, over water).
func heated(air Air, by float64) Air {
	saturation := func(celsius float64) float64 { return math.Exp(17.62 * celsius / (243.12 + celsius)) }
	air.Percent = min(air.Percent*saturation(air.Celsius)/saturation(air.Celsius+by), 100)
	air.Celsius += by
	return air
}
