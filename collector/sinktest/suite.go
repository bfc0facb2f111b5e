// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Run holds a sink to its contract. fresh gives each part a database of its own.
func Run(t *testing.T, fresh func(t testing.TB) Subject) {
	for _, part := range []struct {
		name string
		test func(*testing.T, Subject)
	}{
		{"replay changes nothing", replay}, {"all or nothing", atomic}, {"the mark never goes back", monotonic},
		{"gaps open, split and close", gaps}, {"clock notes restamp", restamp}, {"gap notes explain", explain},
		{"forks are kept", forks}, {"values come back as they were", values}, {"poison is named", poison},
		{"many chains at a time", concurrent}, {"two sinks on one database", shared},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, fresh(t)) })
	}
}

// Chain returns the n-th chain of a device that the suite made up.
func Chain(device, n byte) journal.Chain {
	c := journal.Chain{Stream: "main"}
	c.Fleet[0], c.Device[0], c.Incarnation[0] = 7, device, n
	return c
}

// Rows makes per readings for each of the segments from..to.
func Rows(from, to uint64, per int) []collector.Row {
	var out []collector.Row
	for seq := from; seq <= to; seq++ {
		for i := range per {
			mono := int64(seq)*1000 + int64(i)
			out = append(out, collector.Row{Seq: seq, Index: i, Boot: journal.BootID{9}, Reading: edge.Reading{Sensor: "bme280-0",
				At:     edge.Instant{Mono: mono, Wall: 1_700_000_000_000 + mono},
				Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: float64(mono) / 3}}})
		}
	}
	return out
}

// link is the link that the suite's segment seq has.
func link(seq uint64) *journal.Link {
	return &journal.Link{Seq: seq, Hash: journal.Hash{1, byte(seq), byte(seq >> 8)}}
}

// batch covers from..to and moves the mark to to.
func batch(c journal.Chain, from, to uint64, per int) collector.Batch {
	return collector.Batch{Chain: c, Name: "device", From: from, To: to, Mark: link(to), Readings: Rows(from, to, per),
		Received: time.UnixMilli(1_700_000_500_000).UTC()}
}

func write(t testing.TB, s collector.Sink, b collector.Batch) {
	t.Helper()
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func mark(t testing.TB, s collector.Sink, c journal.Chain) collector.Mark {
	t.Helper()
	m, err := s.Marks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m[c]
}

// wantMark checks where a chain stands; to < 0: it has no mark.
func wantMark(t testing.TB, s collector.Sink, c journal.Chain, to int) {
	t.Helper()
	m := mark(t, s, c)
	switch {
	case to < 0 && m.Link != nil, to >= 0 && m.Link == nil:
		t.Errorf("mark is %v, want seq %d", m.Link, to)
	case to >= 0 && *m.Link != *link(uint64(to)):
		t.Errorf("mark is seq %d (%s), want %d", m.Link.Seq, m.Link.Hash, to)
	}
}

func replay(t *testing.T, s Subject) {
	c := Chain(1, 1)
	b := batch(c, 0, 9, 30)
	b.Notes = []collector.Note{{Seq: 3, Clock: &journal.ClockNote{Boot: journal.BootID{8}, Mono: 5, Wall: 1_700_000_000_005}},
		{Seq: 4, After: &journal.Continuation{Last: journal.Link{Seq: 4}}}}
	b.Gaps = []collector.Gap{{First: 5, Last: 6, Reason: "lost", Found: b.Received}}
	b.Readings = without(b.Readings, 5, 6)
	write(t, s.Sink, b)
	rows, gaps := s.Readings(t), s.Gaps(t)
	if len(rows) != 8*30 || len(gaps) != 1 {
		t.Fatalf("%d readings, %d gaps", len(rows), len(gaps))
	}
	again := b
	again.Received = b.Received.Add(time.Hour)
	write(t, s.Sink, again)
	part := batch(c, 2, 4, 30)
	part.Mark = nil
	write(t, s.Sink, part)
	if !reflect.DeepEqual(s.Readings(t), rows) || !reflect.DeepEqual(s.Gaps(t), gaps) || s.Count(t, `SELECT count(*) FROM note`) != 2 {
		t.Errorf("a replay changed something: gaps %v", s.Gaps(t))
	}
	wantMark(t, s.Sink, c, 9)
}

func without(rows []collector.Row, first, last uint64) []collector.Row {
	var out []collector.Row
	for _, r := range rows {
		if r.Seq < first || r.Seq > last {
			out = append(out, r)
		}
	}
	return out
}

func atomic(t *testing.T, s Subject) {
	c := Chain(1, 1)
	b := batch(c, 0, 99, 300)
	b.Gaps = []collector.Gap{{First: 7, Last: 7, Reason: "lost", Found: b.Received}}
	cancelled := 0
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		err := s.Sink.Write(ctx, b)
		cancel()
		if err == nil {
			break
		}
		cancelled++
		if n := len(s.Readings(t)); n != 0 || len(s.Gaps(t)) != 0 {
			t.Fatalf("cancelled after %v: %d readings are there, gaps %v", after, n, s.Gaps(t))
		}
		wantMark(t, s.Sink, c, -1)
	}
	if cancelled == 0 {
		t.Error("no write was cancelled: make the batch larger")
	}
	write(t, s.Sink, b)
	if n := len(s.Readings(t)); n != 30_000 {
		t.Errorf("%d readings, want 30000", n)
	}
	wantMark(t, s.Sink, c, 99)
}

func monotonic(t *testing.T, s Subject) {
	c := Chain(1, 1)
	if err := s.Sink.Write(t.Context(), batch(c, 3, 5, 1)); !errors.Is(err, collector.ErrJump) {
		t.Errorf("a first batch at seq 3: %v, want %v", err, collector.ErrJump)
	}
	write(t, s.Sink, batch(c, 0, 9, 1))
	write(t, s.Sink, batch(c, 2, 5, 1))
	wantMark(t, s.Sink, c, 9)
	if err := s.Sink.Write(t.Context(), batch(c, 11, 12, 1)); !errors.Is(err, collector.ErrJump) {
		t.Errorf("a batch that skips seq 10: %v, want %v", err, collector.ErrJump)
	}
	other := batch(c, 5, 9, 1)
	other.Mark = &journal.Link{Seq: 9, Hash: journal.Hash{66}}
	if err := s.Sink.Write(t.Context(), other); !errors.Is(err, journal.ErrFork) {
		t.Errorf("another hash at the mark: %v, want %v", err, journal.ErrFork)
	}
	write(t, s.Sink, batch(c, 8, 12, 1))
	wantMark(t, s.Sink, c, 12)
	if n := len(s.Readings(t)); n != 13 {
		t.Errorf("%d readings, want 13: a refused batch left some", n)
	}
}

func gaps(t *testing.T, s Subject) {
	c := Chain(1, 1)
	b := batch(c, 0, 29, 2)
	b.Gaps = []collector.Gap{{First: 10, Last: 19, Reason: "lost", Found: b.Received, Before: journal.Hash{1}, After: journal.Hash{2}}}
	b.Readings = without(b.Readings, 10, 19)
	write(t, s.Sink, b)
	tail := batch(c, 30, 34, 0)
	tail.Mark, tail.Gaps = nil, []collector.Gap{{First: 30, Last: 34, Reason: "not there yet", Found: b.Received}}
	write(t, s.Sink, tail)
	wantMark(t, s.Sink, c, 29)
	if got := mark(t, s.Sink, c).Gaps; !reflect.DeepEqual(got, []collector.Gap{b.Gaps[0], tail.Gaps[0]}) {
		t.Errorf("open gaps %+v, want %+v and %+v", got, b.Gaps[0], tail.Gaps[0])
	}
	fill := batch(c, 13, 15, 2)
	fill.Mark = nil
	write(t, s.Sink, fill)
	write(t, s.Sink, batch(c, 30, 40, 2))
	name := c.String()
	want := []Gap{{name, 10, 12, "lost", "", false}, {name, 13, 15, "lost", "", true}, {name, 16, 19, "lost", "", false}, {name, 30, 34, "not there yet", "", true}}
	if got := s.Gaps(t); !reflect.DeepEqual(got, want) {
		t.Errorf("gaps %+v\nwant %+v", got, want)
	}
	wantMark(t, s.Sink, c, 40)
	if n := len(s.Readings(t)); n != 2*(41-7) {
		t.Errorf("%d readings", n)
	}
}

func restamp(t *testing.T, s Subject) {
	boot, other := journal.BootID{1}, journal.BootID{2}
	c, later, stranger := Chain(1, 1), Chain(1, 2), Chain(2, 1)
	unsynced := func(c journal.Chain, from uint64, boot journal.BootID) collector.Batch {
		b := batch(c, from, from, 3)
		for i := range b.Readings {
			b.Readings[i].Boot, b.Readings[i].At.Wall = boot, 0
		}
		return b
	}
	write(t, s.Sink, unsynced(c, 0, boot))
	write(t, s.Sink, unsynced(c, 1, other))
	write(t, s.Sink, unsynced(stranger, 0, boot))
	note := batch(c, 2, 2, 0)
	note.Notes = []collector.Note{{Seq: 2, Clock: &journal.ClockNote{Boot: boot, Mono: 5000, Wall: 1_700_000_005_000}}}
	write(t, s.Sink, note)
	write(t, s.Sink, unsynced(c, 3, boot))     // came after the note
	write(t, s.Sink, unsynced(later, 0, boot)) // another chain of the device
	second := batch(c, 4, 4, 0)
	second.Notes = []collector.Note{{Seq: 4, Clock: &journal.ClockNote{Boot: boot, Mono: 5000, Wall: 1_800_000_005_000}}}
	write(t, s.Sink, second)
	for _, r := range s.Readings(t) {
		want, ts := "restamped", 1_700_000_000_000+r.Mono
		if r.Chain == stranger.String() || (r.Chain == c.String() && r.Seq == 1) {
			want, ts = "unsynced", -1
		}
		if r.Clock != want || r.TS != ts {
			t.Errorf("%s seq %d mono %d: clock %s, time %d; want %s, %d", r.Chain, r.Seq, r.Mono, r.Clock, r.TS, want, ts)
		}
	}
}

func explain(t *testing.T, s Subject) {
	old, now := Chain(1, 1), Chain(1, 2)
	b := batch(old, 0, 0, 1)
	write(t, s.Sink, b)
	lost := batch(old, 1, 8, 0)
	lost.Mark, lost.Gaps = nil, []collector.Gap{{First: 1, Last: 8, Reason: "no hub holds it", Found: b.Received}}
	write(t, s.Sink, lost)
	n := batch(now, 0, 0, 0)
	n.Notes = []collector.Note{{Seq: 0, Gap: &journal.GapNote{Reason: journal.GapQuota, Incarnation: old.Incarnation, From: 1, To: 8, Segments: 8, Readings: 80}}}
	write(t, s.Sink, n)
	if g := mark(t, s.Sink, old).Gaps; len(g) != 1 || g[0].Explained != journal.GapQuota.String() || g[0].Reason != "no hub holds it" {
		t.Errorf("gaps %+v", g)
	}
	// A device may claim any number of readings: one that is beyond the column must not stop the chain.
	n = batch(now, 1, 1, 0)
	n.Notes = []collector.Note{{Seq: 1, Gap: &journal.GapNote{Reason: journal.GapQuota, Incarnation: old.Incarnation, From: 9, To: 9, Segments: 1, Readings: math.MaxUint64}}}
	write(t, s.Sink, n)
	if n := s.Count(t, `SELECT readings FROM note WHERE seq = 1`); n != math.MaxInt64 {
		t.Errorf("%d readings claimed", n)
	}
}

func forks(t *testing.T, s Subject) {
	b := collector.Batch{Chain: Chain(1, 1), From: 1, To: 0, Received: time.Now(), Forks: []collector.Fork{{Seq: 5, Proof: journal.Fork{A: []byte{1}, B: []byte{2}}}}}
	write(t, s.Sink, b)
	write(t, s.Sink, b)
	if n := s.Count(t, `SELECT count(*) FROM fork WHERE seq = 5`); n != 1 {
		t.Errorf("%d forks", n)
	}
	wantMark(t, s.Sink, b.Chain, -1)
}

func values(t *testing.T, s Subject) {
	b, want := odd()
	for i := range b.Readings {
		b.Readings[i].At.Wall = 253402300799999
	}
	write(t, s.Sink, b)
	for i, r := range s.Readings(t) {
		if r.Value != want[i] || r.TS != 253402300799999 || r.Clock != "synced" {
			t.Errorf("reading %d: %q at %d, want %q", i, r.Value, r.TS, want[i])
		}
	}
}

// odd is a batch of one segment with values of all kinds that are easily spoilt, and how fmt.Sprint shows them.
func odd() (b collector.Batch, want []string) {
	b = batch(Chain(1, 1), 0, 0, 0)
	add := func(q edge.Quantity, v float64, text, shown string) {
		b.Readings = append(b.Readings, collector.Row{Index: len(want), Reading: edge.Reading{Sensor: "s", At: edge.Instant{Mono: 1, Wall: 1_700_000_000_123},
			Sample: edge.Sample{Quantity: q, Value: v, Text: text}}})
		want = append(want, shown)
	}
	for _, v := range []float64{0, 0.1, -1.0 / 3, math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 60} {
		add(edge.Quantity{Name: "v", Unit: "Cel"}, v, "", fmt.Sprint(v))
	}
	for _, text := range []string{"", "Füße 門 🌡", "a\tb\nc\r\\N \\. ' \" , ; --", "\x01\x7f\u2028", "e\u0301"} {
		add(edge.Quantity{Name: "vs", Kind: edge.Text}, 0, text, text)
	}
	add(edge.Quantity{Name: "vb", Kind: edge.State}, 1, "", "true")
	add(edge.Quantity{Name: "vb", Kind: edge.State}, 0, "", "false")
	add(edge.Quantity{Name: "s", Unit: "count", Kind: edge.Counter}, 12345678901, "", fmt.Sprint(12345678901.0))
	return b, want
}

func poison(t *testing.T, s Subject) {
	spoil := map[string]func(*edge.Reading){
		"not a number": func(r *edge.Reading) { r.Value = math.NaN() },
		"infinite":     func(r *edge.Reading) { r.Value = math.Inf(1) },
		"not UTF-8":    func(r *edge.Reading) { r.Kind, r.Value, r.Text = edge.Text, 0, "\xff" },
		"unknown unit": func(r *edge.Reading) { r.Unit = "furlong" },
		"bad name":     func(r *edge.Reading) { r.Sensor = "a b" },
		"year 300000":  func(r *edge.Reading) { r.At.Wall = 1 << 53 },
	}
	if !s.NULText {
		spoil["NUL"] = func(r *edge.Reading) { r.Kind, r.Value, r.Text = edge.Text, 0, "a\x00b" }
	}
	for name, f := range spoil {
		b := batch(Chain(1, 1), 0, 4, 3)
		f(&b.Readings[7].Reading)
		err := s.Sink.Write(t.Context(), b)
		var p *collector.PoisonError
		if !errors.As(err, &p) || !errors.Is(err, collector.ErrPoison) || p.Seq != 2 || p.Index != 1 {
			t.Errorf("%s: %v, want a PoisonError at seq 2, index 1", name, err)
		}
	}
	if n := len(s.Readings(t)); n != 0 {
		t.Errorf("%d readings of refused batches", n)
	}
	write(t, s.Sink, batch(Chain(1, 1), 0, 4, 3))
}

// concurrent writes many chains of few devices at the same time.
func concurrent(t *testing.T, s Subject) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for from := uint64(0); from < 50; from += 10 {
				if err := s.Sink.Write(t.Context(), batch(Chain(byte(i%4), byte(i)), from, from+9, 5)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(s.Readings(t)); n != 16*50*5 {
		t.Errorf("%d readings, want %d", n, 16*50*5)
	}
}

// shared lets two sinks write the same chains at the same time, as two collectors do.
func shared(t *testing.T, s Subject) {
	var wg sync.WaitGroup
	for _, sink := range []collector.Sink{s.Reopen(t), s.Reopen(t)} {
		for i := range 3 {
			wg.Go(func() {
				for from := uint64(0); from < 60; from += 6 {
					if err := sink.Write(t.Context(), batch(Chain(1, byte(i)), from, from+5, 20)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if n := len(s.Readings(t)); n != 3*60*20 {
		t.Errorf("%d readings, want %d", n, 3*60*20)
	}
	wantMark(t, s.Sink, Chain(1, 2), 59)
}
