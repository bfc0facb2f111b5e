// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// cloneCard copies an outbox as a block image of its card would: the marker of the clean end goes on proving the log in the copy.
func cloneCard(t testing.TB, from, to string) {
	t.Helper()
	copyLog(t, from, to, func(_ string, data []byte) []byte { return data })
	name := filepath.Join(to, "log", "closed")
	text, err := os.ReadFile(name)
	check(t, err)
	state, _, ok := strings.Cut(string(text), " file ")
	if !ok {
		t.Fatalf("marker %q", text)
	}
	var st unix.Statx_t
	check(t, unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_INO|unix.STATX_BTIME, &st))
	if st.Mask&unix.STATX_BTIME == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("the file system has no birth times: no log on it ever counts as intact")
		}
		t.Skip("the file system has no birth times: no log on it ever counts as intact")
	}
	marker := fmt.Sprintf("%s file %d born %d.%09d\n", state, st.Ino, st.Btime.Sec, st.Btime.Nsec)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	check(t, err)
	_, err = f.WriteString(marker)
	check(t, errors.Join(err, f.Close()))
}

// place is a hub that keeps what comes first.
type place struct {
	t    testing.TB
	segs map[journal.Chain]map[uint64]*journal.Segment
	took []*journal.Segment
}

func newPlace(t testing.TB) *place {
	return &place{t: t, segs: map[journal.Chain]map[uint64]*journal.Segment{}}
}

// put returns the segment that stands in the place already, if it is another one.
func (p *place) put(s *journal.Segment) *journal.Segment {
	if old := p.segs[s.Chain][s.Seq]; old != nil {
		if old.Hash == s.Hash {
			return nil
		}
		return old
	}
	if old := p.segs[s.Chain][s.Seq-1]; s.Seq > 0 && old != nil && old.Hash != s.Prev {
		return old
	}
	if p.segs[s.Chain] == nil {
		p.segs[s.Chain] = map[uint64]*journal.Segment{}
	}
	p.segs[s.Chain][s.Seq] = s
	p.took = append(p.took, s)
	return nil
}

// publish brings all that is pending to the hub, renewing where it says fork, and returns how often it did.
func (p *place) publish(b *outbox.Outbox) (forks int) {
	p.t.Helper()
	c, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for b.Status().Pending > 0 {
		items, err := b.Take(c, 8)
		check(p.t, err)
		for _, it := range items {
			r := receipt(2)
			if rival := p.put(it.Segment); rival != nil {
				forks++
				r = receipt(0)
				check(p.t, b.Renew(c, it.Segment, rival))
			}
			check(p.t, b.Ack(it, r))
		}
	}
	return forks
}

// values are the readings of what the hub took, and the gaps that it tells of.
func (p *place) values(k journal.ReaderKey) ([]float64, []journal.GapNote, map[journal.Chain]*journal.Continuation) {
	p.t.Helper()
	h := newHistory(p.t)
	h.add(p.took...)
	return h.read(k)
}

func TestClone_BothGoOnAndTheForkIsProven(t *testing.T) {
	k, rs := readerKey(t)
	dir, copied := t.TempDir(), t.TempDir()
	hub := newPlace(t)
	b, _ := open(t, options(dir))
	start(t, b, "main", rs)
	seal(t, b, "main", 0, 5)
	hub.publish(b)
	check(t, b.Close())
	cloneCard(t, dir, copied)

	one, rec := open(t, options(dir))
	two, rec2 := open(t, options(copied))
	if !rec.Clean || !rec2.Clean {
		t.Fatalf("the copy is noticed by its files already: %+v, %+v", rec, rec2)
	}
	first := [2]*journal.Segment{start(t, one, "main", rs), start(t, two, "main", rs)}
	if first[0].Chain != first[1].Chain || first[0].Seq != first[1].Seq || first[0].Hash == first[1].Hash {
		t.Fatal("the two do not fork: the test shows nothing")
	}
	seal(t, one, "main", 100, 3)
	for i := range 4 {
		seal(t, two, "main", 200+10*i, 10)
	}
	_, err := two.Note(ctx, "main", journal.Note{Clock: &journal.ClockNote{Boot: boot, Mono: 1, Wall: 5}}, journal.Stamp{Boot: boot})
	check(t, err)
	if n := hub.publish(one); n != 0 {
		t.Fatalf("the first one is refused %d times", n)
	}
	if n := hub.publish(two); n != 1 {
		t.Errorf("the second one is refused %d times: want its epoch and no more", n)
	}
	seal(t, one, "main", 300, 2)
	seal(t, two, "main", 400, 2)
	if n := hub.publish(one) + hub.publish(two); n != 0 {
		t.Errorf("%d more refusals after the renewal", n)
	}
	values, gaps, after := hub.values(k)
	want := []float64{0, 1, 2, 3, 4, 100, 101, 102}
	for i := range 40 {
		want = append(want, float64(200+i))
	}
	if want = append(want, 300, 301, 400, 401); !slices.Equal(values, want) || len(gaps) != 0 {
		t.Errorf("the hub has %v and gaps %v, want %v", values, gaps, want)
	}
	for c, a := range after {
		if c == first[0].Chain || a.Incarnation != first[0].Chain.Incarnation || a.Last.Seq != first[0].Seq-1 || a.Last.Hash != first[0].Prev {
			t.Errorf("%s continues %+v", c, a)
		}
	}
	if len(after) != 1 {
		t.Errorf("%d continuations", len(after))
	}
	if st := two.Status(); st.Renewed != 1 || st.Resealed != 5 || st.Forks != 1 || st.GivenUp != 0 || st.LostRead != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
	if st := one.Status(); st.Renewed != 0 || st.Forks != 0 {
		t.Errorf("the one that was not refused: %+v", st)
	}
	check(t, two.Close())
	again, _ := open(t, options(copied))
	forks := again.Forks()
	if len(forks) != 1 {
		t.Fatalf("%d proofs after a restart", len(forks))
	}
	if c, seq, err := forks[0].Prove(fleetX); err != nil || c != first[0].Chain || seq != first[0].Seq {
		t.Errorf("proof of %s seq %d: %v", c, seq, err)
	}
}

// What a clone sealed before a restart it can open no more: the loss is told, and nothing waits for ever.
func TestClone_WhatCannotBeSealedAgainIsToldAsAGap(t *testing.T) {
	k, rs := readerKey(t)
	dir, copied := t.TempDir(), t.TempDir()
	hub := newPlace(t)
	b, _ := open(t, options(dir))
	start(t, b, "main", rs)
	hub.publish(b)
	check(t, b.Close())
	cloneCard(t, dir, copied)
	one, _ := open(t, options(dir))
	start(t, one, "main", rs)
	hub.publish(one)
	two, _ := open(t, options(copied))
	lost := start(t, two, "main", rs)
	seal(t, two, "main", 10, 7)
	seal(t, two, "main", 20, 7)
	check(t, two.Close()) // before anything of it was published

	two, rec := open(t, options(copied))
	if !rec.Clean {
		t.Fatalf("%+v", rec)
	}
	c, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	items, err := two.Take(c, 1)
	check(t, err)
	rival := hub.put(items[0].Segment)
	if rival == nil {
		t.Fatal("the clone is not refused")
	}
	if err := two.Renew(c, items[0].Segment, rival); err != nil && !errors.Is(err, outbox.ErrNoEpoch) {
		t.Fatal(err)
	}
	check(t, two.Ack(items[0], receipt(0)))
	start(t, two, "main", rs)
	seal(t, two, "main", 30, 3)
	hub.publish(two)
	seal(t, two, "main", 40, 1) // tells the gap at the latest
	hub.publish(two)
	values, gaps, _ := hub.values(k)
	if !slices.Equal(values, []float64{30, 31, 32, 40}) {
		t.Errorf("the hub has %v", values)
	}
	if len(gaps) != 1 || gaps[0].Reason != journal.GapFork || gaps[0].Incarnation != lost.Chain.Incarnation || gaps[0].Segments != 2 || gaps[0].Readings != 14 {
		t.Errorf("gaps %+v", gaps)
	}
	if st := two.Status(); st.LostRead != 14 || st.GivenUp != 2 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// A hub that merely says fork, without showing it, makes nobody give anything up.
func TestRenew_WantsProof(t *testing.T) {
	_, rs := readerKey(t)
	b, _ := open(t, options(t.TempDir()))
	epoch, data := start(t, b, "main", rs), seal(t, b, "main", 0, 1)
	other := start(t, b, "slow", rs)
	for name, rival := range map[string]*journal.Segment{"itself": data, "its predecessor": epoch, "another chain's": other} {
		if err := b.Renew(ctx, data, rival); !errors.Is(err, outbox.ErrNoFork) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if next := seal(t, b, "main", 1, 1); next.Chain != data.Chain || next.Seq != 2 || b.Status().Forks != 0 {
		t.Errorf("%s seq %d", next.Chain, next.Seq)
	}
}

// One hub of one: published and held. When it is revoked the copy here is the only one, and must count as such.
func TestRecount_PublishedOnARevokedHubIsPublishedAgain(t *testing.T) {
	_, rs := readerKey(t)
	b, _ := open(t, options(t.TempDir()))
	segs := []*journal.Segment{start(t, b, "main", rs), seal(t, b, "main", 0, 2), seal(t, b, "main", 2, 2)}
	drain(t, b, oneHub())
	if st := b.Status(); st.Held != 3 || st.Pending != 0 {
		t.Fatalf("%+v", st)
	}
	old, fresh := key(100).ID(), key(101).ID()
	asked := 0
	fell := b.Recount(func(c journal.Chain, seq uint64, acked []edge.ID) transport.Receipt {
		asked++
		if c != segs[0].Chain || !slices.Equal(acked, []edge.ID{old}) {
			t.Errorf("asked about %s seq %d on %v", c, seq, acked)
		}
		return transport.Receipt{Targets: []fleet.Grant{{Member: fresh}}}
	})
	if st := b.Status(); fell != 3 || asked != 3 || st.Pending != 3 || st.Held != 0 || st.Fallen != 3 {
		t.Errorf("%d of %d fell: %+v", fell, asked, st)
	}
	again := drain(t, b, transport.Receipt{Targets: []fleet.Grant{{Member: fresh}}, Acked: []edge.ID{fresh}})
	if len(again) != 3 || again[0].Hash != segs[0].Hash {
		t.Errorf("%d segments are published again, the epoch first?", len(again))
	}
	// A second hub is enrolled: what is held is offered to it at once, not after an hour.
	b.Recount(func(_ journal.Chain, _ uint64, acked []edge.ID) transport.Receipt {
		return transport.Receipt{Targets: []fleet.Grant{{Member: fresh}, {Member: old}}, Acked: []edge.ID{fresh}}
	})
	c, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for got := 0; got < 3; {
		items, err := b.Take(c, 8)
		check(t, err)
		for _, it := range items {
			if !it.Published {
				t.Errorf("seq %d does not count as published", it.Segment.Seq)
			}
			check(t, b.Ack(it, receipt(2)))
			got++
		}
	}
	if st := b.Status(); st.Held != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// What the hubs that are left make forgettable is let go of at once.
func TestRecount_LetsGoOfWhatIsForgettable(t *testing.T) {
	_, rs := readerKey(t)
	b, _ := open(t, options(t.TempDir()))
	start(t, b, "main", rs)
	drain(t, b, oneHub())
	if fell := b.Recount(func(journal.Chain, uint64, []edge.ID) transport.Receipt { return receipt(2) }); fell != 0 || b.Status().Held != 0 {
		t.Errorf("%d fell, %+v", fell, b.Status())
	}
}
