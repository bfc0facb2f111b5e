// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

var (
	ctx    = context.Background()
	fleetX = journal.FleetID{1, 2, 3}
	boot   = journal.BootID{9}
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func key(n byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

func readerKey(t testing.TB) (journal.ReaderKey, []journal.Reader) {
	t.Helper()
	k, err := journal.GenerateReaderKey()
	check(t, err)
	r, err := journal.NewReader(k.Public())
	check(t, err)
	return k, []journal.Reader{r}
}

func options(dir string) outbox.Options {
	return outbox.Options{Dir: dir, Fleet: fleetX, Signer: key(1)}
}

func open(t testing.TB, o outbox.Options) (*outbox.Outbox, outbox.Recovery) {
	t.Helper()
	b, rec, err := outbox.Open(ctx, o)
	check(t, err)
	t.Cleanup(func() { b.Close() })
	return b, rec
}

// readings makes n readings that begin with number first.
func readings(first, n int) []edge.Reading {
	var out []edge.Reading
	for i := range n {
		out = append(out, edge.Reading{Sensor: "s", At: edge.Instant{Mono: int64(first+i) * 10}, Sample: edge.Sample{
			Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: float64(first + i)}})
	}
	return out
}

func start(t testing.TB, b *outbox.Outbox, stream string, readers []journal.Reader) *journal.Segment {
	t.Helper()
	seg, err := b.StartEpoch(ctx, stream, readers, journal.Stamp{Boot: boot, At: edge.Instant{Mono: 1}})
	check(t, err)
	return seg
}

func seal(t testing.TB, b *outbox.Outbox, stream string, first, n int) *journal.Segment {
	t.Helper()
	seg, err := b.Seal(ctx, stream, boot, readings(first, n))
	check(t, err)
	return seg
}

// receipt is what acks of that many of three hubs are.
func receipt(acked int) transport.Receipt {
	var r transport.Receipt
	for i := range 3 {
		id := key(byte(100 + i)).ID()
		r.Targets = append(r.Targets, fleet.Grant{Member: id, Roles: fleet.Hub})
		if i < acked {
			r.Acked = append(r.Acked, id)
		}
	}
	return r
}

// oneHub is the receipt of a fleet with one hub: published, never forgettable.
func oneHub() transport.Receipt {
	id := key(100).ID()
	return transport.Receipt{Targets: []fleet.Grant{{Member: id}}, Acked: []edge.ID{id}}
}

// drain takes all that is pending, acknowledges it and returns it in the order in which it came.
func drain(t testing.TB, b *outbox.Outbox, r transport.Receipt) []*journal.Segment {
	t.Helper()
	var out []*journal.Segment
	for b.Status().Pending > 0 {
		c, cancel := context.WithTimeout(ctx, 20*time.Second)
		items, err := b.Take(c, 16)
		cancel()
		check(t, err)
		for _, it := range items {
			out = append(out, it.Segment)
			check(t, b.Ack(it, r))
		}
	}
	return out
}

// history collects all segments that ever left an outbox and finds forks.
type history struct {
	t    testing.TB
	mu   sync.Mutex
	seen map[journal.Chain]map[uint64]*journal.Segment
}

func newHistory(t testing.TB) *history {
	return &history{t: t, seen: map[journal.Chain]map[uint64]*journal.Segment{}}
}

func (h *history) add(segs ...*journal.Segment) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range segs {
		if h.seen[s.Chain] == nil {
			h.seen[s.Chain] = map[uint64]*journal.Segment{}
		}
		old := h.seen[s.Chain][s.Seq]
		if old == nil {
			h.seen[s.Chain][s.Seq] = s
			continue
		}
		if old.Hash != s.Hash {
			_, _, err := journal.Fork{A: old.SignedHeader(), B: s.SignedHeader()}.Prove(fleetX)
			h.t.Errorf("FORK of %s at seq %d (proof: %v)", s.Chain, s.Seq, err)
		}
	}
}

// read opens all that was published with a reader's key and returns the values and the gaps that the notes tell.
func (h *history) read(k journal.ReaderKey) (values []float64, gaps []journal.GapNote, after map[journal.Chain]*journal.Continuation) {
	h.t.Helper()
	after = map[journal.Chain]*journal.Continuation{}
	for c, segs := range h.seen {
		ring := journal.NewKeyring(k)
		var seqs []uint64
		for seq := range segs {
			seqs = append(seqs, seq)
		}
		slices.Sort(seqs)
		for _, seq := range seqs {
			switch s := segs[seq]; s.Kind {
			case journal.KindEpoch:
				a, err := ring.Learn(s)
				check(h.t, err)
				if a != nil {
					after[c] = a
				}
			case journal.KindReadings:
				rs, err := ring.Readings(s)
				check(h.t, err)
				for _, r := range rs {
					values = append(values, r.Value)
				}
			case journal.KindNote:
				n, err := ring.Note(s)
				check(h.t, err)
				if n.Gap != nil {
					gaps = append(gaps, *n.Gap)
				}
			}
		}
	}
	slices.Sort(values)
	return values, gaps, after
}

func TestPublishInOrder(t *testing.T) {
	dir := t.TempDir()
	k, rs := readerKey(t)
	b, rec := open(t, options(dir))
	if rec.Clean || rec.Pending != 0 {
		t.Fatalf("a new outbox: %+v", rec)
	}
	if _, err := b.Seal(ctx, "main", boot, readings(0, 1)); !errors.Is(err, outbox.ErrNoEpoch) {
		t.Fatalf("without an epoch: %v", err)
	}
	start(t, b, "main", rs)
	for i := range 5 {
		seal(t, b, "main", i*10, 10)
	}
	items, err := b.Take(ctx, 10)
	check(t, err)
	if len(items) != 1 || items[0].Segment.Kind != journal.KindEpoch {
		t.Fatalf("before the epoch is published %d items come, want its own segment", len(items))
	}
	check(t, b.Ack(items[0], receipt(2)))
	h := newHistory(t)
	h.add(items[0].Segment)
	if items, err = b.Take(ctx, 3); err != nil || len(items) != 3 || items[0].Segment.Seq != 1 || items[2].Segment.Seq != 3 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	for _, it := range items {
		check(t, b.Ack(it, receipt(3)))
		h.add(it.Segment)
	}
	h.add(drain(t, b, receipt(3))...)
	values, gaps, _ := h.read(k)
	if len(values) != 50 || values[49] != 49 || len(gaps) != 0 {
		t.Errorf("%d values, gaps %v", len(values), gaps)
	}
	if st := b.Status(); st.Pending != 0 || st.Held != 0 || st.Published != 6 || st.Sealed != 6 || st.Tips["main"].Seq != 5 {
		t.Errorf("%+v", st)
	}
}

func TestResume(t *testing.T) {
	dir := t.TempDir()
	k, rs := readerKey(t)
	b, _ := open(t, options(dir))
	h := newHistory(t)
	first := start(t, b, "main", rs)
	for i := range 10 {
		h.add(seal(t, b, "main", i, 1))
	}
	h.add(first, start(t, b, "slow", rs))
	items, err := b.Take(ctx, 1)
	check(t, err)
	check(t, b.Ack(items[0], receipt(1))) // no majority
	partly := items[0].Segment.Hash
	check(t, b.Close())
	b, rec := open(t, options(dir))
	if !rec.Clean || rec.Pending != 12 || rec.Dropped != 0 || len(rec.Gaps) != 0 {
		t.Fatalf("%+v", rec)
	}
	next := start(t, b, "main", rs)
	if next.Chain != first.Chain || next.Seq != 11 {
		t.Fatalf("goes on as %s seq %d", next.Chain, next.Seq)
	}
	h.add(next, seal(t, b, "main", 10, 1))
	found := false
	for b.Status().Pending > 0 {
		items, err := b.Take(ctx, 4)
		check(t, err)
		for _, it := range items {
			found = found || it.Segment.Hash == partly && len(it.Acked) == 1 && it.Acked[0] == key(100).ID()
			h.add(it.Segment)
			check(t, b.Ack(it, receipt(3)))
		}
	}
	if !found {
		t.Error("the hub that had the segment was forgotten")
	}
	values, _, after := h.read(k)
	if len(values) != 11 || len(after) != 0 || len(h.seen) != 2 {
		t.Errorf("%d values, continuations %v, %d chains", len(values), after, len(h.seen))
	}
	check(t, b.Close())
	if _, rec = open(t, options(dir)); rec.Pending != 0 || !rec.Clean {
		t.Errorf("all is published, and %+v", rec)
	}
}

// TestDroppedFiles: what is forgettable frees the disk, and the chain goes on all the same after a restart.
func TestDroppedFiles(t *testing.T) {
	o := options(t.TempDir())
	o.Quota = 1 << 20
	_, rs := readerKey(t)
	b, _ := open(t, o)
	first := start(t, b, "quiet", rs) // its tip lies in a file that is dropped
	drain(t, b, receipt(3))
	start(t, b, "main", rs)
	for i := range 300 {
		seal(t, b, "main", i*100, 100)
		if i%10 == 0 {
			drain(t, b, receipt(3))
		}
	}
	drain(t, b, receipt(3))
	if st := b.Status(); st.Bytes > 200<<10 || st.GivenUp != 0 || st.Forgotten != 0 {
		t.Fatalf("%+v", st)
	}
	tip := b.Status().Tips["main"]
	check(t, b.Close())
	b, rec := open(t, o)
	if !rec.Clean || rec.Pending != 0 || len(rec.Gaps) != 0 {
		t.Fatalf("%+v", rec)
	}
	if s := start(t, b, "quiet", rs); s.Chain != first.Chain || s.Seq != 1 || s.Prev != first.Hash {
		t.Errorf("quiet goes on as %s seq %d", s.Chain, s.Seq)
	}
	if s := start(t, b, "main", rs); s.Seq != tip.Seq+1 || s.Prev != tip.Hash {
		t.Errorf("main goes on with seq %d after %d", s.Seq, tip.Seq)
	}
}

func TestStreams(t *testing.T) {
	k, rs := readerKey(t)
	b, _ := open(t, options(t.TempDir()))
	done := make(chan error, 4)
	for i := range 4 {
		go func() {
			name := fmt.Sprintf("s%d", i)
			_, err := b.StartEpoch(ctx, name, rs, journal.Stamp{Boot: boot})
			for n := 0; n < 30 && err == nil; n++ {
				_, err = b.Seal(ctx, name, boot, readings(i*1000+n, 1))
			}
			done <- err
		}()
	}
	h := newHistory(t)
	for len(h.seen) < 4 || b.Status().Pending > 0 || b.Status().Sealed < 124 {
		c, cancel := context.WithTimeout(ctx, 20*time.Second)
		items, err := b.Take(c, 8)
		cancel()
		check(t, err)
		for _, it := range items {
			h.add(it.Segment)
			check(t, b.Ack(it, receipt(2)))
		}
	}
	for range 4 {
		check(t, <-done)
	}
	if values, _, _ := h.read(k); len(values) != 120 {
		t.Errorf("%d values", len(values))
	}
}
