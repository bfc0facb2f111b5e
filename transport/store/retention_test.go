// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

const day = 24 * time.Hour

// keeping is a fleet with two collectors and retentions, and a hub whose clock is right unless off says otherwise.
type keeping struct {
	*changing
	one, two journal.SoftKey
	off      time.Duration
	unknown  bool
}

func newKeeping(t testing.TB) *keeping {
	w := &keeping{changing: newChanging(t), one: key(70), two: key(71)}
	for _, c := range []journal.SoftKey{w.one, w.two} {
		w.admit(t, c, "main", "slow")
	}
	return w
}

// admit makes somebody a collector that may read some streams.
func (w *keeping) admit(t testing.TB, c journal.SoftKey, streams ...string) {
	t.Helper()
	rk, err := journal.GenerateReaderKey()
	check(t, err)
	f, err := w.now.Load().Grant(fleet.Author{Key: key(1)}, time.Now(), fleet.Grant{Member: c.ID(), Name: "reader-" + strings.ToLower(c.ID().Short()), Roles: fleet.Collector,
		Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: streams}}, Reader: rk.Public()})
	check(t, err)
	w.now.Store(f)
}

func (w *keeping) retain(t testing.TB, age time.Duration, required ...journal.SoftKey) {
	t.Helper()
	w.retainStream(t, "*", age, required...)
}

func (w *keeping) retainStream(t testing.TB, stream string, age time.Duration, required ...journal.SoftKey) {
	t.Helper()
	r := fleet.Retention{Name: "of-" + strings.Trim(stream, "*"), On: []string{"*"}, Streams: []string{stream}, MaxAge: age.Milliseconds()}
	for _, k := range required {
		r.Required = append(r.Required, k.ID())
	}
	f, err := w.now.Load().Retain(fleet.Author{Key: key(1)}, time.Now(), r)
	check(t, err)
	w.now.Store(f)
}

func (w *keeping) options() store.Options {
	o := w.changing.options()
	o.Now = func() (int64, bool) { return time.Now().Add(w.off).UnixMilli(), !w.unknown }
	return o
}

// epoch makes an epoch of n segments.
func (c *chain) epoch(n int) []*journal.Segment {
	c.started = false
	return c.many(n)
}

func sweep(t testing.TB, s *store.Store) {
	t.Helper()
	check(t, s.Sweep(context.Background()))
}

// heldOf returns what a store tells of one chain.
func heldOf(t testing.TB, s *store.Store, c *chain) transport.Held {
	t.Helper()
	all, err := s.Held(context.Background(), c.w.Chain().Device)
	check(t, err)
	for _, h := range all {
		if h.Chain == c.w.Chain() {
			return h
		}
	}
	return transport.Held{}
}

func (c *chain) wants(s *store.Store, floor uint64, past transport.Past, spans ...transport.Span) {
	c.t.Helper()
	h := heldOf(c.t, s, c)
	if h.Floor != floor || h.Past != past || !slices.Equal(h.Spans, spans) {
		c.t.Fatalf("it holds %v, floor %d (%s); want %v, floor %d (%s)", h.Spans, h.Floor, h.Past, spans, floor, past)
	}
}

func marks(t testing.TB, w *keeping, who journal.SoftKey, segs ...*journal.Segment) []byte {
	t.Helper()
	var list []journal.Watermark
	for _, s := range segs {
		list = append(list, journal.Watermark{Chain: s.Chain, Link: s.Link()})
	}
	signed, err := journal.SignWatermarks(who, w.fleet.ID(), list)
	check(t, err)
	return signed
}

// TestLetsGoByAge: whole epochs, when the last of them has been held for the maximum age; what was let go is told, refused and not forgotten.
func TestLetsGoByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		s := open(t, dir, w.options())
		c := w.chain(t, w.device, "main")
		var segs []*journal.Segment
		for range 3 {
			made := c.epoch(10)
			put(t, s, made...)
			segs = append(segs, made...)
			time.Sleep(day)
		}
		reopen := func() {
			check(t, s.Close())
			s = open(t, dir, w.options())
		}
		for _, step := range []struct {
			after time.Duration // since the first segment
			floor uint64
			past  transport.Past
		}{
			{7*day + time.Minute, 0, transport.PastNone}, // the first epoch ended when the second began
			{8*day + time.Minute, 10, transport.PastAge},
			{9*day - time.Minute, 10, transport.PastAge},
			{9*day + time.Minute, 20, transport.PastAge},
			{38 * day, 20, transport.PastAge}, // of the last one more may come
		} {
			time.Sleep(step.after - time.Since(start(segs)))
			sweep(t, s)
			for range 2 {
				c.wants(s, step.floor, step.past, transport.Span{First: step.floor, Last: 29})
				if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(segs[step.floor:])) {
					t.Fatalf("after %s it gives %d segments", step.after, len(got))
				}
				reopen()
			}
		}
		refused(t, s.Put(t.Context(), segs[19].Bytes()), transport.RefusedPast, w.hub.ID(), "below 20")
		refused(t, s.PutDated(t.Context(), segs[0].Bytes(), time.Now().UnixMilli()), transport.RefusedPast, w.hub.ID(), "maximum age")
		time.Sleep(2 * day)
		sweep(t, s)
		c.wants(s, 30, transport.PastAge)
		reopen()
		c.wants(s, 30, transport.PastAge)
		if st := s.Stats(); st.Segments != 0 || st.Oldest != 0 {
			t.Errorf("all is gone: %+v", st)
		}
		jw, err := journal.ResumeWriter(c.w.Chain(), &journal.Link{Seq: 29, Hash: segs[0].Hash}, w.device)
		check(t, err)
		refused(t, s.Put(t.Context(), (&chain{t: t, w: jw, readers: w.readers}).epoch(1)[0].Bytes()), transport.RefusedFork, w.hub.ID(), "continue")
		put(t, s, c.epoch(2)...)
		c.wants(s, 30, transport.PastAge, transport.Span{First: 30, Last: 31})
	})
}

// start returns the beginning of the bubble's time, when the first segment was put.
func start([]*journal.Segment) time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// TestAwayForThirtyDays: a required collector that comes after 30 days gets all of a stream that is held for 30 days, though another one took it all at
// once; when both have it, it goes.
func TestAwayForThirtyDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeeping(t)
		w.retain(t, 30*day, w.one, w.two)
		s := open(t, t.TempDir(), w.options())
		c := w.chain(t, w.device, "main")
		var segs []*journal.Segment
		for range 30 {
			made := c.epoch(5)
			put(t, s, made...)
			segs = append(segs, made...)
			check(t, s.Mark(t.Context(), marks(t, w, w.one, made[4])))
			sweep(t, s)
			time.Sleep(day)
		}
		sweep(t, s)
		if waits := s.Waits(); len(waits) != 2 || waits[slices.IndexFunc(waits, func(x store.Wait) bool { return x.Collector == w.two.ID() })] !=
			(store.Wait{Collector: w.two.ID(), Chains: 1, Segments: len(segs), Oldest: start(nil).UnixMilli()}) {
			t.Errorf("who holds back what: %+v", waits)
		}
		if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(segs)) {
			t.Fatalf("after 30 days it gets %d of %d", len(got), len(segs))
		}
		check(t, s.Mark(t.Context(), marks(t, w, w.two, segs[100])))
		sweep(t, s)
		c.wants(s, 100, transport.PastCollected, transport.Span{First: 100, Last: 149})
		check(t, s.Mark(t.Context(), marks(t, w, w.two, segs[149])))
		sweep(t, s)
		c.wants(s, 145, transport.PastCollected, transport.Span{First: 145, Last: 149}) // the last epoch may go on
		if st := s.Stats(); st.LetGo[transport.PastCollected] != 145 {
			t.Errorf("let go: %v", st.LetGo)
		}
	})
}

// TestMarksThatDoNotCount: forged, old, foreign, contradicting and no longer authorised words let nothing go.
func TestMarksThatDoNotCount(t *testing.T) {
	w, dir := newKeeping(t), t.TempDir()
	w.retain(t, 7*day, w.one)
	s := open(t, dir, w.options())
	c := w.chain(t, w.device, "main")
	twin := (*chain)(nil)
	segs := c.epoch(10)
	twin = c.twin(w.device)
	twin.readers = w.readers
	segs = append(segs, c.epoch(10)...)
	other := twin.epoch(1)[0]
	put(t, s, segs...)
	ctx := t.Context()
	forged := marks(t, w, w.one, segs[19])
	forged[len(forged)-1] ^= 1
	refused(t, s.Mark(ctx, forged), transport.RefusedInvalid, w.hub.ID(), "")
	refused(t, s.Mark(ctx, marks(t, w, w.device, segs[19])), transport.RefusedNotAllowed, w.hub.ID(), "collector")
	refused(t, s.Mark(ctx, marks(t, w, key(99), segs[19])), transport.RefusedNotAllowed, w.hub.ID(), "collector")
	check(t, s.Mark(ctx, marks(t, w, w.two, segs[19]))) // not required
	check(t, s.Mark(ctx, marks(t, w, w.one, other)))    // of another branch
	check(t, s.Mark(ctx, marks(t, w, w.one, segs[4])))  // inside an epoch
	check(t, s.Mark(ctx, marks(t, w, w.one, segs[3])))  // older
	sweep(t, s)
	c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 19})

	good := marks(t, w, w.one, segs[12])
	w.admit(t, w.one, "slow") // it may not read the chain's stream now
	check(t, s.Mark(ctx, good))
	sweep(t, s)
	c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 19})
	w.admit(t, w.one, "main")
	check(t, s.Mark(ctx, good))
	before := w.now.Load()
	f, err := before.Revoke(fleet.Author{Key: key(1)}, time.Now(), w.one.ID(), nil, "test")
	check(t, err)
	w.now.Store(f) // it is not required either, and nobody else is
	sweep(t, s)
	c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 19})
	w.now.Store(before)
	check(t, s.Mark(ctx, good))
	check(t, s.Close())
	s = open(t, dir, w.options())
	sweep(t, s)
	c.wants(s, 10, transport.PastCollected, transport.Span{First: 10, Last: 19})
}

// TestMarksAreKept: of many records those are kept that say something, over a restart, and no more than one collector may have.
func TestMarksAreKept(t *testing.T) {
	w, dir := newKeeping(t), t.TempDir()
	s := open(t, dir, w.options())
	var chains []*chain
	tips := map[journal.Chain]journal.Link{}
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		chains = append(chains, w.chain(t, w.device, "main"))
	}
	for range 60 {
		var some []*journal.Segment
		for _, i := range rng.Perm(len(chains))[:3] {
			seg := chains[i].next(1)
			some = append(some, seg)
			tips[seg.Chain] = seg.Link()
		}
		check(t, s.Mark(ctx, marks(t, w, w.one, some...)))
		check(t, s.Mark(ctx, marks(t, w, w.one, some...)))
	}
	for range 2 {
		got, records := map[journal.Chain]journal.Link{}, 0
		check(t, s.Marks(ctx, func(signed []byte) error {
			records++
			said, err := journal.OpenWatermarks(signed, w.fleet.ID())
			check(t, err)
			for _, m := range said.Marks {
				if old, ok := got[m.Chain]; !ok || old.Seq < m.Link.Seq {
					got[m.Chain] = m.Link
				}
			}
			return nil
		}))
		if fmt.Sprint(got) != fmt.Sprint(tips) || records > len(tips) {
			t.Fatalf("%d records say %v\nwant %v", records, got, tips)
		}
		check(t, s.Close())
		s = open(t, dir, w.options())
	}
}

// TestBookIsBounded: a collector that speaks of chains without end does not fill the hub.
func TestBookIsBounded(t *testing.T) {
	w := newKeeping(t)
	s := open(t, t.TempDir(), w.options())
	var last []byte
	for i := range 80 {
		list := make([]journal.Watermark, journal.MaxWatermarks)
		for j := range list {
			list[j].Chain = journal.Chain{Fleet: w.fleet.ID(), Device: edge.ID{byte(i), byte(j), byte(j >> 8)}, Stream: "main"}
		}
		signed, err := journal.SignWatermarks(w.one, w.fleet.ID(), list)
		check(t, err)
		check(t, s.Mark(t.Context(), signed))
		last = signed
	}
	size, newest := 0, false
	check(t, s.Marks(t.Context(), func(signed []byte) error {
		size += len(signed)
		newest = slices.Equal(signed, last)
		return nil
	}))
	if size < 1<<20 || size > 4<<20 || !newest {
		t.Errorf("%d bytes are kept, the newest %v", size, newest)
	}
}
