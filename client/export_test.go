// SPDX-License-Identifier: Apache-2.0

package client

import (
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Remember reads a memory and writes it again.
func Remember(text []byte) ([]byte, error) {
	s := &sink{marks: map[journal.Chain]collector.Mark{}, clocks: map[boot]journal.ClockNote{}}
	if err := s.decode(text); err != nil {
		return nil, err
	}
	return s.encode()
}
