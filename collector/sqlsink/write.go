// SPDX-License-Identifier: Apache-2.0

package sqlsink

import (
	"context"
	"database/sql"
	"math"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Queries are what a Writer says, in the words of one database; behind each are its parameters. What is there already stays.
type Queries struct {
	Checkpoint string // seq and hash of: chain
	Move       string // chain, seq, hash, updated; the only one that replaces what is there

	Gaps    string // OpenGaps of: chain
	DropGap string // chain, first_seq
	AddGap  string // chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash

	ClockNote string // chain, seq, boot, mono_ms, wall
	GapNote   string // chain, seq, reason, incarnation, first_seq, last_seq, segments, readings
	AfterNote string // chain, seq, incarnation, last_seq, hash
	Fork      string // chain, seq, a, b, found

	FirstClock string // mono_ms and wall of the first clock note of: boot, device
	Restamp    string // ms since 1970 at the boot, device, boot
	Explain    string // device, stream: the device's own reason beside open gaps of the stream
}

// Step is a part of what a batch writes.
type Step = func(context.Context) error

// Writer writes one batch in one transaction.
type Writer struct {
	Tx      Tx
	Queries *Queries
	Batch   *collector.Batch
	Device  string              // its id
	Time    func(time.Time) any // a time as this database has it
	Chain   int64               // of the chain's row
	Fresh   bool                // after the checkpoint was moved: no segment of the batch was written before
}

// NewWriter returns the writer of a batch; at makes a time what this database has in its columns.
func NewWriter(tx Tx, q *Queries, b *collector.Batch, at func(time.Time) any) *Writer {
	return &Writer{Tx: tx, Queries: q, Batch: b, Device: b.Chain.Device.String(), Time: at}
}

// Native is the Time of databases whose driver takes a time.Time.
func Native(t time.Time) any { return t }

// Millis is the Time of databases that have no times: milliseconds since 1970 UTC.
func Millis(t time.Time) any { return t.UnixMilli() }

// Run does everything: names must set Chain, readings write what the batch holds of them.
func (w *Writer) Run(ctx context.Context, names Step, readings ...Step) error {
	steps := append([]Step{names, w.place}, readings...)
	for _, step := range append(steps, w.notes, w.forks, w.restamp, w.explain) {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// LockChain finds the chain's row, or makes it, and the device's, and keeps other writers of the chain away until the transaction ends: batches of one
// chain wait for each other, so two collectors that write the same rows cannot lock each other out. find has to lock the row. Its parameters and those of
// addChain are device, stream, incarnation and fleet; those of addDevice are id and name.
func (w *Writer) LockChain(ctx context.Context, find, addDevice, addChain string) error {
	c := w.Batch.Chain
	place := []any{w.Device, c.Stream, c.Incarnation.String(), c.Fleet.String()}
	if found, err := one(ctx, w.Tx, []any{&w.Chain}, find, place...); err != nil || found {
		return err
	}
	if err := w.Tx.Exec(ctx, addDevice, w.Device, w.Batch.Name); err != nil {
		return err
	}
	if err := w.Tx.Exec(ctx, addChain, place...); err != nil {
		return err
	}
	return w.FindChain(ctx, find, place...)
}

// FindChain asks for the id of the chain's row, which is there.
func (w *Writer) FindChain(ctx context.Context, find string, place ...any) error {
	found, err := one(ctx, w.Tx, []any{&w.Chain}, find, place...)
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// place moves the checkpoint and the gaps.
func (w *Writer) place(ctx context.Context) error {
	var stored *journal.Link
	var seq int64
	var hash []byte
	found, err := one(ctx, w.Tx, []any{&seq, &hash}, w.Queries.Checkpoint, w.Chain)
	if err != nil {
		return err
	}
	if found {
		stored = link(seq, hash)
	}
	w.Fresh = stored == nil || w.Batch.From > stored.Seq
	move, err := w.Batch.Advance(stored)
	if err != nil {
		return err
	}
	if err := w.gaps(ctx, stored); err != nil || !move {
		return err
	}
	return w.Tx.Exec(ctx, w.Queries.Move, w.Chain, int64(w.Batch.Mark.Seq), w.Batch.Mark.Hash[:], w.Time(w.Batch.Received))
}

func (w *Writer) gaps(ctx context.Context, stored *journal.Link) error {
	open, err := openGaps(ctx, w.Tx, w.Queries.Gaps, w.Chain)
	if err != nil {
		return err
	}
	ch := w.Batch.Regap(open[w.Chain], stored)
	for _, g := range ch.Drop {
		if err := w.Tx.Exec(ctx, w.Queries.DropGap, w.Chain, int64(g.First)); err != nil {
			return err
		}
	}
	for _, g := range ch.Close {
		if err := w.gap(ctx, g, w.Time(w.Batch.Received)); err != nil {
			return err
		}
	}
	for _, g := range ch.Open {
		if err := w.gap(ctx, g, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) gap(ctx context.Context, g collector.Gap, closed any) error {
	return w.Tx.Exec(ctx, w.Queries.AddGap, w.Chain, int64(g.First), int64(g.Last), g.Reason, g.Explained, w.Time(g.Found), closed, g.Before[:], g.After[:])
}

// Columns returns what depends on the clock and the kind of a reading: ts is nil where the device did not know the time, and all but one of v, vs and vb are.
func (w *Writer) Columns(r *collector.Row) (ts, v, vs, vb any, clock string) {
	clock = "unsynced"
	if r.At.Synced() {
		ts, clock = w.Time(r.At.Time()), "synced"
	}
	switch r.Kind {
	case edge.Text:
		vs = r.Text
	case edge.State:
		vb = r.Value == 1
	default:
		v = r.Value
	}
	return ts, v, vs, vb, clock
}

func (w *Writer) notes(ctx context.Context) error {
	for _, n := range w.Batch.Notes {
		var err error
		switch {
		case n.Clock != nil:
			err = w.Tx.Exec(ctx, w.Queries.ClockNote, w.Chain, int64(n.Seq), n.Clock.Boot.String(), n.Clock.Mono, w.Time(time.UnixMilli(n.Clock.Wall).UTC()))
		case n.Gap != nil:
			g := n.Gap
			err = w.Tx.Exec(ctx, w.Queries.GapNote, w.Chain, int64(n.Seq), g.Reason.String(), g.Incarnation.String(), int64(g.From), int64(g.To), count(g.Segments), count(g.Readings))
		case n.After != nil:
			err = w.Tx.Exec(ctx, w.Queries.AfterNote, w.Chain, int64(n.Seq), n.After.Incarnation.String(), int64(n.After.Last.Seq), n.After.Last.Hash[:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count is a number that a device claims, as a column can hold it: a seq is never more than journal.MaxSeq, a count may be anything.
func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

func (w *Writer) forks(ctx context.Context) error {
	for _, f := range w.Batch.Forks {
		if err := w.Tx.Exec(ctx, w.Queries.Fork, w.Chain, int64(f.Seq), f.Proof.A, f.Proof.B, w.Time(w.Batch.Received)); err != nil {
			return err
		}
	}
	return nil
}

// restamp gives readings of an unsynchronised clock the time that the device's first clock note of that boot proves,
// also when the note came before them or through another chain. mono_ms keeps the time as it was signed.
func (w *Writer) restamp(ctx context.Context) error {
	for _, boot := range w.Batch.Boots() {
		var mono int64
		var wall moment
		found, err := one(ctx, w.Tx, []any{&mono, &wall}, w.Queries.FirstClock, boot.String(), w.Device)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if err := w.Tx.Exec(ctx, w.Queries.Restamp, wall.UnixMilli()-mono, w.Device, boot.String()); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) explain(ctx context.Context) error {
	return w.Tx.Exec(ctx, w.Queries.Explain, w.Device, w.Batch.Chain.Stream)
}
