// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/streembit/edge/journal"
)

// Output is one sink of a Group.
type Output struct {
	Name string // in messages; unique in the group
	Sink Sink
	Dead Dead // see Config.Dead

	// Spare says that hubs need not keep readings until this sink has them: one for show, or for trying out.
	Spare bool
}

// Group pulls a fleet into several sinks, each from where it stands and at its own pace: one that is slow or gone is pulled for less often, and holds
// up no other. What one of them has fetched and proven feeds the others, as long as they are within some 16 MB of each other. Hubs are told
// (Config.Signer) what all sinks have that are not spare.
type Group struct {
	all []*Collector
}

// NewGroup returns a Group for at least one output. Config.Sink and Config.Dead are not used. The sinks stay the caller's to close.
func NewGroup(cfg Config, outputs []Output) (*Group, error) {
	if len(outputs) == 0 {
		return nil, errors.New("collector: a group needs a sink")
	}
	g := &Group{}
	agreed := &agreement{have: map[*Collector]map[journal.Chain]journal.Link{}}
	shelf := newShelf()
	for _, o := range outputs {
		own := cfg
		own.Sink, own.Dead = o.Sink, o.Dead
		if cfg.Log != nil && len(outputs) > 1 {
			own.Log = cfg.Log.With("sink", o.Name)
		}
		if o.Spare {
			own.Signer = nil
		}
		c, err := New(own)
		if err != nil {
			return nil, fmt.Errorf("collector: sink %s: %w", o.Name, err)
		}
		c.name = o.Name
		if len(outputs) > 1 {
			c.shelf, c.marker.all = shelf, agreed
		}
		if !o.Spare {
			agreed.have[c] = map[journal.Chain]journal.Link{}
		}
		g.all = append(g.all, c)
	}
	return g, nil
}

// Result is what became of one sink in a pull.
type Result struct {
	Name   string
	Report Report
	Err    error // as that of Collector.Pull
}

// Pull is Collector.Pull for each sink, all at the same time. The results are in the order of the outputs.
func (g *Group) Pull(ctx context.Context) []Result {
	out := make([]Result, len(g.all))
	var wg sync.WaitGroup
	for i, c := range g.all {
		wg.Go(func() {
			r, err := c.Pull(ctx)
			out[i] = Result{c.name, r, err}
		})
	}
	wg.Wait()
	return out
}

// Follow is Collector.Follow for each sink until ctx ends; report is called by one sink at a time.
func (g *Group) Follow(ctx context.Context, report func(sink string, r Report)) error {
	errs := make([]error, len(g.all))
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i, c := range g.all {
		wg.Go(func() {
			errs[i] = c.Follow(ctx, func(r Report) {
				mu.Lock()
				defer mu.Unlock()
				report(c.name, r)
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Progress is that of the sink that is furthest behind, with what all refused.
func (g *Group) Progress() Progress {
	var least Progress
	var refused uint64
	for i, c := range g.all {
		p := c.Progress()
		refused += p.Refused
		if i == 0 || p.Segments < least.Segments {
			least = p
		}
	}
	least.Refused = refused
	return least
}

// FleetChanged tells all, as Collector.FleetChanged does.
func (g *Group) FleetChanged() {
	for _, c := range g.all {
		c.FleetChanged()
	}
}
