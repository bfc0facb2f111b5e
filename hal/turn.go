// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// turn lets one at a time use a bus, in the order in which they came. The zero value is free. It is not a mutex because waiting for it
// ends with a context, and because it tells one who is slow from many who are in front.
type turn struct {
	mu    sync.Mutex
	taken bool
	since time.Time       // when its holder got it
	queue []chan struct{} // of those who wait, the first came first; closed when it is his turn
}

// take waits for the turn until the context ends, or until one holder has kept it for limit while this one waited; then the error wraps
// ErrTimeout. Each new holder has the whole limit: however many are in front, nobody gives up while they go on.
func (t *turn) take(ctx context.Context, limit time.Duration) error {
	mine, start := t.enqueue(), time.Now()
	if mine == nil {
		return nil
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-mine:
			return nil
		case <-ctx.Done():
			if !t.leave(mine) {
				t.give() // it came at the same moment
			}
			return ctx.Err()
		case <-timer.C:
		}
		held := t.held()
		if left := limit - min(held, time.Since(start)); left > 0 {
			timer.Reset(left)
		} else if t.leave(mine) {
			return fmt.Errorf("another transaction has been on the bus for %s: %w", held.Round(time.Millisecond), ErrTimeout)
		} // else the turn has come
	}
}

// enqueue takes the turn if it is free, else it returns a place in the queue.
func (t *turn) enqueue() chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.taken {
		t.taken, t.since = true, time.Now()
		return nil
	}
	mine := make(chan struct{})
	t.queue = append(t.queue, mine)
	return mine
}

// leave gives up a place in the queue; false means that the turn has come already.
func (t *turn) leave(mine chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.queue, mine)
	if i < 0 {
		return false
	}
	t.queue = slices.Delete(t.queue, i, i+1)
	return true
}

// try takes the turn if it is free.
func (t *turn) try() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken {
		return false
	}
	t.taken, t.since = true, time.Now()
	return true
}

// give hands the turn to the next.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	close(t.queue[0])
	t.queue, t.since = slices.Delete(t.queue, 0, 1), time.Now()
}

// held returns for how long the present holder has had the turn; 0 = it is free.
func (t *turn) held() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.taken {
		return 0
	}
	return time.Since(t.since)
}
