// SPDX-License-Identifier: Apache-2.0

package store

import (
	"log/slog"
	"sync"
	"time"

	"github.com/streembit/edge/journal"
)

const (
	// slack is how far this hub's clock may be from what its own course of time makes of it.
	slack = 10 * time.Minute
	// doubtTime is how long a clock that jumped must go on from there, while this program runs, before ages are judged by it: time for somebody to
	// see the alarm and to set it right.
	doubtTime = 6 * time.Hour
)

// clock is the hub's time for receipts and ages. What is believed of it is carried forward by the time that passes while the program runs, and from
// the last run by the log. A clock that contradicts that is doubted: until the doubt is over ages are judged by the earlier of the two times and
// receipts are dated by the later one, so that a clock set to 2038 by mistake lets nothing go. Safe for concurrent use.
type clock struct {
	now    func() (ms int64, ok bool)
	logger *slog.Logger

	mu      sync.Mutex
	course  reading // believed
	doubted reading // contradicts it; zero = none does
	since   time.Time
}

// reading is a time of day and the monotonic time at which it was that.
type reading struct {
	ms int64
	at time.Time
}

func (r reading) then(at time.Time) int64 { return r.ms + at.Sub(r.at).Milliseconds() }

func (r reading) fits(ms int64, at time.Time) bool {
	d := time.Duration(ms-r.then(at)) * time.Millisecond
	return r.ms > 0 && d < slack && d > -slack
}

// resume lets the clock go on from what it showed when it was believed last, in ms; 0 = never.
func (c *clock) resume(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.course.ms == 0 && ms > 0 {
		c.course = reading{ms, time.Now()}
	}
}

// read returns the time for receipts and that for ages, in ms since 1970; 0 = nobody knows. They differ while the clock is doubted.
func (c *clock) read() (receipt, age int64) {
	if c.now == nil {
		return 0, 0
	}
	ms, ok := c.now()
	if !ok || ms <= 0 || ms > journal.MaxTime {
		return 0, 0
	}
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.course.ms == 0 || c.course.fits(ms, at):
		c.course, c.doubted = reading{ms, at}, reading{}
		return ms, ms
	case !c.doubted.fits(ms, at):
		c.doubted, c.since = reading{ms, at}, at
		c.logger.Error("store: the clock jumped; until it has stayed for a while nothing is let go by it", "by", time.Duration(ms-c.course.then(at))*time.Millisecond,
			"time", time.UnixMilli(ms).UTC(), "believed_in", doubtTime)
	case at.Sub(c.since) >= doubtTime:
		c.logger.Warn("store: the clock is believed", "time", time.UnixMilli(ms).UTC())
		c.course, c.doubted = reading{ms, at}, reading{}
		return ms, ms
	default:
		c.doubted = reading{ms, at}
	}
	then := c.course.then(at)
	return max(ms, then), min(ms, then)
}

// believe returns what this hub makes of the time at which another one says that it received a segment. It is no word of the device's, and a hub
// that lied could make others let go early, or never: so it is not later than now, and not earlier than the device's own signed time of the
// newest reading in it. Of a segment without one a claim takes half of the maximum age away at most.
func (s *Store) believe(seg *journal.Segment, claimed int64) int64 {
	now, _ := s.clock.read()
	if now == 0 || claimed <= 0 || claimed > now {
		return now
	}
	from := seg.Wall
	if from == 0 {
		maxAge, _ := retention(s.o.Fleet(), seg.Chain)
		from = now - maxAge.Milliseconds()/2
	}
	return min(max(claimed, from), now)
}
