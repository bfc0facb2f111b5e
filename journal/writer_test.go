// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

func TestWriter_OneSegmentPerSeq(t *testing.T) {
	w, epoch := newWriter(t)
	first, err := w.Readings(testBoot, weather(3, 0))
	if err != nil {
		t.Fatal(err)
	}
	makers := map[string]func() (*journal.Segment, error){
		"readings": func() (*journal.Segment, error) { return w.Readings(testBoot, weather(4, 0)) },
		"note":     func() (*journal.Segment, error) { return w.Note(goldenNote, stamp(2000, 0)) },
		"epoch":    func() (*journal.Segment, error) { return w.Epoch(readers(t, testReader(t, 9)), nil, stamp(2000, 0)) },
		"plain":    func() (*journal.Segment, error) { return w.Plain([]byte{0x80}, 0, stamp(2000, 0)) },
	}
	for name, made := range makers {
		if s, err := made(); err == nil {
			t.Errorf("%s: got a second segment for seq %d while the first is pending", name, s.Seq)
		}
	}
	if err := w.Commit(epoch); err == nil {
		t.Error("committed a segment twice")
	}
	if err := w.Commit(nil); err == nil {
		t.Error("committed nothing")
	}
	copied := *first
	if err := w.Commit(&copied); err == nil {
		t.Error("committed a segment that the writer did not make")
	}
	w.Abandon()
	if err := w.Commit(first); err == nil {
		t.Error("committed after Abandon")
	}
	for name, made := range makers {
		if _, err := made(); !errors.Is(err, journal.ErrSpent) {
			t.Errorf("%s after Abandon: %v, want ErrSpent", name, err)
		}
	}
	if tip := w.Tip(); tip == nil || *tip != epoch.Link() {
		t.Errorf("tip %v after an abandoned segment", tip)
	}
}

// A nonce is the seq under the epoch's key, so no key may ever see one seq twice: neither in a chain nor when a chain is
// resumed at a tip after which segments had been made already.
func TestWriter_NeverTheSameNonceForTwoPlaintexts(t *testing.T) {
	w, epoch := newWriter(t)
	tip := epoch.Link()
	lost := commit(t, w)(w.Readings(testBoot, weather(3, 0)))
	resumed, err := journal.ResumeWriter(w.Chain(), &tip, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resumed.Readings(testBoot, weather(4, 0)); err == nil {
		t.Fatal("sealed after a restart without a new epoch")
	}
	fresh := commit(t, resumed)(resumed.Epoch(readers(t, testReader(t, 9)), nil, stamp(3000, 0)))
	again := commit(t, resumed)(resumed.Readings(testBoot, weather(3, 0)))
	if fresh.Seq != 1 || again.Seq != 2 || again.Epoch != 1 {
		t.Fatalf("resumed at seq %d, readings at %d of epoch %d", fresh.Seq, again.Seq, again.Epoch)
	}
	k := keyring(t, fresh)
	if _, err := k.Readings(again); err != nil {
		t.Error(err)
	}
	if _, err := k.Readings(lost); !errors.Is(err, journal.ErrUnknownEpoch) {
		t.Errorf("a segment of the lost tail under the new epoch's key: %v", err)
	}
	if _, err := journal.ResumeWriter(w.Chain(), &tip, testKey(2)); !errors.Is(err, journal.ErrForeignSigner) {
		t.Errorf("resumed with another device's key: %v", err)
	}
}

func TestWriter_RefusesWhatReadersWouldRefuse(t *testing.T) {
	w, _ := newWriter(t)
	at := func(mono, wall int64) edge.Reading {
		r := weather(1, 0)[0]
		r.At = edge.Instant{Mono: mono, Wall: wall}
		return r
	}
	text := func(n int) []edge.Reading {
		out := make([]edge.Reading, n)
		for i := range out {
			out[i] = at(int64(i), 0)
			out[i].Sample = edge.Sample{Quantity: edge.Quantity{Name: "state", Kind: edge.Text}, Text: strings.Repeat("x", edge.MaxTextLength)}
		}
		return out
	}
	for name, batch := range map[string][]edge.Reading{
		"nothing":                    nil,
		"too many":                   make([]edge.Reading, journal.MaxReadings+1),
		"clock set within the batch": {at(1000, 0), at(2000, 5_000_000)},
		"clock lost in the batch":    {at(2000, 5_000_000), at(1000, 0)},
		"clock stepped in the batch": {at(1000, 5_000_000), at(2000, 5_001_001)},
		"negative mono":              {at(-1, 0)},
		"negative wall":              {at(1, -1)},
		"wall that overflows":        {at(0, math.MaxInt64), at(math.MaxInt64, math.MaxInt64-1)},
		"after the year 9999":        {at(0, journal.MaxTime+1)},
		"begins before 1970":         {at(0, -4000), at(5000, 1000)},
		"bad name":                   {{Sensor: "Ä", Sample: weather(1, 0)[0].Sample}},
		"unfolds beyond the limit":   text(journal.MaxPlain/edge.MaxTextLength + 1),
	} {
		if s, err := w.Readings(testBoot, batch); err == nil {
			t.Errorf("%s: sealed as seq %d", name, s.Seq)
		}
	}
	for name, n := range map[string]journal.Note{
		"empty":           {},
		"two things":      {Clock: goldenNote.Clock, Gap: &journal.GapNote{}},
		"clock in 1970":   {Clock: &journal.ClockNote{Mono: 1}},
		"clock backwards": {Clock: &journal.ClockNote{Mono: -1, Wall: 1}},
		"gap backwards":   {Gap: &journal.GapNote{From: 2, To: 1}},
		"gap of too many": {Gap: &journal.GapNote{From: 2, To: 3, Segments: 3}},
	} {
		if _, err := w.Note(n, stamp(2000, 0)); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("note %s: %v", name, err)
		}
	}
	if _, err := w.Note(goldenNote, stamp(-1, 0)); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("note before boot: %v", err)
	}
	if _, err := w.Epoch(nil, nil, stamp(2000, 0)); err == nil {
		t.Error("sealed to nobody")
	}
	if _, err := w.Epoch(readers(t, testReader(t, 9)), &journal.Continuation{Incarnation: testChain(1).Incarnation}, stamp(2000, 0)); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("continues itself: %v", err)
	}
	if _, err := w.Plain(make([]byte, journal.MaxSegment), 1, stamp(2000, 0)); !errors.Is(err, journal.ErrOversize) {
		t.Errorf("oversize: %v", err)
	}
	for _, n := range []int{-1, journal.MaxReadings + 1, math.MaxInt} {
		if _, err := w.Plain([]byte{0x80}, n, stamp(2000, 0)); !errors.Is(err, journal.ErrOversize) {
			t.Errorf("%d entries: %v", n, err)
		}
	}
	many := make([]journal.Reader, 300)
	for i := range many {
		many[i] = readers(t, testReader(t, 9))[0]
	}
	if _, err := w.Epoch(many, nil, stamp(2000, 0)); !errors.Is(err, journal.ErrOversize) {
		t.Errorf("300 readers: %v", err)
	}
	// None of that took the seq or spoilt the writer.
	if s := commit(t, w)(w.Readings(testBoot, weather(journal.MaxReadings, 0))); s.Seq != 1 || len(s.Bytes()) > journal.MaxSegment {
		t.Errorf("seq %d of %d bytes", s.Seq, len(s.Bytes()))
	}
	for _, name := range []string{"", "Main", "a/b", strings.Repeat("a", 33), "-a", ".", "é"} {
		if _, err := journal.NewWriter(testFleet, name, testKey(1)); err == nil {
			t.Errorf("stream %q was taken", name)
		}
	}
}

func TestWriter_NewIncarnationIsRandomAndContinues(t *testing.T) {
	a, err := journal.NewWriter(testFleet, "main", testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := journal.NewWriter(testFleet, "main", testKey(1))
	if err != nil || a.Chain() == b.Chain() {
		t.Fatalf("two incarnations are one: %s, %v", b.Chain(), err)
	}
	want := journal.Continuation{Incarnation: a.Chain().Incarnation, Last: journal.Link{Seq: 7, Hash: journal.Hash{7}}}
	epoch := commit(t, b)(b.Epoch(readers(t, testReader(t, 9)), &want, stamp(1, 0)))
	got, err := journal.NewKeyring(testReader(t, 9)).Learn(epoch)
	if err != nil || got == nil || *got != want {
		t.Errorf("continuation %+v, %v", got, err)
	}
	stranger := journal.NewKeyring(testReader(t, 7))
	if got, err = stranger.Learn(epoch); !errors.Is(err, journal.ErrNotReader) || got == nil || *got != want {
		t.Errorf("to a stranger: continuation %+v, %v", got, err)
	}
}

func TestClockNote_Restamp(t *testing.T) {
	note := journal.ClockNote{Boot: testBoot, Mono: 10_000, Wall: goldenWall}
	other := journal.BootID{1}
	for _, c := range []struct {
		name string
		note journal.ClockNote
		boot journal.BootID
		at   edge.Instant
		want int64
	}{
		{"before the note", note, testBoot, edge.Instant{Mono: 4000}, goldenWall - 6000},
		{"after the note", note, testBoot, edge.Instant{Mono: 11_000}, goldenWall + 1000},
		{"known already", note, testBoot, edge.Instant{Mono: 4000, Wall: 5}, 5},
		{"another boot", note, other, edge.Instant{Mono: 4000}, 0},
		{"before 1970", journal.ClockNote{Boot: testBoot, Mono: 10_000, Wall: 1000}, testBoot, edge.Instant{Mono: 1}, 0},
		{"after 9999", journal.ClockNote{Boot: testBoot, Wall: journal.MaxTime}, testBoot, edge.Instant{Mono: 1}, 0},
		{"overflowing instant", note, testBoot, edge.Instant{Mono: math.MaxInt64}, 0},
		{"overflowing note", journal.ClockNote{Boot: testBoot, Mono: math.MinInt64, Wall: math.MaxInt64}, testBoot, edge.Instant{Mono: 1}, 0},
	} {
		if got := c.note.Restamp(c.boot, c.at); got.Wall != c.want || got.Mono != c.at.Mono {
			t.Errorf("%s: %+v, want wall %d", c.name, got, c.want)
		}
	}
}

func TestWriter_PacksOnlyWhatGetsSmaller(t *testing.T) {
	w, epoch := newWriter(t)
	k := keyring(t, epoch)
	for _, n := range []int{1, 6, 10, 100, 1000, 8192} {
		want := weather(n, goldenWall)
		s := commit(t, w)(w.Readings(testBoot, want))
		plain, err := edge.MarshalSenML(testKey(1).ID(), s.Mono, want)
		if err != nil {
			t.Fatal(err)
		}
		if (s.Coding == journal.CodingZstd) != (n >= 10) || int(s.Size) > max(256, (len(plain)+1)*17/16)+16 {
			t.Errorf("%d readings of %d bytes: coding %d, %d bytes", n, len(plain), s.Coding, s.Size)
		}
		got, err := k.Readings(s)
		if err != nil || len(got) != n || got[n-1] != want[n-1] {
			t.Errorf("%d readings come back as %d: %v", n, len(got), err)
		}
	}
	if packed, coding, err := journal.Pack(bytes.Repeat([]byte{1}, journal.MaxPlain)); err != nil || coding != journal.CodingZstd || len(packed) > 1000 {
		t.Errorf("packed to %d bytes, coding %d, %v", len(packed), coding, err)
	}
}
