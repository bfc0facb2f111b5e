// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Sink keeps readings and the marks of what it has. Safe for concurrent use; several programs may write to one
// database at the same time. collector/sinktest is its contract.
type Sink interface {
	// Marks returns where each chain stands. A sink without memory returns nil: then every pull begins at seq 0. What others return must outlive a
	// power cut, because it is what hubs may be told to forget (Config.Signer).
	Marks(ctx context.Context) (map[journal.Chain]Mark, error)
	// Write commits a batch, all of it or nothing. It is idempotent on (chain, seq, index): a replay changes nothing.
	// An error that wraps ErrPoison is a *PoisonError and names the reading; nothing was written then.
	Write(ctx context.Context, b Batch) error
	Close() error
}

// Pinger is a Sink that can say whether it would take a batch now. Every sink that depends on a server or a file should be one.
type Pinger interface {
	// Ping reaches the database, broker or file, changes nothing, and returns what a write would fail with.
	Ping(ctx context.Context) error
}

// Resetter is a Sink whose checkpoints can be taken back.
type Resetter interface {
	// Reset makes the chain begin at seq 0 again. The readings stay: what is pulled again changes nothing that is there.
	Reset(ctx context.Context, chain journal.Chain) error
}

// Roster is a Sink that knows which collectors write to it, by its own clock, so that they share the chains and take over from each other.
type Roster interface {
	// Present notes that a collector is here, and returns all that were within the time given, itself included, in any order.
	Present(ctx context.Context, collector string, within time.Duration) (here []string, err error)
	// Absent takes a collector off the list.
	Absent(ctx context.Context, collector string) error
}

// Wrapper is a Sink that hands on to another one.
type Wrapper interface{ Unwrap() Sink }

// As returns the sink, or one that it wraps, as a T.
func As[T any](s Sink) (t T, ok bool) {
	for s != nil {
		if t, ok = s.(T); ok {
			return t, true
		}
		w, wraps := s.(Wrapper)
		if !wraps {
			return t, false
		}
		s = w.Unwrap()
	}
	return t, false
}

// Mark is where a chain stands in a sink: up to Link every segment is either written or counted in a gap. Gaps may
// also lie after it: segments that are proven to exist and that no hub had.
type Mark struct {
	Link *journal.Link // nil: nothing yet
	Gaps []Gap         // open ones, ascending, not touching
}

// next returns the first seq that is not accounted for before the end.
func (m *Mark) next() uint64 {
	if m.Link == nil {
		return 0
	}
	return m.Link.Seq + 1
}

// Gap is a run of segments, both ends included, whose readings the sink does not have.
type Gap struct {
	First, Last uint64
	Reason      string       // why the collector could not get it
	Explained   string       // what the device's own gap note says about it; "" without one
	Found       time.Time    // when it was missed first
	Before      journal.Hash // of segment First-1; zero when not known
	After       journal.Hash // that segment Last must have, from its successor; zero when not known
}

// Segments counts the segments of the gap.
func (g Gap) Segments() uint64 { return g.Last - g.First + 1 }

func (g Gap) String() string {
	span := fmt.Sprintf("%d", g.First)
	if g.Last > g.First {
		span = fmt.Sprintf("%d-%d", g.First, g.Last)
	}
	why := g.Reason
	if g.Explained != "" {
		why += "; the device says: " + g.Explained
	}
	return span + " (" + why + ")"
}

// Row is one reading in its place. The place (chain, Seq, Index) is its identity.
type Row struct {
	Seq   uint64
	Index int            // position in the segment, from 0
	Boot  journal.BootID // the boot that Reading.At.Mono counts from
	edge.Reading
}

// Note is what a segment says about logs and clocks: exactly one of Clock, Gap, After is set.
type Note struct {
	Seq   uint64
	Clock *journal.ClockNote
	Gap   *journal.GapNote
	After *journal.Continuation
}

// Fork is the signed proof that two segments claim one place.
type Fork struct {
	Seq   uint64
	Proof journal.Fork
}

// Batch is what one Write commits: the segments From..To of a chain. Seqs that are not in Gaps are accounted for,
// also those without rows (epochs, notes, segments sealed for others). To < From covers nothing.
type Batch struct {
	Chain    journal.Chain
	Name     string // the device's name in the fleet, "" if it has none
	From, To uint64
	Mark     *journal.Link // the new mark, nil when it does not move (gaps filled later, gaps after the end)
	Readings []Row         // ascending by (Seq, Index)
	Gaps     []Gap         // within From..To
	Notes    []Note
	Forks    []Fork
	Received time.Time

	Secondary bool // some units are secondary ones (RFC 8798), for an export: package shape
}

// PoisonError names the reading that a sink cannot hold. It wraps ErrPoison and the cause.
type PoisonError struct {
	Chain journal.Chain
	Seq   uint64
	Index int
	Err   error
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("reading %d of seq %d of %s: %v: %v", e.Index, e.Seq, e.Chain, ErrPoison, e.Err)
}

// Unwrap returns ErrPoison and the cause.
func (e *PoisonError) Unwrap() []error { return []error{ErrPoison, e.Err} }

// maxTime is the end of the year 9999 in ms since 1970: what every database can hold.
const maxTime = 253402300799999

// Check finds the first reading that no sink can hold (not finite, not UTF-8, bad names, absurd times), as a *PoisonError. nulText
// says whether the sink can hold a NUL character in a text. Every sink calls it before it writes.
func (b *Batch) Check(nulText bool) error {
	for i := range b.Readings {
		r := b.Readings[i]
		if b.Secondary {
			r.Unit = ""
		}
		if err := checkRow(&r, nulText); err != nil {
			return &PoisonError{Chain: b.Chain, Seq: r.Seq, Index: r.Index, Err: err}
		}
	}
	return nil
}

func checkRow(r *Row, nulText bool) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if !nulText && strings.ContainsRune(r.Text, 0) {
		return fmt.Errorf("%s: text holds a NUL character, which this database cannot store", r.Name())
	}
	if r.At.Wall > maxTime || r.At.Mono > maxTime {
		return fmt.Errorf("%s: time %d ms since boot, %d ms since 1970 is after the year 9999", r.Name(), r.At.Mono, r.At.Wall)
	}
	return nil
}

// Boots returns the boots whose unsynchronised readings may get their time by this batch: those of such readings and
// those of clock notes. A sink restamps the readings of these boots by the device's first clock note that it has.
func (b *Batch) Boots() []journal.BootID {
	var out []journal.BootID
	add := func(boot journal.BootID) {
		if !slices.Contains(out, boot) {
			out = append(out, boot)
		}
	}
	for i := range b.Readings {
		if !b.Readings[i].At.Synced() {
			add(b.Readings[i].Boot)
		}
	}
	for _, n := range b.Notes {
		if n.Clock != nil {
			add(n.Clock.Boot)
		}
	}
	return out
}

// Series is one quantity of one sensor.
type Series struct{ Sensor, Name, Unit string }

// Series returns what the batch's readings measure, each once.
func (b *Batch) Series() []Series {
	var out []Series
	seen := map[Series]bool{}
	for i := range b.Readings {
		r := &b.Readings[i]
		s := Series{r.Sensor, r.Quantity.Name, r.Unit}
		if n := len(out); n > 0 && out[n-1] == s || seen[s] {
			continue
		}
		seen[s] = true
		out = append(out, s)
	}
	return out
}

// Advance decides, inside the sink's transaction, whether stored moves to b.Mark. It never goes back; an error wraps
// ErrJump when segments between the two would be skipped, journal.ErrFork when both stand in one place and differ.
func (b *Batch) Advance(stored *journal.Link) (move bool, err error) {
	switch {
	case b.Mark == nil:
		return false, nil
	case stored == nil && b.From != 0, stored != nil && b.From > stored.Seq+1:
		return false, fmt.Errorf("collector: batch %d-%d of %s: %w", b.From, b.To, b.Chain, ErrJump)
	case stored == nil || b.Mark.Seq > stored.Seq:
		return true, nil
	case b.Mark.Seq == stored.Seq && b.Mark.Hash != stored.Hash:
		return false, fmt.Errorf("collector: checkpoint %d of %s: %w", stored.Seq, b.Chain, journal.ErrFork)
	}
	return false, nil
}

// GapChange is what a batch does to the open gaps of its chain: remove Drop, then record Close as closed and Open as
// open.
type GapChange struct{ Drop, Close, Open []Gap }

// Regap compares a batch with the open gaps of its chain and with the mark as it was before the batch. What lies at
// or before the mark and is in no open gap is already accounted for by somebody, so no gap is opened there.
func (b *Batch) Regap(open []Gap, stored *journal.Link) GapChange {
	var ch GapChange
	if b.To < b.From {
		return ch
	}
	fresh := append([]Gap(nil), b.Gaps...)
	for _, g := range open {
		if g.Last < b.From || g.First > b.To {
			continue
		}
		fresh = cutAll(fresh, g)
		kept, closed := b.split(g)
		if len(kept) == 1 && kept[0] == g {
			continue
		}
		ch.Drop = append(ch.Drop, g)
		ch.Close = append(ch.Close, closed...)
		ch.Open = append(ch.Open, kept...)
	}
	if stored != nil {
		fresh = cutAll(fresh, Gap{First: 0, Last: stored.Seq})
	}
	ch.Open = append(ch.Open, fresh...)
	return ch
}

// split divides an open gap into what stays open and what the batch brought.
func (b *Batch) split(g Gap) (kept, closed []Gap) {
	inside := []Gap{g}
	if g.First < b.From {
		kept = append(kept, g.slice(g.First, b.From-1))
		inside[0] = g.slice(b.From, g.Last)
	}
	if g.Last > b.To {
		inside[0] = inside[0].slice(inside[0].First, b.To)
	}
	for _, miss := range b.Gaps {
		if miss.First > g.Last || miss.Last < g.First {
			continue
		}
		still := miss.slice(max(miss.First, g.First), min(miss.Last, g.Last))
		still.Found, still.Explained = g.Found, g.Explained
		if still.First == g.First && still.Before == (journal.Hash{}) {
			still.Before = g.Before
		}
		if still.Last == g.Last && still.After == (journal.Hash{}) {
			still.After = g.After
		}
		kept = append(kept, still)
		inside = cutAll(inside, miss)
	}
	if g.Last > b.To {
		kept = append(kept, g.slice(b.To+1, g.Last))
	}
	return kept, inside
}

// slice returns the part first..last of the gap; what is known about an end stays only with that end.
func (g Gap) slice(first, last uint64) Gap {
	if first != g.First {
		g.Before = journal.Hash{}
	}
	if last != g.Last {
		g.After = journal.Hash{}
	}
	g.First, g.Last = first, last
	return g
}

// cutAll returns the gaps without what lies in cut.
func cutAll(gaps []Gap, cut Gap) []Gap {
	var out []Gap
	for _, g := range gaps {
		if g.Last < cut.First || g.First > cut.Last {
			out = append(out, g)
			continue
		}
		if g.First < cut.First {
			out = append(out, g.slice(g.First, cut.First-1))
		}
		if g.Last > cut.Last {
			out = append(out, g.slice(cut.Last+1, g.Last))
		}
	}
	return out
}

// Apply returns the open gaps after the change, ascending.
func (ch GapChange) Apply(open []Gap) []Gap {
	out := make([]Gap, 0, len(open)+len(ch.Open))
	for _, g := range open {
		dropped := false
		for _, d := range ch.Drop {
			dropped = dropped || d.First == g.First
		}
		if !dropped {
			out = append(out, g)
		}
	}
	out = append(out, ch.Open...)
	sortGaps(out)
	return out
}
