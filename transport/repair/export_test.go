// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// What the fuzz tests reach into.
var (
	Runs  = runs
	Below = below
)

// NewChecker returns what judges the ranges of one answer.
func NewChecker(f journal.FleetID, q transport.RangeQuery) func(transport.Range) error {
	c := &checker{fleet: f, query: q}
	return c.check
}
