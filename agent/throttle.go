// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync"
	"time"
)

const (
	// window is how many segments are on their way to hubs at once, at most …
	window = 32
	// … and where they take long, at least: an old one and a new one.
	narrow = 2
	// slow is how long a segment may take, where hubs let it wait, before fewer are sent at once.
	slow = 5 * time.Second
)

// throttle bounds how many segments are on their way: few at first and after a failure, one more after each that is published, half as many after one
// that hubs let wait for long. So those that wait for the device's share wait in the outbox, where new ones can pass them, and not all at the hubs' doors.
// One goroutine enters; any may leave.
type throttle struct {
	free chan struct{} // capacity 1: enter may look again

	mu    sync.Mutex
	limit int
	busy  int
	cut   time.Time // when the limit was halved
}

// outcome is what came of one segment.
type outcome int

const (
	failed outcome = iota
	waited         // published, after a hub had let it wait
	done
)

func newThrottle() *throttle { return &throttle{free: make(chan struct{}, 1), limit: narrow} }

// enter waits for a place and reports whether it got one before ctx ended.
func (t *throttle) enter(ctx context.Context) bool {
	for {
		t.mu.Lock()
		room := t.busy < t.limit
		if room {
			t.busy++
		}
		t.mu.Unlock()
		if room {
			return true
		}
		select {
		case <-t.free:
		case <-ctx.Done():
			return false
		}
	}
}

// leave gives a place back that was taken at a time.
func (t *throttle) leave(since time.Time, what outcome) {
	t.mu.Lock()
	t.busy--
	switch now := time.Now(); {
	case what == failed:
		t.limit = narrow
	case what == done || now.Sub(since) <= slow:
		t.limit = min(t.limit+1, window)
	case since.After(t.cut): // those that were on their way when it was halved say nothing new
		t.limit, t.cut = max(t.limit/2, narrow), now
	}
	t.mu.Unlock()
	select {
	case t.free <- struct{}{}:
	default:
	}
}
