// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// Spooled are readings of one boot and one clock that were durable and not yet sealed when the outbox was closed or the
// power went.
type Spooled struct {
	Stream   string
	Boot     journal.BootID
	Readings []edge.Reading
}

// maxSpooled is how many readings of the spool are handed back together, for one segment.
const maxSpooled = 1000

// spool keeps readings of the strict durability until they are in a segment. The readings of a stream are numbered;
// every segment says how many of them are in segments so far, so that none is sealed twice after a power cut.
type spool struct {
	o   Options
	dir string

	mu     sync.Mutex
	log    *wal.Log
	failed error // why log takes nothing until it is opened again …
	retry  time.Time
	next   map[string]uint64 // number of the stream's next reading
	done   map[string]uint64 // readings before it are sealed
	queue  []spooledFrame
}

type spooledFrame struct {
	pos    wal.Pos
	stream string
	first  uint64 // number of its first reading
	end    uint64 // number behind its last one
}

// spoolRecord is the frame of one Spool call.
type spoolRecord struct {
	_        struct{} `cbor:",toarray"`
	Stream   string
	First    uint64
	Boot     journal.BootID
	Readings []spoolReading
}

type spoolReading struct {
	_                        struct{} `cbor:",toarray"`
	Sensor, Name, Unit, Text string
	Kind                     edge.Kind
	Value                    float64
	Mono, Wall               int64
}

// openSpool opens the spool and returns what is not sealed yet. Balanced outboxes have one only as long as readings of
// stricter times are in it.
func openSpool(ctx context.Context, o Options, dir string, consumed map[string]uint64) (*spool, []Spooled, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && o.Durability == Balanced {
		return nil, nil, nil
	}
	s := &spool{o: o, dir: dir, next: maps.Clone(consumed), done: consumed}
	var left []Spooled
	log, _, err := wal.Open(dir, wal.Options{FileSize: o.fileSize(), Quota: o.Quota / 4, Logger: o.Logger, Wrap: o.Wrap},
		func(p wal.Pos, frame []byte) error {
			var r spoolRecord
			if err := journal.Decode(frame, &r); err != nil {
				o.Logger.Warn("outbox: spool frame skipped", "dir", dir, "at", p.String(), "err", err)
				return ctx.Err()
			}
			end := r.First + uint64(len(r.Readings))
			s.next[r.Stream] = max(s.next[r.Stream], end)
			s.queue = append(s.queue, spooledFrame{p, r.Stream, r.First, end})
			left = r.unsealed(left, consumed[r.Stream])
			return ctx.Err()
		})
	if err != nil {
		return nil, nil, fmt.Errorf("outbox: opening spool: %w", err)
	}
	s.log = log
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, left, s.drop()
}

// unsealed adds the readings from number done on to left.
func (r *spoolRecord) unsealed(left []Spooled, done uint64) []Spooled {
	for i, w := range r.Readings {
		if r.First+uint64(i) < done {
			continue
		}
		reading := edge.Reading{Sensor: w.Sensor, At: edge.Instant{Mono: w.Mono, Wall: w.Wall}, Sample: edge.Sample{
			Quantity: edge.Quantity{Name: w.Name, Unit: w.Unit, Kind: w.Kind}, Value: w.Value, Text: w.Text}}
		n := len(left) - 1
		for n >= 0 && left[n].Stream != r.Stream {
			n--
		}
		if n >= 0 && left[n].Boot == r.Boot && len(left[n].Readings) < maxSpooled && oneClock(left[n].Readings[0].At, reading.At) {
			left[n].Readings = append(left[n].Readings, reading)
			continue
		}
		left = append(left, Spooled{Stream: r.Stream, Boot: r.Boot, Readings: []edge.Reading{reading}})
	}
	return left
}

func oneClock(a, b edge.Instant) bool {
	return a.Synced() == b.Synced() && (!a.Synced() || a.Wall-a.Mono == b.Wall-b.Mono)
}

// Spool makes readings durable that are not in a segment yet, in strict durability; in balanced it does nothing. What it
// returned nil for comes back from Open unless Seal got it: Seal takes a stream's readings out in the order in which
// Spool put them in, so both must be called with the same readings in the same order, those for which Spool returned an
// error included. Errors wrap wal.ErrFull when the spool's share of the quota is used up or the disk is full, wal.ErrFailed
// after an error of the disk; it is opened again by the first call after a pause.
func (b *Outbox) Spool(ctx context.Context, stream string, boot journal.BootID, readings []edge.Reading) error {
	b.life.RLock()
	defer b.life.RUnlock()
	if b.closed {
		return fmt.Errorf("outbox: spooling: %w", ErrClosed)
	}
	if b.o.Durability != Strict || len(readings) == 0 {
		return nil
	}
	if err := b.spool.add(ctx, stream, boot, readings); err != nil {
		return fmt.Errorf("outbox: spooling %d readings: %w", len(readings), err)
	}
	return nil
}

// Discard says that the n oldest readings that Spool has of a stream are given up and will not be sealed. It becomes
// durable with the stream's next segment.
func (b *Outbox) Discard(stream string, n int) {
	b.mu.Lock()
	s := b.streams[stream]
	b.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.spooled += uint64(n)
	}
}

func (s *spool) add(ctx context.Context, stream string, boot journal.BootID, readings []edge.Reading) error {
	s.mu.Lock()
	defer s.mu.Unlock() // the numbers must be in the order of the log
	rec := spoolRecord{Stream: stream, First: s.next[stream], Boot: boot}
	s.next[stream] += uint64(len(readings)) // whatever comes of it: Seal counts them
	for _, r := range readings {
		rec.Readings = append(rec.Readings, spoolReading{Sensor: r.Sensor, Name: r.Quantity.Name, Unit: r.Unit, Text: r.Text,
			Kind: r.Kind, Value: r.Value, Mono: r.At.Mono, Wall: r.At.Wall})
	}
	frame, err := journal.Encode(rec)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	pos, err := s.log.Append(context.WithoutCancel(ctx), frame)
	if errors.Is(err, wal.ErrFailed) {
		s.failed, s.retry = err, time.Now().Add(minDelay)
	}
	if err != nil {
		return err
	}
	s.queue = append(s.queue, spooledFrame{pos[0], stream, rec.First, s.next[stream]})
	return nil
}

// ready opens a log again that failed, once its pause is over. The caller holds mu.
func (s *spool) ready(ctx context.Context) error {
	switch {
	case s.failed == nil:
		return nil
	case time.Now().Before(s.retry):
		return s.failed
	}
	_ = s.log.Close() // its error is the one that brought us here
	again, _, err := openSpool(ctx, s.o, s.dir, maps.Clone(s.done))
	if err != nil {
		s.failed, s.retry = fmt.Errorf("%w: %w", wal.ErrFailed, err), time.Now().Add(maxDelay)
		return s.failed
	}
	s.log, s.queue, s.failed = again.log, again.queue, nil
	return nil
}

// consumed says that the stream's readings before a number are in durable segments.
func (s *spool) consumed(stream string, to uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[stream] = max(s.done[stream], to)
	s.next[stream] = max(s.next[stream], to)
	return s.drop()
}

// firsts returns the number of the first reading of each stream that is still in the spool.
func (s *spool) firsts() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]uint64{}
	for _, f := range s.queue {
		if _, known := out[f.stream]; !known && f.end > s.done[f.stream] {
			out[f.stream] = max(f.first, s.done[f.stream])
		}
	}
	return out
}

// drop drops the files whose readings are all sealed. The caller holds mu.
func (s *spool) drop() error {
	n := 0
	for n < len(s.queue) && s.queue[n].end <= s.done[s.queue[n].stream] {
		n++
	}
	s.queue = s.queue[n:]
	if s.failed != nil {
		return nil
	}
	before := s.log.End()
	if len(s.queue) > 0 {
		before = s.queue[0].pos
	}
	_, err := s.log.Drop(before)
	return err
}

func (s *spool) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.log.Close(); s.failed == nil {
		return err
	}
	return s.failed
}
