// SPDX-License-Identifier: Apache-2.0

package sim

import "math"

// search returns the smallest raw value in [1, limit) from which on reached holds.
func search(limit uint32, reached func(raw float64) bool) uint32 {
	low, high := uint32(1), limit-1
	for low < high {
		if mid := low + (high-low)/2; reached(float64(mid)) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// The three formulas are the double-precision ones of §8.1; the driver uses the integer ones, so each checks the other.

func (c calibration) fine(raw float64) float64 {
	v1 := (raw/16384 - float64(c.t1)/1024) * float64(c.t2)
	d := raw/131072 - float64(c.t1)/8192
	return v1 + d*d*float64(c.t3)
}

func (c calibration) pascal(raw, fine float64) float64 {
	p := c.p
	v1 := fine/2 - 64000
	v2 := v1*v1*float64(p[4])/32768 + v1*float64(p[3])*2
	v2 = v2/4 + float64(p[2])*65536
	v1 = (float64(p[1])*v1*v1/524288 + float64(p[0])*v1) / 524288
	v1 = (1 + v1/32768) * float64(c.p1)
	if v1 == 0 {
		return math.Inf(1)
	}
	out := (1048576 - raw - v2/4096) * 6250 / v1
	v1 = float64(p[7]) * out * out / 2147483648
	v2 = out * float64(p[6]) / 32768
	return out + (v1+v2+float64(p[5]))/16
}

func (c calibration) percent(raw, fine float64) float64 {
	h := fine - 76800
	h = (raw - (float64(c.h4)*64 + float64(c.h5)/16384*h)) *
		(float64(c.h2) / 65536 * (1 + float64(c.h6)/67108864*h*(1+float64(c.h3)/67108864*h)))
	return h * (1 - float64(c.h1)*h/524288)
}
