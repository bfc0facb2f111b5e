// SPDX-License-Identifier: Apache-2.0

package bme280

import (
	"github.com/streembit/edge"
)

// Decoder gives the tests the conversion from registers to samples.
type Decoder struct{ cal calibration }

func NewDecoder(first [26]byte, second [7]byte) *Decoder {
	return &Decoder{parseCalibration(first, second)}
}

// Samples converts the eight data registers.
func (d *Decoder) Samples(data [8]byte) ([]edge.Sample, error) { return d.cal.samples(data) }
