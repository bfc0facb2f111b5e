// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"
	"time"

	"github.com/streembit/edge"
	"golang.org/x/time/rate"
)

const (
	// burstTime is how many seconds' worth a signer that has been quiet may write at once: at the 256 KiB/s of streembitd 64 MiB, 16 000 small segments. What a week
	// behind a dead uplink left of one every ten seconds is taken in 12 minutes, a whole outbox of 256 MiB in 13.
	burstTime = 256
	// minCharge is what the smallest segment costs of a rate, in bytes: a block of the disk, and the check of a signature.
	minCharge = 4 << 10
	minBurst  = 1 << 20 // several of the largest segments, however low the rate
)

// rates limits what each signer writes. A nil one limits nothing. Safe for concurrent use.
type rates struct {
	limit rate.Limit // bytes per second
	mu    sync.Mutex
	by    map[edge.ID]*rate.Limiter
}

func newRates(bytesPerSecond int64) *rates {
	if bytesPerSecond == 0 {
		return nil
	}
	return &rates{limit: rate.Limit(bytesPerSecond), by: map[edge.ID]*rate.Limiter{}}
}

// allow charges a signer for n bytes, or reports that it must wait.
func (r *rates) allow(id edge.ID, n int) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.by[id]
	if l == nil {
		l = rate.NewLimiter(r.limit, max(burstTime*int(r.limit), minBurst))
		r.by[id] = l
	}
	return l.AllowN(time.Now(), max(n, minCharge))
}

// forget drops the counts of those that have been quiet: they may write as much as whoever never wrote.
func (r *rates) forget() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for id, l := range r.by {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(r.by, id)
		}
	}
}
