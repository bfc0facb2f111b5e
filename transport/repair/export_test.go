// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"

	"github.com/streembit/edge"
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

// Compare looks at one hub once, and returns how many segments it has that this one lacks.
func (r *Repairer) Compare(ctx context.Context, hub edge.ID) (int, error) {
	w := newWork(r.o.Fleet())
	p := &peer{id: hub}
	err := r.ask(ctx, w, p, false)
	if err == nil && p.stats.Error != "" {
		err = errors.New(p.stats.Error)
	}
	return w.lackingBy(p), err
}
