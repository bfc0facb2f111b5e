// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/ota/chunks"
)

const (
	askLimit   = 10 * time.Second // for what a member has, and for the list
	slowest    = 1 << 10          // bytes a second: below that a source is dropped even if there is no other
	graceLimit = 2 * time.Second  // added to the time of a chunk
	pauseFirst = time.Second
	pauseLast  = time.Minute
	slowPause  = time.Minute // of a source that was dropped because of its rate
)

// peer is a member and what is known of it. mu of the Fetcher guards what changes.
type peer struct {
	Peer
	have   chunks.Bitmap
	due    chunks.Bitmap
	count  int // of have
	wants  bool
	asked  time.Time // when it last said what it has
	gained time.Time // when it last had more than before, or was met
	out    bool      // it lied
	until  time.Time // it is left alone
	fails  int       // in a row
}

// work asks one member, one thing at a time, until ctx ends or it is out.
func (f *Fetcher) work(ctx context.Context, p *peer) {
	buf := make([]byte, chunks.Size)
	for ctx.Err() == nil && !p.out { // only this goroutine sets out
		f.mu.Lock()
		until := p.until
		f.mu.Unlock()
		if time.Now().Before(until) && !pause(ctx, until) {
			return
		}
		if f.stale(p) && !f.ask(ctx, p) {
			continue
		}
		news := f.news() // before the choice, so that nothing is missed
		i, ok := f.claim(p)
		if !ok {
			f.rest(ctx, news, f.o.Look)
			continue
		}
		f.fetch(ctx, p, i, buf)
	}
}

// stale reports whether a member is to be asked what it has: one that has everything is not asked again.
func (f *Fetcher) stale(p *peer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return p.asked.IsZero() || p.count < chunks.Count(f.file.Size()) && time.Since(p.asked) >= f.o.Look
}

// ask hears what a member has, and gets the list from it if it is not yet here.
func (f *Fetcher) ask(ctx context.Context, p *peer) bool {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	h, err := p.Source.Have(limited, f.file.Tree())
	n := chunks.Count(f.file.Size())
	switch {
	case err != nil:
		f.failure(ctx, p, err)
		return false
	case len(h.Have) > 0 && !h.Have.Fits(n) || len(h.Due) > 0 && !h.Due.Fits(n):
		f.liar(p, errors.New("it says that it has chunks that do not exist"))
		return false
	}
	f.mu.Lock()
	count := ones(h.Have)
	if count > p.count || p.asked.IsZero() {
		p.gained = time.Now()
	}
	p.have, p.due, p.count, p.wants, p.asked, p.fails = h.Have, h.Due, count, h.Wants, time.Now(), 0
	f.mu.Unlock()
	if _, err := f.file.List(); err == nil || count == 0 {
		return true
	}
	raw, err := p.Source.Chunks(limited, f.file.Tree())
	if err == nil {
		if err = f.file.SetList(raw); errors.Is(err, chunks.ErrWrong) {
			f.liar(p, err)
			return false
		}
		if err != nil {
			f.fail(err)
			return false
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.tell()
		return true
	}
	f.failure(ctx, p, err)
	return false
}

// fetch brings a chunk that was claimed.
func (f *Fetcher) fetch(ctx context.Context, p *peer, i int, buf []byte) {
	size := chunks.Len(f.file.Size(), i)
	if f.o.Rate != nil {
		if err := f.o.Rate.WaitN(ctx, size); err != nil {
			f.release(i)
			return
		}
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := f.hurry(p, i, cancel)
	chunk, err := p.Source.Chunk(limited, f.file.Tree(), i, buf)
	stop()
	late := limited.Err() != nil && ctx.Err() == nil
	if err == nil {
		err = f.file.Put(i, chunk)
	}
	switch {
	case err == nil:
		f.took(p, size)
	case errors.Is(err, chunks.ErrWrong):
		f.liar(p, err)
	case chunk != nil: // it came, and was not kept
		f.fail(err)
	case late:
		f.slow(p)
	default:
		f.failure(ctx, p, err)
	}
	f.release(i)
}

func (f *Fetcher) took(p *peer, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.fails = 0
	if p.Near {
		f.stats.Near += int64(size)
	} else {
		f.stats.Far += int64(size)
	}
}

func (f *Fetcher) release(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flying, i)
	f.tell()
}

// fail ends the run: this side cannot go on.
func (f *Fetcher) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = err
	}
	f.tell()
}

// liar puts a member out for this run.
func (f *Fetcher) liar(p *peer, why error) {
	f.log.Warn("a member gave what is not the program and is not asked any more", "member", p.ID, "err", why)
	f.mu.Lock()
	defer f.mu.Unlock()
	p.out, p.count, p.wants = true, 0, false
	f.stats.Liars = append(f.stats.Liars, p.ID)
}

// hurry ends the wait for a chunk that comes below the rate. While nobody else has the chunk less is asked instead, of all: a weak uplink must get there too, and what
// has come of a chunk is not fetched again.
func (f *Fetcher) hurry(p *peer, i int, end func()) (stop func()) {
	began, size := time.Now(), chunks.Len(f.file.Size(), i)
	left := func() time.Duration {
		return graceLimit + time.Duration(size)*time.Second/time.Duration(f.minRate) - time.Since(began)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var timer *time.Timer
	over := false
	timer = time.AfterFunc(left(), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for !over && left() <= 0 {
			if f.minRate <= slowest || f.elsewhere(p, i) {
				end()
				return
			}
			f.minRate = max(slowest, f.minRate/2)
		}
		if !over {
			timer.Reset(left())
		}
	})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		over = true
		timer.Stop()
	}
}

// elsewhere reports whether another source has a chunk. The caller holds mu.
func (f *Fetcher) elsewhere(p *peer, i int) bool {
	now := time.Now()
	for _, o := range f.peers {
		if o != p && !o.out && o.fails == 0 && o.have.Has(i) && !now.Before(o.until) {
			return true
		}
	}
	return false
}

// slow leaves a member alone for a while.
func (f *Fetcher) slow(p *peer) {
	f.log.Info("a source is too slow", "member", p.ID, "bytes_a_second", f.o.MinRate)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Slow = append(f.stats.Slow, p.ID)
	p.until = time.Now().Add(slowPause)
}

// failure leaves a member that could not answer alone, longer each time.
func (f *Fetcher) failure(ctx context.Context, p *peer, err error) {
	if ctx.Err() != nil {
		return
	}
	f.log.Debug("a source did not answer", "member", p.ID, "err", err)
	f.mu.Lock()
	defer f.mu.Unlock()
	p.wants = false
	d := min(pauseLast, pauseFirst<<min(p.fails, 10))
	p.fails++
	p.until = time.Now().Add(d/2 + rand.N(d)) // so that not all come back at the same moment
}

// claim chooses the chunk that is asked of a member next. Of a near one anything that it has. Of one outside only what it is this side's turn to fetch: of all near
// members that want the program the one with the highest hash of chunk and id brings a chunk in, so that each comes once. Who gets no further for Patience loses
// its turns, and what another one has under way is left to it.
func (f *Fetcher) claim(p *peer) (int, bool) {
	have, _ := f.file.Have()
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if !p.Near && now.Sub(f.began) < f.o.Settle {
		return 0, false
	}
	if _, err := f.file.List(); err != nil {
		return 0, false
	}
	n := chunks.Count(f.file.Size())
	for k, start := 0, rand.IntN(n); k < n; k++ {
		i := (start + k) % n
		if have.Has(i) || f.flying[i] != nil || !p.have.Has(i) || !p.Near && !f.mine(i, now) {
			continue
		}
		f.flying[i] = p
		return i, true
	}
	return 0, false
}

// mine reports whether this side is to bring a chunk in from outside. The caller holds mu.
func (f *Fetcher) mine(i int, now time.Time) bool {
	own := turn(f.file.Tree(), i, f.o.Self)
	for _, p := range f.peers {
		switch {
		case !p.Near || p.out || p.fails > 0 || now.Before(p.until):
		case p.have.Has(i):
			return false
		case now.Sub(p.gained) > f.o.Patience:
		case p.due.Has(i), p.wants && turn(f.file.Tree(), i, p.ID) > own:
			return false
		}
	}
	return true
}

// turn is a member's lot for a chunk; the highest of all brings it in (rendezvous hashing).
func turn(tree chunks.Hash, i int, who edge.ID) uint64 {
	h := sha256.New()
	h.Write(tree[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(i)))
	h.Write(who[:])
	return binary.BigEndian.Uint64(h.Sum(nil))
}

func ones(b chunks.Bitmap) (n int) {
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}
