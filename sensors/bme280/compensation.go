// SPDX-License-Identifier: Apache-2.0

package bme280

import (
	"encoding/binary"

	"periph.io/x/conn/v3/physic"
)

// calibration is what the factory burnt in (§4.2.2, table 16).
type calibration struct {
	t1     int64
	t2, t3 int64
	p1     int64
	p      [10]int64 // dig_P2 … dig_P9 at their own index
	h1     int64
	h2     int64
	h3     int64
	h4, h5 int64
	h6     int64
}

// parseCalibration reads registers 0x88…0xa1 and 0xe1…0xe7. dig_H4 and dig_H5 are 12 bits each and share 0xe5.
func parseCalibration(first [26]byte, second [7]byte) calibration {
	u := func(i int) int64 { return int64(binary.LittleEndian.Uint16(first[i:])) }
	s := func(i int) int64 { return int64(int16(binary.LittleEndian.Uint16(first[i:]))) }
	k := calibration{t1: u(0), t2: s(2), t3: s(4), p1: u(6), h1: int64(first[25])}
	for i := 2; i <= 9; i++ {
		k.p[i] = s(4 + 2*i)
	}
	k.h2 = int64(int16(binary.LittleEndian.Uint16(second[0:])))
	k.h3 = int64(second[2])
	k.h4 = int64(int8(second[3]))<<4 | int64(second[4]&0xf)
	k.h5 = int64(int8(second[5]))<<4 | int64(second[4]>>4)
	k.h6 = int64(int8(second[6]))
	return k
}

// The formulas are those of §4.2.3. They are computed in 64 bits throughout: the 32-bit ones of the data sheet overflow with a faulty
// calibration, and give the same results otherwise.

// fine is the temperature in the resolution that the other two formulas need (t_fine).
func (k *calibration) fine(raw int64) int64 {
	v1 := (raw>>3 - k.t1<<1) * k.t2 >> 11
	d := raw>>4 - k.t1
	return v1 + (d*d>>12)*k.t3>>14
}

// temperature has a resolution of 0.01 °C.
func (k *calibration) temperature(fine int64) physic.Temperature {
	return physic.Temperature((fine*5+128)>>8)*10*physic.MilliKelvin + physic.ZeroCelsius
}

// pressure is the 64-bit formula, in 1/256 Pa.
func (k *calibration) pressure(raw, fine int64) physic.Pressure {
	v1 := fine - 128000
	v2 := v1*v1*k.p[6] + v1*k.p[5]<<17 + k.p[4]<<35
	v1 = v1*v1*k.p[3]>>8 + v1*k.p[2]<<12
	v1 = (1<<47 + v1) * k.p1 >> 33
	if v1 == 0 {
		return 0 // out of the range, which the caller refuses
	}
	p := ((1048576-raw)<<31 - v2) * 3125 / v1
	v1 = k.p[9] * (p >> 13) * (p >> 13) >> 25
	v2 = k.p[8] * p >> 19
	p = (p+v1+v2)>>8 + k.p[7]<<4
	return physic.Pressure(p) * (physic.Pascal / 256) // 10⁹/256 is a whole number
}

// humidity is in 1/1024 %, limited to 0…100 % as the data sheet does. The product is 64 bits wide: RelativeHumidity has 32.
func (k *calibration) humidity(raw, fine int64) physic.RelativeHumidity {
	x := fine - 76800
	left := (raw<<14 - k.h4<<20 - k.h5*x + 16384) >> 15
	right := ((x*k.h6>>10*(x*k.h3>>11+32768)>>10+2097152)*k.h2 + 8192) >> 14
	x = left * right
	x -= ((x >> 15) * (x >> 15) >> 7) * k.h1 >> 4
	x = min(max(x, 0), 419430400) >> 12
	return physic.RelativeHumidity(x * int64(physic.PercentRH) / 1024)
}
