// SPDX-License-Identifier: Apache-2.0

// Package delivery brings readings to servers that have no transactions of ours: message brokers, HTTP endpoints, time series
// databases. Each reading is delivered at least once, the readings of a chain in order, and each bears an id that never changes, so
// that a receiver can tell a repetition. Where each chain stands is kept in a file of our own, synced after the server has
// acknowledged: what a server forgets, it forgets by itself.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
)

// ErrRefused is wrapped by Server.Send when the server will never take this content, whatever is tried: it names a reading, not a
// fault of the server or of its settings.
var ErrRefused = errors.New("refused by the server for what it holds")

// Server is where readings go. It is called concurrently, but never for two parcels of one chain at a time.
type Server interface {
	// Send returns nil once the server has acknowledged every row. Other errors than those that wrap ErrRefused are tried again.
	Send(ctx context.Context, p Parcel) error
	// Ping says whether the server is there and lets us send, and if not, what to do about it.
	Ping(ctx context.Context) error
	Close() error
}

// Parcel is what one Send brings: readings of one chain, ascending by (Seq, Index), at least one. Those whose clock was proven
// right meanwhile have their wall time.
type Parcel struct {
	Chain    journal.Chain
	Name     string // the device's name in the fleet, "" if it has none
	Rows     []collector.Row
	Received time.Time
}

// ID names what the parcel holds: the chain, and the places of the first and the last reading.
func (p Parcel) ID() string {
	first, last := &p.Rows[0], &p.Rows[len(p.Rows)-1]
	return p.Chain.String() + "/" + place(first) + "-" + place(last)
}

// RowID names a reading for ever: its chain and place, as the other sinks show it.
func (p Parcel) RowID(r *collector.Row) string { return p.Chain.String() + "/" + place(r) }

func place(r *collector.Row) string {
	return strconv.FormatUint(r.Seq, 10) + "/" + strconv.Itoa(r.Index)
}

// Options say how a server wants its readings.
type Options struct {
	Rows        int           // most rows of a parcel; 0 = 1000
	PerSegment  bool          // a parcel never holds rows of two segments, so that its ID is the same whatever batches they come in
	Hold        bool          // readings without a time stay here until the device proves its clock
	Retry       time.Duration // how long a Write tries before it returns the error; 0 = 20 s
	Idempotence bool          // what is written again replaces what is there: replays may be sent again
}

// Pauses between attempts within one Write.
const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 5 * time.Second
)

// Sink delivers to one server. It is a collector.Sink.
type Sink struct {
	store  *Store
	server Server
	opt    Options

	taken atomic.Bool // the server has taken something

	mu       sync.Mutex
	chains   map[journal.Chain]*standing
	released map[edge.ID]bool // devices of which nothing is held that was proven before the start
}

// standing is where a chain is; its lock makes batches of one chain wait for each other.
type standing struct {
	mu   sync.Mutex
	mark collector.Mark
}

// New returns a sink that delivers to server and keeps its checkpoints in store. Close closes both.
func New(ctx context.Context, store *Store, server Server, opt Options) (*Sink, error) {
	if opt.Rows == 0 {
		opt.Rows = 1000
	}
	if opt.Retry == 0 {
		opt.Retry = 20 * time.Second
	}
	marks, err := store.Marks(ctx)
	if err != nil {
		return nil, fmt.Errorf("delivery: %w", err)
	}
	s := &Sink{store: store, server: server, opt: opt, chains: make(map[journal.Chain]*standing, len(marks)),
		released: map[edge.ID]bool{}}
	for chain, m := range marks {
		s.chains[chain] = &standing{mark: m}
	}
	return s, nil
}

// Marks returns what the server has acknowledged.
func (s *Sink) Marks(ctx context.Context) (map[journal.Chain]collector.Mark, error) {
	return s.store.Marks(ctx)
}

// Ping asks the server.
func (s *Sink) Ping(ctx context.Context) error { return s.server.Ping(ctx) }

// Close closes the server's connection, then the checkpoints.
func (s *Sink) Close() error { return errors.Join(s.server.Close(), s.store.Close()) }

// Reset makes a chain begin at seq 0 again: what the hubs still have of it is sent again, under the same ids.
func (s *Sink) Reset(ctx context.Context, chain journal.Chain) error {
	st := s.standing(chain)
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := s.store.sink.Reset(ctx, chain); err != nil {
		return fmt.Errorf("delivery: %w", err)
	}
	st.mark = collector.Mark{}
	return nil
}

func (s *Sink) standing(c journal.Chain) *standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chains[c] == nil {
		s.chains[c] = &standing{}
	}
	return s.chains[c]
}

// Write delivers a batch and then commits its checkpoint. It blocks while the server is away, up to Options.Retry.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if err := b.Check(true); err != nil {
		return fmt.Errorf("delivery: %w", err)
	}
	st := s.standing(b.Chain)
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := s.write(ctx, st, &b); err != nil {
		return fmt.Errorf("delivery: writing %d-%d of %s: %w", b.From, b.To, b.Chain, err)
	}
	return nil
}

func (s *Sink) write(ctx context.Context, st *standing, b *collector.Batch) error {
	move, err := b.Advance(st.mark.Link)
	if err != nil {
		return err
	}
	send, held, err := s.sort(ctx, st, b)
	if err != nil {
		return err
	}
	p := Parcel{Chain: b.Chain, Name: b.Name, Received: b.Received, Rows: send}
	if err := s.deliver(ctx, p); err != nil {
		return err
	}
	kept := *b
	kept.Readings = held
	if err := s.store.sink.Write(ctx, kept); err != nil {
		return err
	}
	st.mark.Gaps = b.Regap(st.mark.Gaps, st.mark.Link).Apply(st.mark.Gaps)
	if move {
		st.mark.Link = b.Mark
	}
	return s.release(ctx, b)
}

// sort divides the rows of a batch into those to send, with the times that clock notes prove, and those to hold.
func (s *Sink) sort(ctx context.Context, st *standing, b *collector.Batch) (send, held []collector.Row, err error) {
	clocks, err := s.store.clocks(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	send = make([]collector.Row, 0, len(b.Readings))
	for _, r := range b.Readings {
		if !s.opt.Idempotence && b.Mark != nil && st.has(r.Seq) {
			continue
		}
		if c, ok := clocks[r.Boot]; ok {
			r.At = c.Restamp(r.Boot, r.At)
		}
		if s.opt.Hold && !r.At.Synced() {
			held = append(held, r)
		} else {
			send = append(send, r)
		}
	}
	return send, held, nil
}

// has reports whether a segment was delivered before.
func (st *standing) has(seq uint64) bool {
	if st.mark.Link == nil || seq > st.mark.Link.Seq {
		return false
	}
	for _, g := range st.mark.Gaps {
		if g.First <= seq && seq <= g.Last {
			return false
		}
	}
	return true
}

// deliver sends rows in order, in parcels. A row that the server refuses becomes a PoisonError once the server has shown that it takes
// others: a server that refuses everything is set up wrongly, and no reading is to blame.
func (s *Sink) deliver(ctx context.Context, p Parcel) error {
	var poison error
	for rest := p.Rows; len(rest) > 0; {
		n := s.cut(rest)
		p.Rows, rest = rest[:n], rest[n:]
		err := s.halve(ctx, p)
		if err != nil && !errors.Is(err, collector.ErrPoison) {
			return err
		}
		if poison == nil {
			poison = err
		}
		if poison != nil && s.taken.Load() {
			break
		}
	}
	if poison != nil && !s.taken.Load() {
		return fmt.Errorf("the server has refused everything so far; check its address and settings: %s", poison.Error())
	}
	return poison
}

// cut returns how many rows the next parcel has.
func (s *Sink) cut(rows []collector.Row) int {
	n := min(len(rows), s.opt.Rows)
	if !s.opt.PerSegment {
		return n
	}
	for i := 1; i < n; i++ {
		if rows[i].Seq != rows[0].Seq {
			return i
		}
	}
	return n
}

// halve sends a parcel, and if it is refused its halves, until the row that is to blame is found.
func (s *Sink) halve(ctx context.Context, p Parcel) error {
	err := s.try(ctx, p)
	switch {
	case err == nil:
		s.taken.Store(true)
		return nil
	case !errors.Is(err, ErrRefused):
		return err
	case len(p.Rows) == 1:
		r := &p.Rows[0]
		return &collector.PoisonError{Chain: p.Chain, Seq: r.Seq, Index: r.Index, Err: err}
	}
	first, second := p, p
	first.Rows, second.Rows = p.Rows[:len(p.Rows)/2], p.Rows[len(p.Rows)/2:]
	err = s.halve(ctx, first)
	if err != nil && (s.taken.Load() || !errors.Is(err, collector.ErrPoison)) {
		return err
	}
	return errors.Join(err, s.halve(ctx, second))
}

// try sends a parcel again and again, ever less often, while the server is away.
func (s *Sink) try(ctx context.Context, p Parcel) error {
	began, pause := time.Now(), pauseMin
	for {
		err := s.server.Send(ctx, p)
		if err == nil || errors.Is(err, ErrRefused) || time.Since(began) > s.opt.Retry {
			return err
		}
		var later interface{ After() time.Duration }
		wait := pause
		if errors.As(err, &later) {
			wait = min(max(wait, later.After()), s.opt.Retry)
		}
		if !nap.For(ctx, wait) {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		pause = min(2*pause, pauseMax)
	}
}
