// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
)

// sealer turns batches into durable segments; the outbox is one.
type sealer interface {
	StartEpoch(ctx context.Context, stream string, readers []journal.Reader, at journal.Stamp) (*journal.Segment, error)
	Seal(ctx context.Context, stream string, boot journal.BootID, readings []edge.Reading) (*journal.Segment, error)
	Note(ctx context.Context, stream string, n journal.Note, at journal.Stamp) (*journal.Segment, error)
}

// spooler keeps readings that are not sealed yet, where the durability asks for it; the outbox is one.
type spooler interface {
	Spool(ctx context.Context, stream string, boot journal.BootID, readings []edge.Reading) error
	Discard(stream string, n int)
}

// Stream is a named group of sensors whose readings share batches, chain and epoch keys.
type Stream struct {
	Name     string
	Age      time.Duration // a batch is closed when its oldest reading is this old …
	Readings int           // … or it has this many, or about journal.TargetSegment bytes
}

const (
	// epochLife is the longest that one key seals.
	epochLife = 24 * time.Hour
	// maxUnsealed bounds what waits in memory while the outbox does not take batches; beyond it the oldest are dropped
	// and counted.
	maxUnsealed = 4 * journal.MaxReadings
	// queued is how many measurements may wait for the batcher.
	queued = 1024
	// sealRetry is the pause before a batch that could not be sealed is tried again, doubling up to maxSealRetry.
	sealRetry    = 2 * time.Second
	maxSealRetry = 30 * time.Second
	// readingOverhead is what a reading takes in a pack beside its name, in bytes, about.
	readingOverhead = 24
)

// measurement is what one read of one sensor gave.
type measurement struct {
	readings []edge.Reading
	era      uint64 // of the clock
}

// batcher collects one stream's readings and closes batches. One goroutine, run.
type batcher struct {
	stream  Stream
	boot    journal.BootID
	clock   *Clock
	log     sealer
	spool   spooler
	found   []outbox.Spooled // left unsealed by the run before, sealed first
	readers func(stream string) ([]journal.Reader, error)
	logger  *slog.Logger
	notice  func(Notice)
	in      chan measurement

	batch     []edge.Reading
	bytes     int
	era       uint64
	retry     time.Time     // after a failure: when a full batch is tried again
	pause     time.Duration // the last one after a failure
	rekey     time.Time     // when the epoch ends; zero: none was started
	wrapped   string        // for whom the present epoch's key is wrapped
	noteClock bool          // this boot may have sealed readings without wall time, which a clock note restamps

	mu      sync.Mutex
	dropped uint64    // readings that never got a seq, not yet told to readers
	lost    uint64    // in all
	failing [2]string // why, by trouble; "" if all is well
}

// trouble is what keeps readings from being safe.
type trouble int

const (
	unspooled trouble = iota // they are lost with the power until they are sealed, although the durability is strict
	unsealed                 // they wait in memory
)

func newBatcher(c Config, s Stream) *batcher {
	b := &batcher{stream: s, boot: c.Boot, clock: c.Clock, log: c.Outbox, spool: c.Outbox, readers: c.Readers,
		logger: c.Logger, notice: func(Notice) {}, in: make(chan measurement, queued), noteClock: true}
	for _, u := range c.Unsealed {
		if u.Stream == s.Name {
			b.found = append(b.found, u)
		}
	}
	return b
}

// offer hands over a measurement without ever blocking the sampler; when the queue is full it is dropped and counted.
func (b *batcher) offer(m measurement) {
	select {
	case b.in <- m:
	default:
		b.drop(len(m.readings))
	}
}

func (b *batcher) drop(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropped += uint64(n)
	b.lost += uint64(n)
}

// run batches until ctx ends, then seals what is left.
func (b *batcher) run(ctx context.Context) {
	due := time.NewTimer(b.stream.Age)
	defer due.Stop()
	for {
		select {
		case m := <-b.in:
			b.add(ctx, m, due)
		case <-due.C:
			b.flush(ctx, due)
		case <-ctx.Done():
			b.finish(due)
			return
		}
	}
}

// finish seals the rest with a little time of its own, so that an orderly stop loses nothing.
func (b *batcher) finish(due *time.Timer) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		select {
		case m := <-b.in:
			b.add(ctx, m, due)
			continue
		default:
		}
		b.flush(ctx, due)
		return
	}
}

func (b *batcher) add(ctx context.Context, m measurement, due *time.Timer) {
	if len(b.batch) > 0 && m.era != b.era {
		b.flush(ctx, due)
	}
	if len(b.batch) > 0 && m.era != b.era { // could not be sealed, and the two may not be mixed
		b.discard(len(b.batch))
	}
	if len(b.batch) == 0 {
		due.Reset(b.stream.Age)
	}
	b.era = m.era
	b.fail(unspooled, b.spool.Spool(ctx, b.stream.Name, b.boot, m.readings))
	b.batch = append(b.batch, m.readings...)
	for _, r := range m.readings {
		b.bytes += size(r)
	}
	if over := len(b.batch) - maxUnsealed; over > 0 {
		b.discard(over)
	}
	if full := len(b.batch) >= b.stream.Readings || b.bytes >= journal.TargetSegment; full && !time.Now().Before(b.retry) {
		b.flush(ctx, due)
	}
}

// size is about what a reading takes in a pack, in bytes.
func size(r edge.Reading) int {
	return len(r.Sensor) + len(r.Quantity.Name) + len(r.Text) + readingOverhead
}

// chunk returns how many of the readings, one at least, go into the next segment.
func (b *batcher) chunk(readings []edge.Reading) int {
	n, bytes := 0, 0
	for n < min(len(readings), b.stream.Readings) && (n == 0 || bytes < journal.TargetSegment) {
		bytes += size(readings[n])
		n++
	}
	return n
}

// flush seals the batch, in several segments when it had to wait. On failure the batch stays and is tried again.
func (b *batcher) flush(ctx context.Context, due *time.Timer) {
	err := b.seal(ctx)
	b.fail(unsealed, err)
	if err == nil {
		b.pause = 0
		return
	}
	b.pause = min(max(2*b.pause, sealRetry), maxSealRetry)
	b.retry = time.Now().Add(b.pause)
	due.Reset(b.pause)
}

// fail notes why readings are not safe, nil for nothing, and logs when that begins and when it is over.
func (b *batcher) fail(what trouble, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	b.mu.Lock()
	before := b.failing[what]
	b.failing[what] = text
	b.mu.Unlock()
	said := [...][2]string{
		unspooled: {"readings that are not sealed yet do not survive a power cut", "readings are safe before they are sealed again"},
		unsealed:  {"readings wait in memory and are tried again", "readings are sealed again"},
	}[what]
	switch {
	case before == "" && err != nil:
		b.logger.Error(said[0], "stream", b.stream.Name, "readings", len(b.batch), "err", err)
	case before != "" && err == nil:
		b.logger.Info(said[1], "stream", b.stream.Name)
	}
}

// discard gives up the oldest n readings of the batch.
func (b *batcher) discard(n int) {
	b.spool.Discard(b.stream.Name, n)
	b.drop(n)
	b.batch = append(b.batch[:0], b.batch[n:]...)
	if len(b.batch) == 0 {
		b.bytes = 0
	}
}

func (b *batcher) seal(ctx context.Context) error {
	if err := b.startEpoch(ctx); err != nil {
		return err
	}
	for len(b.found) > 0 {
		left := &b.found[0]
		n := b.chunk(left.Readings)
		if _, err := b.log.Seal(ctx, b.stream.Name, left.Boot, left.Readings[:n]); err != nil {
			return fmt.Errorf("agent: sealing what the last run left: %w", err)
		}
		if left.Readings = left.Readings[n:]; len(left.Readings) == 0 {
			b.found = b.found[1:]
		}
	}
	if err := b.tell(ctx); err != nil {
		return err
	}
	for len(b.batch) > 0 {
		n := b.chunk(b.batch)
		if _, err := b.log.Seal(ctx, b.stream.Name, b.boot, b.batch[:n]); err != nil {
			return fmt.Errorf("agent: sealing %d readings: %w", n, err)
		}
		b.noteClock = b.noteClock || !b.batch[0].At.Synced()
		b.batch = append(b.batch[:0], b.batch[n:]...)
	}
	b.bytes = 0
	return nil
}

// startEpoch begins a new epoch at the start, daily, and when the readers change.
func (b *batcher) startEpoch(ctx context.Context) error {
	readers, err := b.readers(b.stream.Name)
	if err != nil {
		return fmt.Errorf("agent: starting epoch: %w", err)
	}
	who := fingerprint(readers)
	if !b.rekey.IsZero() && time.Now().Before(b.rekey) && who == b.wrapped {
		return nil
	}
	at, _ := b.clock.Now()
	if _, err := b.log.StartEpoch(ctx, b.stream.Name, readers, journal.Stamp{Boot: b.boot, At: at}); err != nil {
		return fmt.Errorf("agent: starting epoch: %w", err)
	}
	b.rekey, b.wrapped = time.Now().Add(epochLife), who
	return nil
}

func fingerprint(readers []journal.Reader) string {
	var who []byte
	for _, r := range readers {
		tag := r.Fingerprint()
		who = append(who, tag[:]...)
	}
	return string(who)
}

// tell writes what readers must know about the log itself: lost readings, and the clock once it is right.
func (b *batcher) tell(ctx context.Context) error {
	at, _ := b.clock.Now()
	stamp := journal.Stamp{Boot: b.boot, At: at}
	b.mu.Lock()
	n := b.dropped
	b.mu.Unlock()
	if n > 0 {
		note := journal.Note{Gap: &journal.GapNote{Reason: journal.GapSpool, Readings: n}}
		if _, err := b.log.Note(ctx, b.stream.Name, note, stamp); err != nil {
			return fmt.Errorf("agent: noting %d lost readings: %w", n, err)
		}
		b.mu.Lock()
		b.dropped -= n
		b.mu.Unlock()
		b.notice(Notice{Kind: ReadingsLost, Stream: b.stream.Name, Lost: n})
	}
	if b.noteClock && at.Synced() {
		note := journal.Note{Clock: &journal.ClockNote{Boot: b.boot, Mono: at.Mono, Wall: at.Wall}}
		if _, err := b.log.Note(ctx, b.stream.Name, note, stamp); err != nil {
			return fmt.Errorf("agent: noting the clock: %w", err)
		}
		b.noteClock = false
	}
	return nil
}
