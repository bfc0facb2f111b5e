// SPDX-License-Identifier: Apache-2.0

package sht4x

import "github.com/streembit/edge"

// Decode gives the tests the conversion from words to samples.
func Decode(words [2]uint16) ([]edge.Sample, error) { return decode(words) }
