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
	*Ring[edge.Reading]
	run [16]byte
}

// NewFeed returns a feed that keeps as many readings as recent says; 0 or below = Recent.
func NewFeed(recent int) *Feed {
	if recent <= 0 {
		recent = Recent
	}
	f := &Feed{Ring: NewRing[edge.Reading](recent)}
	rand.Read(f.run[:])
	return f
}

// Run names this feed for good: places mean nothing in another one, such as that of the program's next start.
func (f *Feed) Run() [16]byte { return f.run }

// Ring keeps the last of what it was offered and wakes those who wait for more. Safe for concurrent use. The zero value is not one: use NewRing.
type Ring[T any] struct {
	mu   sync.Mutex
	ring []T           // that of place n is ring[n % cap(ring)]
	head uint64        // the place of the next one: so many there were
	more chan struct{} // closed when there is another one; nil = nobody waits
}

// NewRing returns a ring that keeps so many, at least one.
func NewRing[T any](recent int) *Ring[T] { return &Ring[T]{ring: make([]T, 0, max(1, recent))} }

// Head returns the place of the next one, counted from 0.
func (f *Ring[T]) Head() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head
}

// Offer adds some. It takes as long for no watcher as for many, and never waits for one.
func (f *Ring[T]) Offer(all []T) {
	if len(all) == 0 {
		return
	}
	f.mu.Lock()
	for _, r := range all {
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

// Read copies what there is from a place on, as many as there are and into has room for, and returns how many and the place of the first: if that is above from, the
// ring has let those between go. It waits until there is one; an error is that of ctx. A place above Head is taken as Head.
func (f *Ring[T]) Read(ctx context.Context, from uint64, into []T) (n int, first uint64, err error) {
	for {
		n, first, more := f.take(from, into)
		if n > 0 || len(into) == 0 {
			return n, first, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return 0, first, fmt.Errorf("live: waiting for more: %w", ctx.Err())
		}
		from = first
	}
}

// take is Read without waiting: more is closed when there is something from first on.
func (f *Ring[T]) take(from uint64, into []T) (n int, first uint64, more <-chan struct{}) {
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
