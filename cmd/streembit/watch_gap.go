// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	fillLimit = 3 * time.Minute // for what the device has yet to seal and publish
	fillAgain = 5 * time.Second
	maxFilled = 200_000 // readings
)

// lastSeen is how far a watch has come.
type lastSeen struct {
	boot journal.BootID
	at   edge.Instant     // of the newest reading
	mono map[string]int64 // of each value's newest, in that boot
	anew bool             // the device's program has started anew since
}

func (s *lastSeen) note(word direct.Live) {
	if len(word.Readings) == 0 {
		return
	}
	if s.mono == nil || s.boot != word.Boot {
		s.boot, s.at, s.mono = word.Boot, edge.Instant{}, map[string]int64{}
	}
	for _, r := range word.Readings {
		s.mono[r.Name()] = r.At.Mono
		if r.At.Mono >= s.at.Mono {
			s.at = r.At
		}
	}
}

// hole is a time in which readings were taken that the device does not have any more.
type hole struct {
	from lastSeen
	boot journal.BootID // of what came after
	to   edge.Instant
	next map[string]int64 // each value's first reading after it, as far as known
	lost uint64           // 0 = nobody knows
}

// gap tells of a hole before word's readings, and has it filled if it can be.
func (d *watched) gap(word direct.Live) {
	h := hole{from: d.seen, boot: word.Boot, lost: word.Lost, next: map[string]int64{}}
	h.from.mono = maps.Clone(d.seen.mono)
	for i, r := range word.Readings {
		if _, there := h.next[r.Name()]; !there {
			h.next[r.Name()] = r.At.Mono
		}
		if i == 0 || r.At.Mono < h.to.Mono {
			h.to = r.At
		}
	}
	text := "a gap of " + h.length()
	switch {
	case h.lost > 0:
		text += ", " + plural(h.lost, "reading")
	case d.seen.anew:
		text += ": the device's program has started anew"
	}
	key, ok := d.readerKey()
	if !ok || len(h.next) == 0 || d.seen.mono == nil {
		d.show.say(d.g, "%s. The hubs get what the device seals: streembit pull", text)
		return
	}
	d.show.say(d.g, "%s, to be filled from the hubs", text)
	d.fills.Go(func() { d.fill(d.ctx, key, &h) })
}

// length says how long the hole is, as far as the clocks allow.
func (h *hole) length() string {
	var ms int64
	switch {
	case h.from.mono == nil || len(h.next) == 0:
		return "unknown length"
	case h.from.boot == h.boot:
		ms = h.to.Mono - h.from.at.Mono
	case h.from.at.Synced() && h.to.Synced():
		ms = h.to.Wall - h.from.at.Wall
	default:
		return "unknown length"
	}
	return (time.Duration(max(0, ms)) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// has reports whether a reading lies in the hole.
func (h *hole) has(boot journal.BootID, r *edge.Reading) bool {
	after, before := true, true
	if boot == h.from.boot {
		mono, seen := h.from.mono[r.Name()]
		after = seen && r.At.Mono > mono || !seen && r.At.Mono > h.from.at.Mono
	}
	if boot == h.boot {
		mono, known := h.next[r.Name()]
		before = known && r.At.Mono < mono || !known && r.At.Mono < h.to.Mono
	}
	if boot != h.from.boot && boot != h.boot { // a boot in between, if that can be known
		return r.At.Synced() && h.from.at.Synced() && h.to.Synced() && r.At.Wall > h.from.at.Wall && r.At.Wall < h.to.Wall
	}
	return after && before
}

// passed reports whether an instant is after the hole.
func (h *hole) passed(boot journal.BootID, at edge.Instant) bool {
	return boot == h.boot && at.Mono >= h.to.Mono
}

// preceded reports whether a segment ended before the hole.
func (h *hole) preceded(s *journal.Segment) bool {
	if s.Count == 0 {
		return false
	}
	if s.Boot == h.from.boot {
		for _, mono := range h.from.mono { // also that of the value which comes most seldom
			if s.Mono > mono {
				return false
			}
		}
		return true
	}
	return s.Wall != 0 && h.from.at.Synced() && s.Wall < h.from.at.Wall
}

// readerKey is the key of this folder with which the device seals, if the fleet's log has it.
func (d *watched) readerKey() (journal.ReaderKey, bool) {
	key, err := fleet.LoadReaderKey(stateDir(d.r.dir).reader())
	if err != nil {
		return key, false
	}
	g, ok := d.r.known().Member(d.r.author.Key.ID())
	return key, ok && bytes.Equal(g.Reader, key.Public())
}

// fill pulls what lies in the hole, until the hubs have what came after it.
func (d *watched) fill(ctx context.Context, key journal.ReaderKey, h *hole) {
	limited, cancel := context.WithTimeout(ctx, fillLimit)
	defer cancel()
	sink := &holeSink{h: h, name: d.w.value, starts: map[journal.Chain]collector.Mark{}, rows: map[string]shownReading{}, passed: map[string]bool{}}
	t := time.NewTicker(fillAgain)
	defer t.Stop()
	for {
		err := d.pullHole(limited, key, sink)
		all := sink.fresh()
		d.show.readings(d.g, viaHubs, all)
		n, over := sink.state()
		switch {
		case over:
			d.show.say(d.g, "the gap of %s: %s from the hubs%s", h.length(), plural(n, "reading"), h.missing(n))
			return
		case err != nil:
			d.r.log.Info("gap not filled yet", "device", d.g.Name, "err", err)
		}
		select {
		case <-t.C:
		case <-limited.Done():
			d.show.say(d.g, "the gap of %s: %s from the hubs, which do not have all of it yet. Later: streembit pull", h.length(), plural(n, "reading"))
			return
		}
	}
}

// missing says what the hubs did not have, of what the device has counted.
func (h *hole) missing(n uint64) string {
	if h.lost <= n {
		return ""
	}
	return fmt.Sprintf(", %d of %d are not among them: not yours to read, or lost", h.lost-n, h.lost)
}

// pullHole pulls from just before the hole on.
func (d *watched) pullHole(ctx context.Context, key journal.ReaderKey, sink *holeSink) error {
	if err := d.findStarts(ctx, sink); err != nil {
		return err
	}
	c, err := collector.New(collector.Config{Source: d.r.hubs.node, Sink: sink, Fleet: d.r.known, Key: key, Reader: d.r.author.Key.ID(),
		Devices: d.keys(), Log: d.r.log.With("part", "collector")})
	if err != nil {
		return err
	}
	_, err = c.Pull(ctx)
	return err
}

// findStarts looks, in each chain, for a segment that ended before the hole: in steps that double, from the end.
func (d *watched) findStarts(ctx context.Context, sink *holeSink) error {
	var last error
	found := false
	for _, hub := range d.r.known().Hubs() {
		held, err := d.heldBy(ctx, hub.Member)
		if err != nil {
			last = err
			continue
		}
		found = true
		for _, h := range held {
			if _, there := sink.start(h.Chain); there || !d.r.known().May(d.r.author.Key.ID(), fleet.Read, h.Chain.Device, h.Chain.Stream) {
				continue
			}
			link, err := d.findStart(ctx, hub.Member, h, sink.h)
			if err != nil {
				last, found = err, false
				continue
			}
			sink.setStart(h.Chain, link)
		}
	}
	if found {
		return nil
	}
	return last
}

// keys returns the keys under which the device may have published: the present one, and those that it had before.
func (d *watched) keys() []edge.ID {
	all := []edge.ID{d.g.Member}
	for _, g := range d.r.known().FormerDevices(d.g.Name) {
		all = append(all, g.Member)
	}
	return all
}

func (d *watched) heldBy(ctx context.Context, hub edge.ID) (all []transport.Held, err error) {
	for _, key := range d.keys() {
		held, err := d.r.hubs.node.Held(ctx, hub, key)
		if err != nil {
			return nil, err
		}
		for _, h := range held {
			if h.Chain.Device == key {
				all = append(all, h)
			}
		}
	}
	return all, nil
}

func (d *watched) findStart(ctx context.Context, hub edge.ID, held transport.Held, h *hole) (*journal.Link, error) {
	seq, ok := held.Last()
	if !ok {
		return nil, nil
	}
	for step := uint64(1); ; step *= 2 {
		var seg *journal.Segment
		err := d.r.hubs.node.Fetch(ctx, hub, held.Chain, transport.Span{First: seq, Last: seq}, func(raw []byte) (err error) {
			seg, err = journal.OpenFrom(raw, held.Chain, seq)
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case seg != nil && h.preceded(seg):
			return &journal.Link{Seq: seq, Hash: seg.Hash}, nil
		case seq <= step: // the chain begins in the hole, or this hub has let its beginning go
			return nil, nil
		}
		seq -= step
	}
}

// holeSink keeps what lies in a hole; it is a collector.Sink that remembers its starts for one fill.
type holeSink struct {
	h    *hole
	name string // only this value; "" = all

	mu     sync.Mutex
	starts map[journal.Chain]collector.Mark
	rows   map[string]shownReading // by identity; those that were shown have no sensor any more
	order  []string                // that are to be shown
	passed map[string]bool         // by stream: whether there is something after the hole
	full   bool
}

func (s *holeSink) start(c journal.Chain) (collector.Mark, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.starts[c]
	return m, ok
}

func (s *holeSink) setStart(c journal.Chain, link *journal.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts[c] = collector.Mark{Link: link}
}

// Marks implements collector.Sink.
func (s *holeSink) Marks(context.Context) (map[journal.Chain]collector.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[journal.Chain]collector.Mark{}
	for c, m := range s.starts {
		if m.Link != nil {
			out[c] = m
		}
	}
	return out, nil
}

// Write implements collector.Sink.
func (s *holeSink) Write(_ context.Context, b collector.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range b.Readings {
		r := &b.Readings[i]
		s.passed[b.Chain.Stream] = s.passed[b.Chain.Stream] || s.h.passed(r.Boot, r.At)
		if s.name != "" && s.name != r.Name() || !s.h.has(r.Boot, &r.Reading) {
			continue
		}
		id := fmt.Sprintf("%s/%d/%d", b.Chain, r.Seq, r.Index)
		if _, there := s.rows[id]; there {
			continue
		}
		if s.full = len(s.rows) >= maxFilled; s.full {
			break
		}
		seq := r.Seq
		s.rows[id] = shownReading{Reading: r.Reading, boot: r.Boot, seq: &seq, id: id}
		s.order = append(s.order, id)
	}
	return nil
}

// fresh returns what has come since the last call.
func (s *holeSink) fresh() []shownReading {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]shownReading, 0, len(s.order))
	for _, id := range s.order {
		out = append(out, s.rows[id])
		s.rows[id] = shownReading{}
	}
	s.order = nil
	return out
}

// state returns how many readings there were, and whether nothing more is to come: each stream that is read has something from after the hole.
func (s *holeSink) state() (n uint64, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	over = len(s.passed) > 0
	for _, passed := range s.passed {
		over = over && passed
	}
	return uint64(len(s.rows)), over || s.full
}

// Close implements collector.Sink.
func (s *holeSink) Close() error { return nil }
