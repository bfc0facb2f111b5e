// SPDX-License-Identifier: Apache-2.0

package bmxx80

import (
	"encoding/binary"
	"fmt"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/wire"
)

// Calibration is what the factory burnt in for temperature and pressure (§3.11.2, table 17).
type Calibration struct {
	t1     int64
	t2, t3 int64
	p1     int64
	p      [10]int64 // dig_P2 … dig_P9 at their own index
}

// Parse reads registers 0x88…0xa1.
func Parse(trim [26]byte) Calibration {
	u := func(i int) int64 { return int64(binary.LittleEndian.Uint16(trim[i:])) }
	s := func(i int) int64 { return int64(int16(binary.LittleEndian.Uint16(trim[i:]))) }
	k := Calibration{t1: u(0), t2: s(2), t3: s(4), p1: u(6)}
	for i := 2; i <= 9; i++ {
		k.p[i] = s(4 + 2*i)
	}
	return k
}

// Air is one measurement. Fine is the temperature as the humidity formula needs it (t_fine).
type Air struct {
	Fine        int64
	Temperature physic.Temperature
	Pressure    physic.Pressure
}

// skipped is what a measurement that was not made leaves in the data registers (tables 4 and 5).
const skipped = 0x80000

// Air computes temperature, with a resolution of 0.01 °C, and pressure from the data registers, or says why they cannot be a measurement. It
// wraps sensors.ErrNoData or, outside of -40…85 °C and 300…1100 hPa (§1), sensors.ErrRange.
func (k *Calibration) Air(data [6]byte) (Air, error) {
	rawP := int64(data[0])<<12 | int64(data[1])<<4 | int64(data[2])>>4
	rawT := int64(data[3])<<12 | int64(data[4])<<4 | int64(data[5])>>4
	if wire.Uniform(data[:]) || rawT == skipped && rawP == skipped {
		return Air{}, fmt.Errorf("data %x: %w", data, sensors.ErrNoData)
	}
	a := Air{Fine: k.fine(rawT)}
	a.Temperature = physic.Temperature((a.Fine*5+128)>>8)*10*physic.MilliKelvin + physic.ZeroCelsius
	a.Pressure = k.pressure(rawP, a.Fine)
	if a.Temperature < -40*physic.Celsius+physic.ZeroCelsius || a.Temperature > 85*physic.Celsius+physic.ZeroCelsius ||
		a.Pressure < 30*physic.KiloPascal || a.Pressure > 110*physic.KiloPascal {
		return Air{}, fmt.Errorf("%s, %s: %w", a.Temperature, a.Pressure, sensors.ErrRange)
	}
	return a, nil
}

// The formulas are those of §3.11.3. They are computed in 64 bits throughout: the 32-bit ones of the data sheet overflow with a faulty
// calibration, and give the same results otherwise.

func (k *Calibration) fine(raw int64) int64 {
	v1 := (raw>>3 - k.t1<<1) * k.t2 >> 11
	d := raw>>4 - k.t1
	return v1 + (d*d>>12)*k.t3>>14
}

// pressure is the 64-bit formula, in 1/256 Pa.
func (k *Calibration) pressure(raw, fine int64) physic.Pressure {
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
