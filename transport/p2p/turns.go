// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/streembit/edge"
	"github.com/streembit/edge/transport"
)

// turnWait is how long an asker waits for a place before it is told to come later.
const turnWait = 10 * time.Second

// turns bounds the answers of a protocol that are given at a time, so that many who ask at once do not take disk and uplink from everything else.
type turns struct {
	all    int
	ofOne  int
	places *semaphore.Weighted

	mu sync.Mutex
	by map[edge.ID]int
}

// newTurns gives so many places, and so many of them to one member.
func newTurns(all, ofOne int) turns {
	return turns{all: all, ofOne: ofOne, places: semaphore.NewWeighted(int64(all)), by: map[edge.ID]int{}}
}

// enter waits for a place; leave must be called if there is no error.
func (t *turns) enter(ctx context.Context, who edge.ID) (leave func(), err error) {
	if !t.count(who, 1) {
		return nil, refuse(transport.RefusedBusy, "you have %d answers under way", t.ofOne)
	}
	wait, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if err := t.places.Acquire(wait, 1); err != nil {
		t.count(who, -1)
		return nil, refuse(transport.RefusedBusy, "%d other answers are under way", t.all)
	}
	return func() { t.places.Release(1); t.count(who, -1) }, nil
}

func (t *turns) count(who edge.ID, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > 0 && t.by[who] >= t.ofOne {
		return false
	}
	if t.by[who] += n; t.by[who] == 0 {
		delete(t.by, who)
	}
	return true
}
