// SPDX-License-Identifier: Apache-2.0

// Package store is what a hub keeps on its disk: the segments that devices put there, in one journal/wal log, indexed
// in memory by chain and seq. Nothing is acknowledged before it is fsynced, nothing acknowledged is ever evicted to make
// room, and what is refused is refused by name. Begin with Open.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// ErrClosed is wrapped by what is called after Close.
var ErrClosed = errors.New("store is closed")

const (
	maxFile  = 64 << 20 // bytes of one file of the log: a 64th of the quota, between these
	minFile  = 4 << 10
	maxForks = 16 // proofs kept per chain: one is enough, and a cloned device must not fill the disk with them
)

// Options of a store.
type Options struct {
	Fleet  func() *fleet.Fleet // asked anew for each segment
	Self   edge.ID             // the hub, named in refusals
	Quota  int64               // bytes on disk; 0 = until the disk is full. A 16th, at most 1 MiB, is kept for fork proofs, and a 64th for giving space back.
	Logger *slog.Logger        // nil = nowhere
	// Now returns the time, in ms since 1970, while it is believed. nil = never: then nothing is ever let go for its age.
	Now  func() (ms int64, ok bool)
	Rate int64 // bytes a second that one signer may write, and 256 s worth of it at once; repair is not limited by it. 0 = no limit
	// Wrap stands between the log and its files (wal.Options.Wrap); tests make disks fail with it.
	Wrap func(wal.File) wal.File
}

// Stats says what a store holds and what it did since Open.
type Stats struct {
	Chains   int
	Segments int
	Revoked  int   // segments held that count no more: a revocation took them from their chains
	Bytes    int64 // on disk
	Quota    int64 // 0 = none
	Forks    int   // proofs kept
	Puts     uint64
	Refused  map[transport.Reason]uint64
	Skipped  uint64                    // frames found at Open that are no segment of the fleet
	Damaged  uint64                    // segments that could not be read back later
	MeanSync time.Duration             // what an fsync takes
	LetGo    map[transport.Past]uint64 // segments, by why
	Oldest   int64                     // receipt of what is held, ms since 1970; 0 = nothing is, or nobody knows
	Undated  int                       // segments of which it is not known
	Freed    uint64                    // bytes given back to the disk
	Moved    uint64                    // bytes copied for that
}

// Store holds segments. All methods are safe for concurrent use.
type Store struct {
	o      Options
	dir    string
	closed chan struct{}

	disk      sync.RWMutex // held for reading around each use of log, for writing to replace it
	log       *wal.Log
	failed    error     // why log takes nothing any more
	retry     time.Time // when it may be opened again
	delay     time.Duration
	reopening atomic.Bool

	clock    clock
	rates    *rates
	proving  sync.Mutex // one fork proof is written at a time
	sweeping sync.Mutex // one Sweep at a time

	mu sync.Mutex
	*ledger
	followers map[*follower]struct{}
	stats     Stats
}

// Open opens the store in dir, making it if need be, and reads the whole log to rebuild the index: frames are proven by
// their CRC, not by their signatures, which were checked before they were written. Close it.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	if o.Fleet == nil {
		return nil, errors.New("store: opening: Options.Fleet is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{o: o, dir: dir, closed: make(chan struct{}), followers: map[*follower]struct{}{},
		clock: clock{now: o.Now, logger: o.Logger}, rates: newRates(o.Rate)}
	s.stats.Refused, s.stats.LetGo = map[transport.Reason]uint64{}, map[transport.Past]uint64{}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	s.clock.resume(s.ledger.clock)
	return s, nil
}

// Close waits for what is under way and closes the log.
func (s *Store) Close() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	select {
	case <-s.closed:
		return nil
	default:
		close(s.closed)
	}
	if s.log == nil {
		return s.failed
	}
	if err := s.log.Close(); err != nil {
		return fmt.Errorf("store: closing: %w", err)
	}
	return nil
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Held returns what is held and counts of the chains of device, or of all for the zero ID, ordered by chain. What a revocation took from a
// chain is neither told nor given out, at once when the fleet changes.
func (s *Store) Held(ctx context.Context, device edge.ID) ([]transport.Held, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []transport.Held
	for c, h := range s.chains {
		if device != (edge.ID{}) && c.Device != device {
			continue
		}
		cut := s.scope(c)
		if spans := cut.clip(h, h.spans()); len(spans) > 0 || h.past.floor > 0 && cut.ok {
			out = append(out, h.told(spans))
		}
	}
	slices.SortFunc(out, func(a, b transport.Held) int { return compareChains(a.Chain, b.Chain) })
	return out, nil
}

func compareChains(a, b journal.Chain) int {
	if c := a.Device.Compare(b.Device); c != 0 {
		return c
	}
	if c := strings.Compare(a.Stream, b.Stream); c != 0 {
		return c
	}
	return slices.Compare(a.Incarnation[:], b.Incarnation[:])
}

// told is what others are told of a chain.
func (h *held) told(spans []transport.Span) transport.Held {
	return transport.Held{Chain: h.chain, Spans: spans, Floor: h.past.floor, Past: h.past.why}
}

// Fetch calls visit, in ascending order, for each segment of the span that is held; the bytes are visit's to keep. What
// cannot be read back is logged and counts as not held from then on. An error of visit, or of ctx, ends it.
func (s *Store) Fetch(ctx context.Context, chain journal.Chain, span transport.Span, visit func(segment []byte) error) error {
	return s.FetchDated(ctx, chain, span, func(segment []byte, _ int64) error { return visit(segment) })
}

// FetchDated implements transport.Mirror: it is Fetch with the time of first receipt, in ms since 1970, or 0 where nobody knows it.
func (s *Store) FetchDated(ctx context.Context, chain journal.Chain, span transport.Span, visit func(segment []byte, received int64) error) error {
	for seq := span.First; seq <= span.Last; seq++ {
		cut := s.scope(chain)
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		at, e, ok := s.from(chain, seq)
		s.mu.Unlock()
		if !ok || at > span.Last || !cut.counts(at, e.hash) {
			return nil
		}
		seq = at
		raw, received, err := s.read(chain, seq, e)
		if err != nil {
			return err
		}
		if raw != nil {
			if err := visit(raw, received); err != nil {
				return err
			}
		}
		if seq == math.MaxUint64 {
			return nil
		}
	}
	return nil
}

// from returns the first segment held at or after seq.
func (s *Store) from(chain journal.Chain, seq uint64) (uint64, entry, bool) {
	h := s.chains[chain]
	if h == nil {
		return 0, entry{}, false
	}
	return h.from(seq)
}

// Forks returns the signed proofs that devices forked their chains, oldest first; they survive a restart.
func (s *Store) Forks(context.Context) []journal.Fork {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []journal.Fork
	for _, p := range s.proofs {
		out = append(out, p.fork)
	}
	return out
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.disk.RLock()
	defer s.disk.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Refused, st.LetGo, st.Undated = maps.Clone(s.stats.Refused), maps.Clone(s.stats.LetGo), s.undated
	for c, h := range s.chains {
		n, all := s.scope(c).count(h), h.n
		if n > 0 {
			st.Chains++
		}
		st.Segments += n
		st.Revoked += all - n
		if _, oldest := h.since(0); oldest > 0 && (st.Oldest == 0 || int64(oldest)*1000 < st.Oldest) {
			st.Oldest = int64(oldest) * 1000
		}
	}
	st.Quota, st.Forks = s.o.Quota, len(s.proofs)
	if s.log != nil {
		st.Bytes, st.MeanSync = s.log.Size(), s.log.Stats().MeanSync
	}
	return st
}
