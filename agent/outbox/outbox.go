// SPDX-License-Identifier: Apache-2.0

// Package outbox is the device's own copy of what it says: every segment of its streams, fsynced before it counts, kept
// until enough hubs have it. One journal/wal log holds the segments of all streams and what became of them; in strict
// durability a second one holds the readings that are not in a segment yet.
//
// Begin with Open; StartEpoch, Seal and Note write, Take and Ack publish.
//
// A stream goes on with its incarnation only if its log was closed properly and is exactly what was closed then;
// otherwise it begins a new one whose first segment names the last known link of the one before. So no (chain, seq) is
// ever used for two segments, whatever happens to the power, the card or a backup of it.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// Errors of the package; test with errors.Is. Errors of the disk wrap wal.ErrFull or wal.ErrFailed.
var (
	ErrClosed  = errors.New("outbox is closed")
	ErrNoEpoch = errors.New("no epoch was started for the stream: call StartEpoch first")
)

// Durability says what of the readings that are not sealed yet survives a power cut.
type Durability string

// The durabilities.
const (
	Balanced Durability = "balanced" // nothing: at most a batch's age is lost; kindest to the card
	Strict   Durability = "strict"   // everything: Spool fsyncs readings before they count
)

const (
	defaultQuota = 256 << 20
	minQuota     = 1 << 20
)

// Options of an outbox.
type Options struct {
	Dir        string
	Fleet      journal.FleetID
	Signer     journal.Signer
	Former     []edge.ID  // keys that this device had before: their chains are published to their ends, and nothing is written to them
	Quota      int64      // bytes on disk for segments, at least 1 MiB; 0 = 256 MiB. Strict: a quarter more for the spool.
	Durability Durability // "" = Balanced
	Logger     *slog.Logger
	// Wrap stands between the logs and their files (wal.Options.Wrap); tests make disks fail with it.
	Wrap func(wal.File) wal.File
}

func (o *Options) setDefaults() error {
	o.Quota = cmp.Or(o.Quota, defaultQuota)
	o.Durability = cmp.Or(o.Durability, Balanced)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Signer == nil:
		return errors.New("outbox: opening: Options.Signer is missing")
	case o.Quota < minQuota:
		return fmt.Errorf("outbox: opening: quota of %d bytes: give it %d (1 MiB) or more", o.Quota, minQuota)
	case o.Durability != Balanced && o.Durability != Strict:
		return fmt.Errorf("outbox: opening: durability %q: want %s or %s", o.Durability, Strict, Balanced)
	}
	return nil
}

// Recovery is what Open found.
type Recovery struct {
	Clean   bool              // closed properly and unchanged since: all streams go on with their incarnations
	Pending int               // segments that are not done
	Dropped int64             // bytes of the log that were not readable
	Reason  string            // which, first
	Skipped int               // intact frames that were not understood or belong to another device or fleet
	Gaps    []journal.GapNote // segments that were lost with them; each is told in its stream
	Spooled []Spooled         // readings that were not sealed yet, oldest first: Seal them before any other
}

// stream is what is written to. Its mutex is held while a segment is made and put on the disk.
type stream struct {
	mu      sync.Mutex
	name    string
	writer  *journal.Writer
	chain   *chain                // that of writer, or the one to be resumed
	resume  bool                  // chain is proven intact
	after   *journal.Continuation // for the next incarnation
	readers []journal.Reader      // of the last StartEpoch
	open    bool                  // writer has an epoch
	doubts  [][]byte              // acks for what is in doubt, to be written when it is sealed again; guarded by Outbox.mu
	spooled uint64                // readings that went from the spool into segments, as the callers know it
}

// Outbox is an open outbox. All methods are safe for concurrent use. Locks are taken in the order life, stream.mu,
// shrinking, mu.
type Outbox struct {
	o    Options
	wake chan struct{} // capacity 1: Take may find something

	life    sync.RWMutex // held for reading while log is used, for writing to replace it
	log     *wal.Log
	spool   *spool
	failed  error // why log takes nothing any more
	retry   time.Time
	delay   time.Duration
	alarmed bool // that is logged, and that it takes segments again is not
	closed  bool
	done    chan struct{}

	shrinking sync.Mutex // one at a time makes room
	first     uint64     // number of the log's first file; guarded by shrinking

	mu       sync.Mutex
	forks    []journal.Fork
	streams  map[string]*stream
	chains   map[journal.Incarnation]*chain
	ring     []*chain // in the order in which Take asks them
	turn     int      // where in ring the next Take begins
	retries  retries
	acks     [][]byte                    // frames that go with the next write
	gaps     map[string][]gap            // by stream, not told yet
	telling  map[uint64]gap              // by id, on their way into a segment
	tellers  map[uint64]gap              // told by segments that are not done, by the segment's order
	dirty    map[uint64]bool             // ids of the gaps that the log does not say yet, or not as they are
	live     map[uint32]int              // items by file
	spent    map[uint32]map[string]Tally // forgettable segments by file and stream: they go with the file
	pins     map[uint64]int              // files that writes under way may reach, and how many
	doubts   map[journal.Hash]bool       // headers of segments that may or may not be on the disk
	order    uint64
	gapID    uint64
	unsent   int64 // bytes of the frames of items that are not published
	counters Status
}

// Open opens the outbox in o.Dir, making it if need be.
func Open(ctx context.Context, o Options) (*Outbox, Recovery, error) {
	if err := o.setDefaults(); err != nil {
		return nil, Recovery{}, err
	}
	b := &Outbox{o: o, wake: make(chan struct{}, 1), done: make(chan struct{}), doubts: map[journal.Hash]bool{}}
	b.loadForks()
	rec, err := b.load(ctx)
	if err != nil {
		return nil, Recovery{}, err
	}
	b.spool, rec.Spooled, err = openSpool(ctx, o, filepath.Join(o.Dir, "spool"), b.consumed())
	if err != nil {
		return nil, Recovery{}, errors.Join(err, b.log.Close())
	}
	b.align()
	return b, rec, nil
}

// align lets each stream count from the first reading that the spool still has: more than the log says where it lost
// the segments that said so.
func (b *Outbox) align() {
	if b.spool == nil {
		return
	}
	for name, first := range b.spool.firsts() {
		s := b.streams[name]
		if s == nil {
			s = &stream{name: name}
			b.streams[name] = s
		}
		s.spooled = max(s.spooled, first)
	}
}

// Close writes what Ack left in memory and closes the logs. What was not published yet is published after the next Open.
func (b *Outbox) Close() error {
	b.life.Lock()
	defer b.life.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	close(b.done)
	err := b.failed
	if err == nil {
		err = b.flush()
	}
	if b.log != nil {
		err = errors.Join(err, b.log.Close())
	}
	if err = errors.Join(err, b.spool.close()); err != nil {
		return fmt.Errorf("outbox: closing: %w", err)
	}
	return nil
}

// flush makes acks durable that wait for the next write. The caller holds life.
func (b *Outbox) flush() error {
	b.mu.Lock()
	frames := b.control()
	b.mu.Unlock()
	if len(frames) == 0 {
		return nil
	}
	_, err := b.log.Append(context.Background(), frames...)
	return err
}

// consumed returns how many readings of each stream went from the spool into segments.
func (b *Outbox) consumed() map[string]uint64 {
	out := map[string]uint64{}
	for _, c := range b.chains {
		out[c.id.Stream] = max(out[c.id.Stream], c.spooled)
	}
	return out
}

// signal wakes one Take.
func (b *Outbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
