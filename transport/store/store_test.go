// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

var _ transport.Store = (*store.Store)(nil)

// key returns the same member each time.
func key(n byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

// world is a fleet with one hub and one device.
type world struct {
	fleet       *fleet.Fleet
	readers     []journal.Reader
	hub, device journal.SoftKey
}

func newWorld(t testing.TB, owner byte) world {
	t.Helper()
	rk, err := journal.GenerateReaderKey()
	check(t, err)
	f, err := fleet.Found(fleet.Founding{Name: "test", Owner: key(owner), Spare: key(owner + 1).ID(), Recovery: rk.Public()}, time.Now())
	check(t, err)
	w := world{hub: key(50), device: key(60)}
	f, err = f.Grant(fleet.Author{Key: key(owner)}, time.Now(),
		fleet.Grant{Member: w.hub.ID(), Name: "hub", Roles: fleet.Hub},
		fleet.Grant{Member: w.device.ID(), Name: "gateway", Roles: fleet.Device})
	check(t, err)
	w.fleet = f
	w.readers, err = f.Readers(w.device.ID(), "main")
	check(t, err)
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w world) options() store.Options {
	return store.Options{Fleet: func() *fleet.Fleet { return w.fleet }, Self: w.hub.ID()}
}

func open(t testing.TB, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), dir, o)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// chain is a chain as a device makes it.
type chain struct {
	t       testing.TB
	w       *journal.Writer
	started bool
	readers []journal.Reader
	n       int
}

func (w world) chain(t testing.TB, signer journal.Signer, stream string) *chain {
	t.Helper()
	jw, err := journal.NewWriter(w.fleet.ID(), stream, signer)
	check(t, err)
	return &chain{t: t, w: jw, readers: w.readers}
}

// next makes the next segment; the first starts an epoch.
func (c *chain) next(readings int) *journal.Segment {
	c.t.Helper()
	var seg *journal.Segment
	var err error
	if !c.started {
		c.started = true
		seg, err = c.w.Epoch(c.readers, nil, journal.Stamp{At: edge.Instant{Mono: 1}})
	} else {
		seg, err = c.w.Readings(journal.BootID{1}, c.readings(readings))
	}
	check(c.t, err)
	check(c.t, c.w.Commit(seg))
	return seg
}

func (c *chain) readings(n int) []edge.Reading {
	var out []edge.Reading
	for range n {
		c.n++
		out = append(out, edge.Reading{Sensor: "bme280-0", At: edge.Instant{Mono: int64(c.n) * 1000}, Sample: edge.Sample{
			Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: 20 + float64(c.n%100)/100}})
	}
	return out
}

func (c *chain) many(n int) []*journal.Segment {
	var out []*journal.Segment
	for range n {
		out = append(out, c.next(10))
	}
	return out
}

func put(t testing.TB, s *store.Store, segs ...*journal.Segment) {
	t.Helper()
	for _, seg := range segs {
		if err := s.Put(context.Background(), seg.Bytes()); err != nil {
			t.Fatalf("seq %d: %v", seg.Seq, err)
		}
	}
}

// fetch returns what the store has of a chain between first and last.
func fetch(t testing.TB, s *store.Store, c journal.Chain, first, last uint64) [][]byte {
	t.Helper()
	var out [][]byte
	check(t, s.Fetch(context.Background(), c, transport.Span{First: first, Last: last}, func(b []byte) error {
		out = append(out, b)
		return nil
	}))
	return out
}

func bytesOf(segs []*journal.Segment) [][]byte {
	var out [][]byte
	for _, s := range segs {
		out = append(out, s.Bytes())
	}
	return out
}

func equal(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// refused fails the test unless err is a refusal for that reason whose detail contains the words.
func refused(t testing.TB, err error, reason transport.Reason, hub edge.ID, words string) {
	t.Helper()
	var r *transport.Refusal
	if !errors.As(err, &r) || r.Reason != reason || r.Hub != hub || !strings.Contains(r.Detail, words) {
		t.Fatalf("got %v, want a refusal: %s: …%s…", err, reason, words)
	}
}

const end = ^uint64(0)

func TestKeepsAcrossRestart(t *testing.T) {
	w, dir := newWorld(t, 1), t.TempDir()
	s := open(t, dir, w.options())
	a, b := w.chain(t, w.device, "main"), w.chain(t, w.device, "slow")
	as, bs := a.many(200), b.many(3)
	// out of order, with a hole, and one twice
	put(t, s, as[100:]...)
	put(t, s, as[:40]...)
	put(t, s, bs...)
	put(t, s, bs[0], as[150])
	for round := range 3 {
		held, err := s.Held(context.Background(), edge.ID{})
		check(t, err)
		want := []transport.Held{
			{Chain: a.w.Chain(), Spans: []transport.Span{{First: 0, Last: 39}, {First: 100, Last: 199}}},
			{Chain: b.w.Chain(), Spans: []transport.Span{{First: 0, Last: 2}}}}
		if fmt.Sprint(held) != fmt.Sprint(want) {
			t.Fatalf("round %d: held %v, want %v", round, held, want)
		}
		if got := fetch(t, s, a.w.Chain(), 0, end); !equal(got, append(bytesOf(as[:40]), bytesOf(as[100:])...)) {
			t.Fatalf("round %d: fetched %d segments that differ", round, len(got))
		}
		if got := fetch(t, s, a.w.Chain(), 38, 101); !equal(got, bytesOf([]*journal.Segment{as[38], as[39], as[100], as[101]})) {
			t.Fatalf("round %d: a span with a hole: %d segments", round, len(got))
		}
		if got := fetch(t, s, a.w.Chain(), 40, 99); len(got) != 0 {
			t.Fatalf("round %d: %d segments in the hole", round, len(got))
		}
		if st := s.Stats(); st.Segments != 143 || st.Chains != 2 || st.Skipped != 0 || st.Bytes == 0 {
			t.Fatalf("round %d: %+v", round, st)
		}
		check(t, s.Close())
		s = open(t, dir, w.options())
	}
	if held, _ := s.Held(context.Background(), w.hub.ID()); len(held) != 0 {
		t.Errorf("chains of another device: %v", held)
	}
	put(t, s, as[40:100]...)
	if got := fetch(t, s, a.w.Chain(), 0, end); !equal(got, bytesOf(as)) {
		t.Errorf("after the hole was filled: %d segments", len(got))
	}
}

func TestRefusals(t *testing.T) {
	w, other := newWorld(t, 1), newWorld(t, 10)
	s := open(t, t.TempDir(), w.options())
	c := w.chain(t, w.device, "main")
	seg := c.many(2)[1]
	tampered := slices.Clone(seg.Bytes())
	tampered[len(tampered)-1] ^= 1
	plain, err := w.chain(t, w.device, "log").w.Plain([]byte("x"), 1, journal.Stamp{})
	check(t, err)
	forged := w.chain(t, impostor{w.device.ID(), key(99)}, "main").next(1)
	for _, tc := range []struct {
		name   string
		bytes  []byte
		reason transport.Reason
		words  string
	}{
		{"tampered", tampered, transport.RefusedInvalid, journal.ErrTampered.Error()},
		{"truncated", seg.Bytes()[:len(seg.Bytes())-1], transport.RefusedInvalid, journal.ErrMalformed.Error()},
		{"empty", nil, transport.RefusedInvalid, journal.ErrMalformed.Error()},
		{"oversize", make([]byte, journal.MaxSegment+1), transport.RefusedInvalid, journal.ErrOversize.Error()},
		{"another fleet", other.chain(t, w.device, "main").next(1).Bytes(), transport.RefusedInvalid, journal.ErrWrongFleet.Error()},
		{"forged", forged.Bytes(), transport.RefusedInvalid, journal.ErrForeignSigner.Error()},
		{"not enrolled", w.chain(t, key(99), "main").next(1).Bytes(), transport.RefusedNotAllowed, key(99).ID().String()},
		{"a hub", w.chain(t, w.hub, "main").next(1).Bytes(), transport.RefusedNotAllowed, "not enrolled as a device"},
		{"reserved stream", w.chain(t, w.device, "fleet").next(1).Bytes(), transport.RefusedNotAllowed, "fleet log"},
		{"fleet log", plain.Bytes(), transport.RefusedNotAllowed, "fleet log"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			refused(t, s.Put(context.Background(), tc.bytes), tc.reason, w.hub.ID(), tc.words)
		})
	}
	if st := s.Stats(); st.Segments != 0 || st.Chains != 0 || st.Refused[transport.RefusedInvalid] != 6 || st.Refused[transport.RefusedNotAllowed] != 4 {
		t.Errorf("stats %+v", st)
	}
}

// impostor claims an identity whose key it does not have.
type impostor struct {
	id  edge.ID
	key journal.SoftKey
}

func (i impostor) ID() edge.ID                   { return i.id }
func (i impostor) Sign(m []byte) ([]byte, error) { return i.key.Sign(m) }

// twin returns a second chain that goes on from where c is, as a device does whose disk was cloned.
func (c *chain) twin(signer journal.Signer) *chain {
	c.t.Helper()
	w, err := journal.ResumeWriter(c.w.Chain(), c.w.Tip(), signer)
	check(c.t, err)
	return &chain{t: c.t, w: w, readers: c.readers, n: 1000}
}

func TestForkProofSurvives(t *testing.T) {
	w, dir := newWorld(t, 1), t.TempDir()
	var log bytes.Buffer
	o := w.options()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, dir, o)
	c := w.chain(t, w.device, "main")
	first := c.many(3)
	clone := c.twin(w.device)
	mine, its := c.many(2), clone.many(2)
	put(t, s, first...)
	put(t, s, mine[0])
	ctx := context.Background()
	for range 3 {
		refused(t, s.Put(ctx, its[0].Bytes()), transport.RefusedFork, w.hub.ID(), "another segment stands at seq 3")
	}
	refused(t, s.Put(ctx, its[1].Bytes()), transport.RefusedFork, w.hub.ID(), "does not continue the seq 3")
	if n := strings.Count(log.String(), "FORK"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	for range 2 {
		forks := s.Forks(ctx)
		if len(forks) != 1 {
			t.Fatalf("%d proofs", len(forks))
		}
		got, seq, err := forks[0].Prove(w.fleet.ID())
		if err != nil || got != c.w.Chain() || seq != 3 {
			t.Fatalf("the proof proves %v seq %d: %v", got, seq, err)
		}
		if !bytes.Equal(forks[0].A, mine[0].SignedHeader()) || !bytes.Equal(forks[0].B, its[0].SignedHeader()) {
			t.Fatal("the proof holds other headers")
		}
		check(t, s.Close())
		s = open(t, dir, o)
	}
	refused(t, s.Put(ctx, its[0].Bytes()), transport.RefusedFork, w.hub.ID(), "seq 3")
	put(t, s, mine[1]) // the first one known goes on
	if st := s.Stats(); st.Forks != 1 || st.Segments != 5 || st.Skipped != 0 {
		t.Errorf("%+v", st)
	}
}

func TestSuccessorMustLink(t *testing.T) {
	w := newWorld(t, 1)
	s := open(t, t.TempDir(), w.options())
	c := w.chain(t, w.device, "main")
	put(t, s, c.many(2)...)
	clone := c.twin(w.device)
	mine, its := c.many(2), clone.many(1)
	put(t, s, mine[1]) // seq 3; seq 2 is missing yet
	refused(t, s.Put(context.Background(), its[0].Bytes()), transport.RefusedFork, w.hub.ID(), "seq 3 that is held does not continue")
	put(t, s, mine[0])
}

func TestConcurrentPuts(t *testing.T) {
	w, dir := newWorld(t, 1), t.TempDir()
	s := open(t, dir, w.options())
	const chains, each = 8, 40
	var all [chains][]*journal.Segment
	for i := range all {
		all[i] = w.chain(t, w.device, fmt.Sprintf("s%d", i)).many(each)
	}
	var wg sync.WaitGroup
	for _, segs := range all {
		for copies := range 3 {
			wg.Go(func() {
				for i := range segs {
					put(t, s, segs[(i*7+copies*11)%each])
				}
			})
		}
	}
	wg.Wait()
	for _, segs := range all {
		if got := fetch(t, s, segs[0].Chain, 0, end); !equal(got, bytesOf(segs)) {
			t.Errorf("%s: %d segments", segs[0].Chain.Stream, len(got))
		}
	}
	if st := s.Stats(); st.Segments != chains*each || st.Puts != chains*each*3 {
		t.Errorf("%+v", st)
	}
	check(t, s.Close())
	if s = open(t, dir, w.options()); s.Stats().Segments != chains*each {
		t.Errorf("reopened: %+v", s.Stats())
	}
}

// TestConcurrentFork: of two segments for one place that come together exactly one is kept, and the proof too.
func TestConcurrentFork(t *testing.T) {
	w := newWorld(t, 1)
	s := open(t, t.TempDir(), w.options())
	for round := range 20 {
		c := w.chain(t, w.device, fmt.Sprintf("s%d", round))
		put(t, s, c.many(1)...)
		twin := c.twin(w.device)
		var wg sync.WaitGroup
		var errs [2]error
		for i, seg := range []*journal.Segment{c.next(1), twin.next(1)} {
			wg.Go(func() { errs[i] = s.Put(context.Background(), seg.Bytes()) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("round %d: %v, %v", round, errs[0], errs[1])
		}
		refused(t, errors.Join(errs[:]...), transport.RefusedFork, w.hub.ID(), "")
		if n := len(s.Forks(context.Background())); n != round+1 {
			t.Fatalf("round %d: %d proofs", round, n)
		}
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t, 1)
	s := open(t, t.TempDir(), w.options())
	seg := w.chain(t, w.device, "main").next(1)
	check(t, s.Close())
	check(t, s.Close())
	if err := s.Put(context.Background(), seg.Bytes()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("put: %v", err)
	}
	if err := s.Follow(context.Background(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("follow: %v", err)
	}
}
