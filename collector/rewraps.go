// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// rewraps are the keys of older epochs that other members handed to this reader. Safe for concurrent use.
type rewraps struct {
	mu   sync.Mutex
	keys map[journal.Chain]map[uint64][]offered
	read map[journal.Chain]journal.Link     // how far each chain of rewraps was read since the start
	late late                               // what is not done yet
	also func(by edge.ID, k journal.Rewrap) // told of all, those for others included; nil: nobody
}

// offered is a rewrap for this reader by a member that may read the stream.
type offered struct {
	by     edge.ID
	seq    uint64 // of the segment that has it
	rewrap journal.Rewrap
}

func newRewraps() *rewraps {
	return &rewraps{keys: map[journal.Chain]map[uint64][]offered{}, read: map[journal.Chain]journal.Link{}, late: newLate()}
}

// of returns what was offered for an epoch. It only ever grows at its end.
func (w *rewraps) of(c journal.Chain, epoch uint64) []offered {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.keys[c][epoch]
}

func (w *rewraps) add(o offered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	epochs := w.keys[o.rewrap.Chain]
	if epochs == nil {
		epochs = map[uint64][]offered{}
		w.keys[o.rewrap.Chain] = epochs
	}
	epochs[o.rewrap.Epoch] = append(epochs[o.rewrap.Epoch], o)
}

// isRewraps reports whether a chain may hold keys for this reader.
func (c *Collector) isRewraps(chain journal.Chain) bool {
	f := c.cfg.Fleet()
	return chain.Fleet == f.ID() && chain.Stream == journal.RewrapStream && f.IsMember(chain.Device)
}

// rewrappers returns those whose chains of rewraps are to be asked for: all who may read something.
func rewrappers(f *fleet.Fleet) []edge.ID {
	owners := f.State().Owners
	out := owners[:]
	for _, g := range f.Members() {
		if slices.ContainsFunc(g.Rights, func(r fleet.Right) bool { return r.Do == fleet.Read }) && !slices.Contains(out, g.Member) {
			out = append(out, g.Member)
		}
	}
	return out
}

// late says what is to be done about rewraps that came after the epochs that they open had been passed.
type late struct {
	epochs map[journal.Chain][]uint64     // to be pulled again
	marks  map[journal.Chain]journal.Link // of the chains of rewraps, once that is done
}

func newLate() late {
	return late{epochs: map[journal.Chain][]uint64{}, marks: map[journal.Chain]journal.Link{}}
}

// again is what a pass over known segments is for; nil for other passes.
type again struct {
	epochs []uint64 // that can be opened now, ascending; those that the pass has come to are taken out
	missed bool     // not everything was to be had
	over   atomic.Bool
}

func (a *again) isOver() bool { return a != nil && a.over.Load() }

// ends reports whether the pass ends before a segment: where an epoch begins that it is not for.
func (a *again) ends(seg *journal.Segment) bool {
	if a == nil || seg.Kind != journal.KindEpoch {
		return false
	}
	for len(a.epochs) > 0 && a.epochs[0] < seg.Epoch {
		a.epochs = a.epochs[1:] // could not be had
	}
	if len(a.epochs) > 0 && a.epochs[0] == seg.Epoch {
		a.epochs = a.epochs[1:]
		return false
	}
	a.over.Store(true)
	return true
}

// open reports whether a span lies in an open gap.
func (m *Mark) open(span transport.Span) bool {
	return slices.ContainsFunc(m.Gaps, func(g Gap) bool { return g.First <= span.First && span.Last <= g.Last })
}

// learnRewraps reads what is new in the chains of rewraps, from the beginning after each start: keys are kept in memory only.
func (c *Collector) learnRewraps(ctx context.Context, r *run, targets []*target) {
	out := c.rewraps.late
	ring := journal.NewKeyring(c.cfg.Key)
	for _, t := range targets {
		p := &pull{c: c, r: r, t: t}
		for ctx.Err() == nil {
			seg, list, err := p.nextRewraps(ctx)
			if err != nil {
				r.bad(Bad{By: t.chain.Device, Chain: t.chain, Seq: p.rewrapsFrom(), Err: err})
			}
			if seg == nil {
				break
			}
			c.rewraps.read[t.chain] = seg.Link()
			done := c.states[t.chain] != nil && c.states[t.chain].mark.Link != nil && c.states[t.chain].mark.Link.Seq >= seg.Seq
			if !done {
				out.marks[t.chain] = seg.Link()
			}
			for _, w := range list {
				if c.rewraps.also != nil {
					c.rewraps.also(seg.Chain.Device, w)
				}
				if !ring.For(w) {
					continue
				}
				c.rewraps.add(offered{by: seg.Chain.Device, seq: seg.Seq, rewrap: w})
				if !done && c.accounted(w.Chain, w.Epoch) && c.wanted(w.Chain) {
					out.epochs[w.Chain] = append(out.epochs[w.Chain], w.Epoch)
				}
			}
		}
	}
}

func (p *pull) rewrapsFrom() uint64 {
	if l, ok := p.c.rewraps.read[p.t.chain]; ok {
		return l.Seq + 1
	}
	return 0
}

// nextRewraps fetches and proves the next segment of a chain of rewraps; nil: no hub has it. With an error beside a segment its rewraps do not count.
func (p *pull) nextRewraps(ctx context.Context) (*journal.Segment, []journal.Rewrap, error) {
	from := p.rewrapsFrom()
	if next, ok := p.t.next(from); !ok || next != from {
		return nil, nil, nil
	}
	seg, err := p.find(ctx, from)
	if err != nil {
		return nil, nil, nil //nolint:nilerr // no hub shows what it claims: it is tried again with the next pull
	}
	var link *journal.Link
	if l, ok := p.c.rewraps.read[p.t.chain]; ok {
		link = &l
	}
	if err := link.Check(&seg.Header); err != nil {
		return nil, nil, err
	}
	if err := transport.Admit(p.c.cfg.Fleet(), seg); err != nil {
		return seg, nil, err
	}
	list, err := seg.Rewraps()
	return seg, list, err
}

// replay pulls again what new rewraps open and was passed before as sealed for others, then notes in the sink that the rewraps are done, so
// that no later start does it again.
func (c *Collector) replay(ctx context.Context, r *run) error {
	l := c.rewraps.late
	if len(l.epochs) > 0 {
		targets, err := c.survey(ctx, r)
		if err != nil {
			return err
		}
		for chain, epochs := range l.epochs {
			i := slices.IndexFunc(targets, func(t *target) bool { return t.chain == chain })
			if i < 0 || c.states[chain] == nil {
				continue
			}
			slices.Sort(epochs)
			whole, err := c.replayChain(ctx, r, targets[i], slices.Compact(epochs))
			if err != nil {
				return err
			}
			if !whole { // a hub is away: all of it is done once more
				return nil
			}
		}
	}
	for chain, link := range l.marks {
		if err := c.noteDone(ctx, chain, link); err != nil {
			return fmt.Errorf("collector: noting that the rewraps of %s are done: %w", chain.Device, err)
		}
	}
	c.rewraps.late = newLate()
	return nil
}

func (c *Collector) replayChain(ctx context.Context, r *run, t *target, epochs []uint64) (whole bool, err error) {
	st, whole := c.states[t.chain], true
	p := c.pull(r, t, st)
	if !p.cut() || st.mark.Link == nil {
		return true, nil
	}
	for len(epochs) > 0 {
		s := &pass{pull: p, first: epochs[0], last: st.mark.Link.Seq, fill: true, restart: true, opener: c.opener(t.chain), again: &again{epochs: epochs}}
		if s.first > s.last {
			break
		}
		if err := s.run(ctx); err != nil {
			return false, err
		}
		whole = whole && !s.again.missed
		epochs = slices.DeleteFunc(s.again.epochs, func(e uint64) bool { return e <= s.first })
	}
	return whole, nil
}

// noteDone moves the mark of a chain of rewraps.
func (c *Collector) noteDone(ctx context.Context, chain journal.Chain, link journal.Link) error {
	st := c.states[chain]
	if st == nil {
		st = &state{opener: c.opener(chain)}
		c.states[chain] = st
	}
	b := Batch{Chain: chain, Name: c.cfg.Fleet().NameOf(chain.Device), To: link.Seq, Mark: &link}
	if st.mark.Link != nil {
		b.From = st.mark.Link.Seq + 1
	}
	if err := c.cfg.Sink.Write(ctx, b); err != nil {
		return err
	}
	st.mark.Link = &link
	return nil
}
