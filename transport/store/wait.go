// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Wait is what of a hub's segments a required collector has not said to have.
type Wait struct {
	Collector edge.ID
	Chains    int
	Segments  int
	Oldest    int64 // receipt of the first of them, ms since 1970; 0 = nobody knows
}

// Waits says what each required collector holds back, ordered by collector; of those that hold back nothing too.
func (s *Store) Waits() []Wait {
	f := s.o.Fleet()
	var all []Wait
	for _, c := range s.surveyed(nil) {
		if _, counts := transport.Extent(f, c); !counts {
			continue
		}
		_, required := retention(f, c)
		for _, id := range required {
			i, there := slices.BinarySearchFunc(all, id, func(w Wait, id edge.ID) int { return w.Collector.Compare(id) })
			if !there {
				all = slices.Insert(all, i, Wait{Collector: id})
			}
			s.waits(f, c, &all[i])
		}
	}
	return all
}

// waits adds one chain to what a collector has not said to have.
func (s *Store) waits(f *fleet.Fleet, c journal.Chain, w *Wait) {
	may := f.May(w.Collector, fleet.Read, c.Device, c.Stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.chains[c]
	if h == nil {
		return
	}
	from := uint64(0)
	if may {
		from = s.books[w.Collector].reaches(h)
	}
	n, oldest := h.since(from)
	if n == 0 {
		return
	}
	w.Chains++
	w.Segments += n
	if ms := int64(oldest) * time.Second.Milliseconds(); ms > 0 && (w.Oldest == 0 || ms < w.Oldest) {
		w.Oldest = ms
	}
}

// since counts what is held at or after a seq, and returns its oldest receipt; 0 = none is known.
func (h *held) since(seq uint64) (n int, oldest uint32) {
	oldest = math.MaxUint32
	for i, _ := h.block(seq); i < len(h.blocks); i++ {
		b := &h.blocks[i]
		entries := b.entries
		if b.index == seq/journal.BucketSize {
			_, rank := b.place(seq)
			entries = entries[rank:]
		}
		n += len(entries)
		for _, e := range entries {
			if e.received > 0 {
				oldest = min(oldest, e.received)
			}
		}
	}
	if oldest == math.MaxUint32 {
		return n, 0
	}
	return n, oldest
}
