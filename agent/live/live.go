// SPDX-License-Identifier: Apache-2.0

// Package live hands readings out as they are taken, before they are batched, to any number of watchers. What is taken never waits for who looks: all watchers
// read one ring of recent readings, each at its own place in it, and who is slower than the ring is told how many it has missed.
package live

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	"github.com/streembit/edge"
)

// Recent is how many readings a Feed keeps unless it is told otherwise: seven minutes of ten a second, in half a megabyte.
const Recent = 4096

// Feed keeps recent readings and wakes those who wait for more. Safe for concurrent use. The zero value is not one: use NewFeed.
type Feed struct {
	run [16]byte

	mu   sync.Mutex
	ring []edge.Reading // the reading of place n is ring[n % cap(ring)]
	head uint64         // the place of the next reading: so many there were
	more chan struct{}  // closed when there is another reading; nil = nobody waits
}

// NewFeed returns a feed that keeps as many readings as recent says; 0 or below = Recent.
func NewFeed(recent int) *Feed {
	if recent <= 0 {
		recent = Recent
	}
	f := &Feed{ring: make([]edge.Reading, 0, recent)}
	rand.Read(f.run[:])
	return f
}

// Run names this feed for good: places mean nothing in another one, such as that of the program's next start.
func (f *Feed) Run() [16]byte { return f.run }

// Head returns the place of the next reading, counted from 0.
func (f *Feed) Head() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head
}

// Offer adds what a sensor gave. It takes as long for no watcher as for many, and never waits for one.
func (f *Feed) Offer(readings []edge.Reading) {
	if len(readings) == 0 {
		return
	}
	f.mu.Lock()
	for _, r := range readings {
		if n := int(f.head % uint64(cap(f.ring))); n == len(f.ring) {
			f.ring = append(f.ring, r)
		} else {
			f.ring[n] = r
		}
		f.head++
	}
	more := f.more
	f.more = nil
	f.mu.Unlock()
	if more != nil {
		close(more)
	}
}

// Read copies readings from a place on, as many as there are and into has room for, and returns how many and the place of the first: if that is above from, the
// feed has let those between go. It waits until there is one; an error is that of ctx. A place above Head is taken as Head.
func (f *Feed) Read(ctx context.Context, from uint64, into []edge.Reading) (n int, first uint64, err error) {
	for {
		n, first, more := f.take(from, into)
		if n > 0 || len(into) == 0 {
			return n, first, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return 0, first, fmt.Errorf("live: waiting for readings: %w", ctx.Err())
		}
		from = first
	}
}

// take is Read without waiting: more is closed when there is something from first on.
func (f *Feed) take(from uint64, into []edge.Reading) (n int, first uint64, more <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first = min(max(from, f.head-uint64(len(f.ring))), f.head)
	for n < len(into) && first+uint64(n) < f.head {
		into[n] = f.ring[(first+uint64(n))%uint64(cap(f.ring))]
		n++
	}
	if n == 0 && f.more == nil {
		f.more = make(chan struct{})
	}
	return n, first, f.more
}
