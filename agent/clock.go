// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"time"

	"github.com/streembit/edge"
)

// maxDrift is how far the wall clock may move against the monotonic one before it counts as set anew.
const maxDrift = 250 * time.Millisecond

// Clock tells the time as a board without a clock battery knows it: always milliseconds since boot, and wall time only
// while the system clock is synchronised and not before the floor. Within one Era the difference of the two is constant, so
// readings of one batch can share one reference. Safe for concurrent use.
type Clock struct {
	synced func() bool
	floor  time.Time
	start  time.Time     // with Go's monotonic reading
	uptime time.Duration // of the board, at start

	mu     sync.Mutex
	offset int64 // wall minus mono, ms; 0 = not synchronised
	era    uint64
}

// NewClock returns a clock for a board that had been up for uptime at asOf, as Boot returns them: what they are wrong by shifts this run's clock
// against that of other runs in the same boot, whose readings its clock notes restamp. synced asks the kernel whether the wall clock is
// right; before floor (the newest owner-signed time) it is never believed.
func NewClock(uptime time.Duration, asOf time.Time, synced func() bool, floor time.Time) *Clock {
	return &Clock{synced: synced, floor: floor, start: asOf, uptime: uptime}
}

// Now returns the present instant and its era. The era changes whenever wall time appears, vanishes or jumps.
func (c *Clock) Now() (at edge.Instant, era uint64) {
	synced := c.synced()
	now := time.Now()
	mono := (c.uptime + now.Sub(c.start)).Milliseconds()
	c.mu.Lock()
	defer c.mu.Unlock()
	offset := now.UnixMilli() - mono
	switch drift := time.Duration(offset-c.offset) * time.Millisecond; {
	case !synced || now.Before(c.floor):
		offset = 0
	case c.offset != 0 && drift.Abs() <= maxDrift:
		offset = c.offset
	}
	if offset != c.offset {
		c.offset = offset
		c.era++
	}
	at.Mono = mono
	if offset != 0 {
		at.Wall = mono + offset
	}
	return at, c.era
}
