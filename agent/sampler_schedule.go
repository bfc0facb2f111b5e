// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"math/bits"
	"time"
)

// schedule is when a sensor is read: origin, origin + every, and so on by the monotonic clock, whatever happens meanwhile. A
// time.Ticker will not do: after a read that lasted too long it gives at once the tick that it kept, so that one read starts between two ticks.
type schedule struct {
	origin time.Time
	every  time.Duration
	next   int64 // number of the tick that comes next
}

// due returns the time of the next tick.
func (p *schedule) due() time.Time { return p.origin.Add(time.Duration(p.next) * p.every) }

// advance skips the ticks before now and returns how many these are.
func (p *schedule) advance(now time.Time) uint64 {
	behind := now.Sub(p.due())
	if behind <= 0 {
		return 0
	}
	n := (behind + p.every - 1) / p.every
	p.next += int64(n)
	return uint64(n)
}

// Jitter is how late reads begin, since the start: not how long they take.
type Jitter struct {
	Mean time.Duration `json:"mean_ns"`
	P99  time.Duration `json:"p99_ns"` // at most a quarter too high
	Max  time.Duration `json:"max_ns"`
}

// lateness measures jitter in constant space: each octave of microseconds has four buckets.
type lateness struct {
	n       uint64
	sum     time.Duration
	max     time.Duration
	buckets [4 * 44]uint64 // up to 2⁴⁴ µs, half a year
}

func (l *lateness) add(d time.Duration) {
	d = max(d, 0)
	l.n++
	l.sum += d
	l.max = max(l.max, d)
	l.buckets[min(bucket(uint64(d/time.Microsecond)), len(l.buckets)-1)]++
}

// bucket keeps the highest three bits of a number of microseconds.
func bucket(us uint64) int {
	octave := bits.Len64(us) - 1
	if octave < 2 {
		return int(us)
	}
	return 4*octave + int(us>>(octave-2)&3)
}

// beyond returns the least number of microseconds that is above those of a bucket.
func beyond(bucket int) time.Duration {
	if bucket < 4 {
		return time.Duration(bucket+1) * time.Microsecond
	}
	return time.Duration(bucket%4+5) << (bucket/4 - 2) * time.Microsecond
}

func (l *lateness) jitter() Jitter {
	if l.n == 0 {
		return Jitter{}
	}
	j := Jitter{Mean: l.sum / time.Duration(l.n), Max: l.max}
	var below uint64
	for i, n := range l.buckets {
		if below += n; below*100 >= l.n*99 {
			j.P99 = min(beyond(i), l.max)
			break
		}
	}
	return j
}
