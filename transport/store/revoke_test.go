// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

// changing is a fleet that changes while a store works.
type changing struct {
	world
	now atomic.Pointer[fleet.Fleet]
}

func newChanging(t testing.TB) *changing {
	w := &changing{world: newWorld(t, 1)}
	w.now.Store(w.fleet)
	return w
}

func (w *changing) options() store.Options {
	return store.Options{Fleet: w.now.Load, Self: w.hub.ID()}
}

// revoke takes the device out; its chains end with the segments.
func (w *changing) revoke(t testing.TB, last ...*journal.Segment) {
	t.Helper()
	var cuts []fleet.Cut
	for _, s := range last {
		cuts = append(cuts, fleet.Cut{Stream: s.Chain.Stream, Incarnation: s.Chain.Incarnation, Seq: s.Seq, Hash: s.Hash})
	}
	f, err := w.now.Load().Revoke(fleet.Author{Key: key(1)}, time.Now(), w.device.ID(), cuts, "test")
	check(t, err)
	w.now.Store(f)
}

func refusedBecause(t testing.TB, err error, want transport.Reason) {
	t.Helper()
	var r *transport.Refusal
	if !errors.As(err, &r) || r.Reason != want {
		t.Errorf("got %v, want a refusal: %s", err, want)
	}
}

func spansOf(t testing.TB, s *store.Store, c journal.Chain) []transport.Span {
	t.Helper()
	held, err := s.Held(context.Background(), c.Device)
	check(t, err)
	for _, h := range held {
		if h.Chain == c {
			return h.Spans
		}
	}
	return nil
}

func TestRevoked_UpToItsCutStaysRepairableAndReadable(t *testing.T) {
	w := newChanging(t)
	dir := t.TempDir()
	s := open(t, dir, w.options())
	segs := w.chain(t, w.device, "main").many(10)
	other := w.chain(t, w.device, "slow").many(3)
	put(t, s, append(slices.Clone(segs[4:8]), other...)...) // 0 to 3 and 8, 9 did not get here
	before := s.Stats()
	w.revoke(t, segs[5])

	put(t, s, segs[:4]...) // repair brings what is missing
	put(t, s, segs[5])     // and what is there
	for _, seg := range []*journal.Segment{segs[6], segs[8], segs[9], other[0], other[2]} {
		refusedBecause(t, s.Put(context.Background(), seg.Bytes()), transport.RefusedRevoked)
	}
	for range 2 { // the second time after a restart
		if got := fetch(t, s, segs[0].Chain, 0, 100); !slices.EqualFunc(got, bytesOf(segs[:6]), slices.Equal) {
			t.Errorf("%d segments are served, want 6", len(got))
		}
		if got := fetch(t, s, other[0].Chain, 0, 100); len(got) != 0 {
			t.Errorf("%d segments are served of a chain that the revocation does not name", len(got))
		}
		if got := spansOf(t, s, segs[0].Chain); !slices.Equal(got, []transport.Span{{First: 0, Last: 5}}) {
			t.Errorf("held: %v", got)
		}
		if got := spansOf(t, s, other[0].Chain); got != nil {
			t.Errorf("held of the other chain: %v", got)
		}
		st := s.Stats()
		if st.Segments != 6 || st.Revoked != 5 || st.Chains != 1 || before.Segments != 7 || before.Revoked != 0 || before.Chains != 2 {
			t.Errorf("before %+v, after %+v", before, st)
		}
		check(t, s.Close())
		s = open(t, dir, w.options())
	}
}

// A follower hears nothing of what is beyond the cut, whether it came before the revocation or asks after it.
func TestRevoked_FollowersHearNothingBeyondTheCut(t *testing.T) {
	w := newChanging(t)
	s := open(t, t.TempDir(), w.options())
	segs := w.chain(t, w.device, "main").many(6)
	put(t, s, segs...)
	w.revoke(t, segs[2])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := errors.New("done")
	err := s.Follow(ctx, func(h transport.Held) error {
		if !slices.Equal(h.Spans, []transport.Span{{First: 0, Last: 2}}) {
			t.Errorf("told %v", h.Spans)
		}
		return done
	})
	if !errors.Is(err, done) {
		t.Error(err)
	}
}

// A device that comes back goes on in a new chain; the old one stays cut.
func TestRevoked_OldChainStaysCutWhenItsDeviceComesBack(t *testing.T) {
	w := newChanging(t)
	s := open(t, t.TempDir(), w.options())
	segs := w.chain(t, w.device, "main").many(5)
	put(t, s, segs...)
	w.revoke(t, segs[2])
	f, err := w.now.Load().Grant(fleet.Author{Key: key(1)}, time.Now(), fleet.Grant{Member: w.device.ID(), Name: "gateway", Roles: fleet.Device})
	check(t, err)
	w.now.Store(f)
	refusedBecause(t, s.Put(context.Background(), segs[3].Bytes()), transport.RefusedRevoked)
	put(t, s, w.chain(t, w.device, "main").many(3)...)
	if st := s.Stats(); st.Segments != 6 || st.Revoked != 2 {
		t.Errorf("%+v", st)
	}
}

// branches makes a chain twice from the same beginning: a clone's and the device's.
func (w *changing) branches(t testing.TB, common, each int) (a, b []*journal.Segment) {
	t.Helper()
	one := w.chain(t, w.device, "main")
	a = one.many(common)
	tip := a[common-1].Link()
	jw, err := journal.ResumeWriter(a[0].Chain, &tip, w.device)
	check(t, err)
	two := &chain{t: t, w: jw, readers: w.readers}
	return append(a, one.many(each)...), append(slices.Clone(a[:common]), two.many(each)...)
}

func TestRevoked_ForkIsResolvedByTheHashOfTheCut(t *testing.T) {
	w := newChanging(t)
	dir := t.TempDir()
	s := open(t, dir, w.options())
	wrong, right := w.branches(t, 3, 4)
	put(t, s, wrong...)
	refusedBecause(t, s.Put(context.Background(), right[5].Bytes()), transport.RefusedFork)
	w.revoke(t, right[5])

	if got := spansOf(t, s, wrong[0].Chain); !slices.Equal(got, []transport.Span{{First: 0, Last: 4}}) {
		t.Errorf("with the wrong segment at the cut, held: %v", got)
	}
	refusedBecause(t, s.Put(context.Background(), wrong[5].Bytes()), transport.RefusedRevoked)
	refusedBecause(t, s.Put(context.Background(), right[6].Bytes()), transport.RefusedRevoked)
	refusedBecause(t, s.Put(context.Background(), right[3].Bytes()), transport.RefusedFork) // nothing says yet that it is the right one
	put(t, s, right[5], right[4], right[3])                                                 // repair, the newest first
	for range 2 {
		if got := fetch(t, s, right[0].Chain, 0, 100); !slices.EqualFunc(got, bytesOf(right[:6]), slices.Equal) {
			t.Errorf("%d segments are served and they are not the right branch's", len(got))
		}
		refusedBecause(t, s.Put(context.Background(), wrong[4].Bytes()), transport.RefusedFork)
		if n := len(s.Forks(context.Background())); n < 2 {
			t.Errorf("%d proofs: what was displaced is evidence", n)
		}
		check(t, s.Close())
		s = open(t, dir, w.options())
	}
}

// Without a cut nothing is ever displaced, however many links vouch for it.
func TestFork_NothingIsDisplacedWithoutARevocation(t *testing.T) {
	w := newChanging(t)
	s := open(t, t.TempDir(), w.options())
	first, second := w.branches(t, 3, 4)
	put(t, s, first...)
	for _, seg := range []*journal.Segment{second[6], second[5], second[4], second[3]} {
		refusedBecause(t, s.Put(context.Background(), seg.Bytes()), transport.RefusedFork)
	}
	if got := fetch(t, s, first[0].Chain, 0, 100); !slices.EqualFunc(got, bytesOf(first), slices.Equal) {
		t.Error("the first branch is not served any more")
	}
}

// A grant that ends by its date takes nothing back that hubs took in while it was valid.
func TestExpired_WhatWasTakenInStays(t *testing.T) {
	w := newChanging(t)
	s := open(t, t.TempDir(), w.options())
	segs := w.chain(t, w.device, "main").many(4)
	put(t, s, segs[:3]...)
	f, err := w.now.Load().Grant(fleet.Author{Key: key(1)}, time.Now(),
		fleet.Grant{Member: w.device.ID(), Name: "gateway", Roles: fleet.Device, Expires: time.Now().Add(time.Hour).UnixMilli()})
	check(t, err)
	w.now.Store(f.AsOf(time.Now().Add(2 * time.Hour)))
	refusedBecause(t, s.Put(context.Background(), segs[3].Bytes()), transport.RefusedNotAllowed)
	if got := fetch(t, s, segs[0].Chain, 0, 100); len(got) != 3 {
		t.Errorf("%d segments are served", len(got))
	}
}

// Only a member that may read a stream can hand its keys on.
func TestRewraps_OnlyByWhoMayRead(t *testing.T) {
	w := newChanging(t)
	s := open(t, t.TempDir(), w.options())
	rk, err := journal.GenerateReaderKey()
	check(t, err)
	allowed, limited := key(70), key(71)
	may := func(streams ...string) []fleet.Right {
		return []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: streams}}
	}
	f, err := w.now.Load().Grant(fleet.Author{Key: key(1)}, time.Now(),
		fleet.Grant{Member: allowed.ID(), Name: "server", Roles: fleet.Collector, Reader: rk.Public(), Rights: may("*")},
		fleet.Grant{Member: limited.ID(), Name: "laptop", Roles: fleet.Collector, Reader: rk.Public(), Rights: may("slow")})
	check(t, err)
	w.now.Store(f)
	make := func(by journal.SoftKey) *journal.Segment {
		jw, err := journal.NewWriter(w.fleet.ID(), journal.RewrapStream, by)
		check(t, err)
		seg, err := jw.Rewraps([]journal.Rewrap{{Chain: w.chain(t, w.device, "main").next(1).Chain, Sealed: []byte{1}}}, journal.Stamp{At: edge.Instant{Mono: 1}})
		check(t, err)
		return seg
	}
	good := make(allowed)
	put(t, s, good)
	refusedBecause(t, s.Put(context.Background(), make(limited).Bytes()), transport.RefusedNotAllowed)
	refusedBecause(t, s.Put(context.Background(), make(key(99)).Bytes()), transport.RefusedNotAllowed)
	refusedBecause(t, s.Put(context.Background(), make(w.device).Bytes()), transport.RefusedNotAllowed)
	if len(fetch(t, s, good.Chain, 0, 9)) != 1 {
		t.Error("rewraps are not served")
	}
	f, err = f.Revoke(fleet.Author{Key: key(1)}, time.Now(), allowed.ID(), nil, "test")
	check(t, err)
	w.now.Store(f)
	if len(fetch(t, s, good.Chain, 0, 9)) != 0 {
		t.Error("rewraps of a revoked reader are served")
	}
}
