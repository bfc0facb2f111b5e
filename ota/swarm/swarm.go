// SPDX-License-Identifier: Apache-2.0

// Package swarm fetches one program from several members at once. It trusts none of them: each chunk is proven before it is kept, who gives a wrong one is out,
// and who is slow makes room for others. Members that are near each other share what they fetch from outside, so that a site takes each chunk about once through
// its uplink.
package swarm

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/ota/chunks"
)

// Holding is what a member has of a program.
type Holding struct {
	Have  chunks.Bitmap // none = nothing of it
	Wants bool          // it fetches the rest of it now …
	Due   chunks.Bitmap // … and these chunks are under way to it from outside
}

// Source is one member, asked for one program. Its methods are not called concurrently.
type Source interface {
	// Have also tells the member that this side wants the program.
	Have(ctx context.Context, tree chunks.Hash) (Holding, error)
	// Chunks returns the encoded list of hashes (chunks.ParseList).
	Chunks(ctx context.Context, tree chunks.Hash) ([]byte, error)
	// Chunk returns one chunk, in buf if it likes, which has room for chunks.Size bytes.
	Chunk(ctx context.Context, tree chunks.Hash, i int, buf []byte) ([]byte, error)
}

// Peer is a member that may have the program.
type Peer struct {
	ID     edge.ID
	Near   bool // bytes from there cost less than from the others: it is on this site
	Source Source
}

// Options of a Fetcher. Self and Find are required.
type Options struct {
	Self     edge.ID
	Find     func(context.Context) []Peer // who may have it, or wants it too; asked now and then
	Rate     *rate.Limiter                // of the bytes that are asked for, with a burst of chunks.Size at least; nil = no limit
	MinRate  int                          // bytes a second below which a source makes room for others; 0 = 16 KiB
	Look     time.Duration                // how often neighbours are asked what they have by now; 0 = 1 s
	Settle   time.Duration                // how long neighbours are looked for before anything is fetched from outside; 0 = three times Look
	Patience time.Duration                // how long a neighbour may get no further before others fetch what was its to fetch; 0 = 30 s
	Logger   *slog.Logger                 // nil = no log
}

// Stats are about one run.
type Stats struct {
	Near, Far int64     // bytes of proven chunks, by where they came from
	Liars     []edge.ID // gave what is not the program
	Slow      []edge.ID // were dropped because of their rate, whether or not they came back
	Sources   int       // that can be asked now
}

// Fetcher brings one program. Run it once.
type Fetcher struct {
	o    Options
	file *chunks.File
	log  *slog.Logger

	mu      sync.Mutex
	began   time.Time
	peers   map[edge.ID]*peer
	flying  map[int]*peer // chunks that are under way
	minRate int
	stats   Stats
	changed chan struct{} // closed and replaced when there may be something to do
	failed  error         // of the disk
}

// New prepares to complete a program.
func New(file *chunks.File, o Options) *Fetcher {
	if o.MinRate == 0 {
		o.MinRate = 16 << 10
	}
	if o.Look == 0 {
		o.Look = time.Second
	}
	if o.Settle == 0 {
		o.Settle = 3 * o.Look
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Fetcher{o: o, file: file, log: o.Logger, peers: map[edge.ID]*peer{}, flying: map[int]*peer{}, minRate: o.MinRate, changed: make(chan struct{})}
}

// findEvery is how often Find is asked.
const findEvery = 5 // times Look

// Run returns nil once the program is complete and synced to disk. Otherwise the error is that of ctx or of this side's disk: a lack of sources is waited out, for as
// long as ctx lasts. What has come stays.
func (f *Fetcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	f.mu.Lock()
	f.began = time.Now()
	f.mu.Unlock()
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	for !f.over() {
		for _, p := range f.meet(f.o.Find(ctx)) {
			workers.Go(func() { f.work(ctx, p) })
		}
		again := findEvery * f.o.Look
		if time.Since(f.began) < f.o.Settle { // those who begin at the same time are not yet known to whom we ask
			again = f.o.Look
		}
		if !f.await(ctx, again) {
			return fmt.Errorf("swarm: fetching program: %w", ctx.Err())
		}
	}
	if f.failed != nil { // set before over told
		return f.failed
	}
	return f.file.Sync()
}

// await waits until the program is complete, the disk fails, or the time has passed; false means that ctx has ended.
func (f *Fetcher) await(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		news := f.news()
		if f.over() {
			return true
		}
		select {
		case <-news:
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

func (f *Fetcher) over() bool {
	f.mu.Lock()
	failed := f.failed
	f.mu.Unlock()
	return failed != nil || f.file.Complete()
}

// news returns what is closed when something has changed.
func (f *Fetcher) news() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// tell wakes whoever waits. The caller holds mu.
func (f *Fetcher) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// meet returns the peers that are new.
func (f *Fetcher) meet(found []Peer) (fresh []*peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range found {
		known := f.peers[p.ID]
		switch {
		case p.ID == f.o.Self || known != nil && known.out:
		case known != nil:
			known.Near = p.Near // a way that became another
		default:
			fresh = append(fresh, &peer{Peer: p, gained: time.Now()})
			f.peers[p.ID] = fresh[len(fresh)-1]
		}
	}
	return fresh
}

// Due returns the chunks that are under way from outside, for the neighbours.
func (f *Fetcher) Due() chunks.Bitmap {
	b := chunks.NewBitmap(chunks.Count(f.file.Size()))
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.flying {
		if !p.Near {
			b.Set(i)
		}
	}
	return b
}

// Stats returns what has happened so far.
func (f *Fetcher) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Liars, s.Slow = append([]edge.ID(nil), s.Liars...), append([]edge.ID(nil), s.Slow...)
	now := time.Now()
	for _, p := range f.peers {
		if !p.out && !now.Before(p.until) && p.count > 0 {
			s.Sources++
		}
	}
	return s
}

// rest waits until something changes or the time has passed; false means that ctx has ended.
func (f *Fetcher) rest(ctx context.Context, news <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-news:
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// pause is for what goes on by itself after a time.
func pause(ctx context.Context, until time.Time) bool { return nap.For(ctx, time.Until(until)) }
