// SPDX-License-Identifier: Apache-2.0

package bme280

import (
	"github.com/streembit/edge"
	"github.com/streembit/edge/sensors/bmxx80"
)

// Decoder gives the tests the conversion from registers to samples.
type Decoder struct {
	cal      bmxx80.Calibration
	humidity humidity
}

func NewDecoder(first [26]byte, second [7]byte) *Decoder {
	return &Decoder{bmxx80.Parse(first), parseHumidity(first[25], second)}
}

// Samples converts the eight data registers.
func (d *Decoder) Samples(data [8]byte) ([]edge.Sample, error) {
	return samples(&d.cal, &d.humidity, data)
}
