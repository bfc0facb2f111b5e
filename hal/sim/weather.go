// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"time"
)

// Air is the state of the air at one time.
type Air struct {
	Celsius float64 // temperature
	Pascal  float64 // barometric pressure
	Percent float64 // relative humidity
}

// Weather makes plausible air: a daily temperature curve that is lowest before sunrise, pressure that drifts over days,
// humidity that falls when it gets warm, and a little noise in each. It is a function of Seed and time alone.
type Weather struct{ Seed uint64 }

const day = 24 * time.Hour

// At returns the air at t.
func (w Weather) At(t time.Time) Air {
	hours := float64(t.UnixMilli()) / float64(time.Hour/time.Millisecond)
	daily := math.Sin(2 * math.Pi * (hours - 9) / 24) // 0 at 09:00, highest at 15:00 UTC
	front := w.drift(hours/24, 1)
	celsius := 14 + 5.5*daily + 3*front + w.noise(t, 2)*0.03
	return Air{
		Celsius: celsius,
		Pascal:  101325 - 900*w.drift(hours/24, 3) + w.noise(t, 4)*1.5,
		Percent: min(max(62-2.4*(celsius-14)+6*w.drift(hours/24, 5)+w.noise(t, 6)*0.15, 3), 99),
	}
}

// CO2 returns the carbon dioxide in a room, in ppm: fresh air and what the people leave who are there by day, more on some days.
func (w Weather) CO2(t time.Time) float64 {
	days := float64(t.UnixMilli()) / float64(day/time.Millisecond)
	return 420 + 700*daylight(t)*(0.6+0.4*w.drift(days, 7)) + w.noise(t, 8)*4
}

// Lux returns the light outdoors in the shade: clouds move before the sun, and a lamp is on at night.
func (w Weather) Lux(t time.Time) float64 {
	hours := float64(t.UnixMilli()) / float64(time.Hour/time.Millisecond)
	sun := max(0, 2*daylight(t)-1) // from 06:00 to 18:00 UTC
	clouds := 0.6 + 0.4*w.drift(hours, 9)
	return (2.5 + 12000*sun*clouds) * (1 + 0.01*w.noise(t, 13))
}

// Battery returns the voltage and the current of a 12 V battery behind a solar panel; the current is positive while it is charged.
func (w Weather) Battery(t time.Time) (volts, amperes float64) {
	charge := w.Lux(t) / 12000
	amperes = 1.6*charge - 0.25 + 0.002*w.noise(t, 14)
	evening := math.Sin(2 * math.Pi * float64(t.UnixNano()%int64(day)-int64(12*time.Hour)) / float64(day))
	return 12.6 + 0.25*evening + 0.35*amperes, amperes
}

// analogue returns what is at the inputs of the board's analogue converters, in V: an eighth of the battery's voltage, a photo
// resistor, a thermistor, and nothing.
func (w Weather) analogue() [4]func(time.Time) float64 {
	return [4]func(time.Time) float64{
		func(t time.Time) float64 { volts, _ := w.Battery(t); return volts / 8 },
		func(t time.Time) float64 { lux := w.Lux(t); return 2 * lux / (lux + 5000) },
		func(t time.Time) float64 { return 0.7 + 0.01*w.At(t).Celsius },
		func(time.Time) float64 { return 0 },
	}
}

// drift moves within ±1 with periods of days. The three periods have no common multiple that anybody waits for.
func (w Weather) drift(days float64, channel uint64) float64 {
	sum := 0.0
	for i, period := range [...]float64{3.7, 6.1, 11.3} {
		sum += math.Sin(2 * math.Pi * (days/period + unit(w.Seed, channel, uint64(i))))
	}
	return sum / 3
}

// noise is near to normal with deviation 1, constant within 10 ms.
func (w Weather) noise(t time.Time, channel uint64) float64 {
	slot := uint64(t.UnixMilli() / 10)
	sum := -6.0
	for i := range uint64(12) { // the sum of twelve uniform numbers has variance 1
		sum += unit(w.Seed, channel<<8|i, slot)
	}
	return sum
}

// unit returns a number in [0, 1) that depends on its arguments alone (the finaliser of SplitMix64, applied to each).
func unit(parts ...uint64) float64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, p := range parts {
		h = (h ^ p) + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return float64(h>>11) / (1 << 53)
}
