// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// ErrNoReader is wrapped by Rewrap when the member has no reader key in the fleet.
var ErrNoReader = errors.New("is no member with a reader key")

// Rewrapping says who gets the keys of older epochs, from whom, and how they are published.
type Rewrapping struct {
	Signer  journal.Signer // the member's, or the owner's, whose reader key opens the epochs (Config.Key)
	To      edge.ID        // the member that gets them; the fleet names its reader key
	Streams []string       // only these; empty = all that both may read
	At      journal.Stamp  // when it is done
	// Publish returns once the segment is published; transport.Publisher does it.
	Publish func(ctx context.Context, seg *journal.Segment) error
}

// Rewrapped is what a Rewrap did.
type Rewrapped struct {
	Chains   int // of devices that were looked at
	Handed   int // epochs whose keys were handed on
	Had      int // epochs that the device, or this member earlier, wrapped for the reader
	Unopened int // epochs that this reader cannot open itself
	Missing  int // epochs whose beginning no hub showed
}

// Rewrap hands the keys of all epochs that cfg.Key opens to another reader: as segments that hubs keep and the reader's collector uses by itself. It
// asks for the right of both, for every stream, and hands on no key that did not open what the device sealed. cfg.Sink is not used. What
// was published before an error stays; running it again hands on what is missing.
func Rewrap(ctx context.Context, cfg Config, o Rewrapping) (Rewrapped, error) {
	var out Rewrapped
	cfg.Sink = nowhere{}
	c, err := New(cfg)
	if err != nil {
		return out, err
	}
	g, ok := cfg.Fleet().Member(o.To)
	if !ok || len(g.Reader) == 0 {
		return out, fmt.Errorf("collector: handing keys to %s: it %w: grant it first", o.To, ErrNoReader)
	}
	to, err := journal.NewReader(g.Reader)
	if err != nil {
		return out, err
	}
	r := newRun(c)
	targets, err := c.survey(ctx, r)
	if err != nil {
		return out, err
	}
	keys, chains := split(targets, func(t *target) bool { return t.chain.Stream == journal.RewrapStream })
	w := &rewrapper{c: c, r: r, o: o, to: to, handed: map[journal.Chain]map[uint64]bool{}, out: &out}
	if w.w, err = journal.NewWriter(cfg.Fleet().ID(), journal.RewrapStream, o.Signer); err != nil {
		return out, err
	}
	c.rewraps.also = w.note
	c.learnRewraps(ctx, r, keys)
	for _, t := range chains {
		if !w.may(t.chain) {
			continue
		}
		out.Chains++
		if err := w.chain(ctx, t); err != nil {
			return out, err
		}
	}
	if err := w.flush(ctx); err != nil {
		return out, err
	}
	return out, ctx.Err()
}

// rewrapper is one Rewrap under way.
type rewrapper struct {
	c      *Collector
	r      *run
	o      Rewrapping
	to     journal.Reader
	w      *journal.Writer
	handed map[journal.Chain]map[uint64]bool // by this member, earlier
	list   []journal.Rewrap                  // not published yet
	out    *Rewrapped
}

// note takes down what was handed on before.
func (w *rewrapper) note(by edge.ID, k journal.Rewrap) {
	if by != w.o.Signer.ID() || k.Reader != w.to.Fingerprint() {
		return
	}
	if w.handed[k.Chain] == nil {
		w.handed[k.Chain] = map[uint64]bool{}
	}
	w.handed[k.Chain][k.Epoch] = true
}

// may reports whether both have the right to a chain.
func (w *rewrapper) may(chain journal.Chain) bool {
	f := w.c.cfg.Fleet()
	return (len(w.o.Streams) == 0 || slices.Contains(w.o.Streams, chain.Stream)) &&
		f.May(w.o.Signer.ID(), fleet.Read, chain.Device, chain.Stream) && f.May(w.o.To, fleet.Read, chain.Device, chain.Stream)
}

// chain goes through the epochs of one chain, the newest first: each segment names the epoch that it is of.
func (w *rewrapper) chain(ctx context.Context, t *target) error {
	p := w.c.pull(w.r, t, &state{})
	if !p.cut() {
		return nil
	}
	for seq, ok := t.before(t.end()); ok; {
		if err := ctx.Err(); err != nil {
			return err
		}
		seg, err := p.find(ctx, seq)
		if err != nil {
			seq, ok = t.before(seq)
			continue
		}
		start := seg
		if seg.Kind != journal.KindEpoch {
			start, err = p.find(ctx, seg.Epoch)
		}
		if err != nil || start.Kind != journal.KindEpoch {
			w.out.Missing++
		} else if err := w.epoch(ctx, p, start, seg); err != nil {
			return err
		}
		seq, ok = t.before(seg.Epoch)
	}
	return nil
}

// epoch hands one key on; probe is a segment of the epoch that shows whether the key is right, or the start itself where there is no other.
func (w *rewrapper) epoch(ctx context.Context, p *pull, start, probe *journal.Segment) error {
	if start.WrappedFor(w.to) || w.handed[start.Chain][start.Epoch] {
		w.out.Had++
		return nil
	}
	o := w.c.opener(start.Chain)
	_, err := o.learn(start)
	if err == nil && probe != start {
		_, err = o.open(ctx, probe, p.find)
	}
	if _, sealed := o.sealed[start.Epoch]; sealed || err != nil {
		w.out.Unopened++
		return nil
	}
	var k journal.Rewrap
	err = o.ring.use(func(keys *journal.Keyring) (err error) {
		k, err = keys.Rewrap(w.o.Signer.ID(), start.Chain, start.Epoch, w.to)
		return err
	})
	if err != nil {
		return err
	}
	w.out.Handed++
	if w.list = append(w.list, k); len(w.list) == journal.MaxRewraps {
		return w.flush(ctx)
	}
	return nil
}

func (w *rewrapper) flush(ctx context.Context) error {
	if len(w.list) == 0 {
		return nil
	}
	seg, err := w.w.Rewraps(w.list, w.o.At)
	if err == nil {
		err = w.w.Commit(seg) // its chain is of this call alone, so that nothing can take its place
	}
	if err == nil {
		err = w.o.Publish(ctx, seg)
	}
	if err != nil {
		return fmt.Errorf("collector: publishing %d keys for %s: %w", len(w.list), w.o.To, err)
	}
	w.list = nil
	return nil
}

// nowhere is a sink that has nothing.
type nowhere struct{}

func (nowhere) Marks(context.Context) (map[journal.Chain]Mark, error) { return nil, nil }

func (nowhere) Write(context.Context, Batch) error { return nil }

func (nowhere) Close() error { return nil }
