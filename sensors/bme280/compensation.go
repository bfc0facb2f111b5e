// SPDX-License-Identifier: Apache-2.0

package bme280

import (
	"encoding/binary"

	"periph.io/x/conn/v3/physic"
)

// humidity is what the factory burnt in for it (§4.2.2, table 16); the rest is bmxx80.Calibration.
type humidity struct {
	h1     int64
	h2     int64
	h3     int64
	h4, h5 int64
	h6     int64
}

// parseHumidity reads registers 0xa1 and 0xe1…0xe7. dig_H4 and dig_H5 are 12 bits each and share 0xe5.
func parseHumidity(h1 byte, second [7]byte) humidity {
	return humidity{
		h1: int64(h1),
		h2: int64(int16(binary.LittleEndian.Uint16(second[0:]))),
		h3: int64(second[2]),
		h4: int64(int8(second[3]))<<4 | int64(second[4]&0xf),
		h5: int64(int8(second[5]))<<4 | int64(second[4]>>4),
		h6: int64(int8(second[6])),
	}
}

// percent is the formula of §4.2.3 in 64 bits: in 1/1024 %, limited to 0…100 % as the data sheet does. The product is 64 bits wide:
// RelativeHumidity has 32.
func (k *humidity) percent(raw, fine int64) physic.RelativeHumidity {
	x := fine - 76800
	left := (raw<<14 - k.h4<<20 - k.h5*x + 16384) >> 15
	right := ((x*k.h6>>10*(x*k.h3>>11+32768)>>10+2097152)*k.h2 + 8192) >> 14
	x = left * right
	x -= ((x >> 15) * (x >> 15) >> 7) * k.h1 >> 4
	x = min(max(x, 0), 419430400) >> 12
	return physic.RelativeHumidity(x * int64(physic.PercentRH) / 1024)
}
