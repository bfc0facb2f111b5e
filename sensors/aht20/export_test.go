// SPDX-License-Identifier: Apache-2.0

package aht20

import "github.com/streembit/edge"

// Decode gives the tests the conversion from the chip's bytes to samples.
func Decode(data [7]byte) ([]edge.Sample, error) { return decode(data) }
