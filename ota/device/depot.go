// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/swarm"
)

// Depot is the programs of a member, complete or under way: those that it gives others, and those that it fetches. Safe for concurrent use.
type Depot struct {
	store *chunks.Store
	self  edge.ID
	in    *rate.Limiter // nil = no limit
	out   *rate.Limiter
	log   *slog.Logger
	given atomic.Int64

	mu     sync.Mutex
	coming map[chunks.Hash]*swarm.Fetcher
	shared map[chunks.Hash]*chunks.File // of somebody else's files
}

// NewDepot puts a store to use; nil for one that only shares. bytes a second bound what is fetched and what is given, each for itself; 0 = no bound.
func NewDepot(store *chunks.Store, self edge.ID, bytes int64, log *slog.Logger) *Depot {
	d := &Depot{store: store, self: self, log: log, coming: map[chunks.Hash]*swarm.Fetcher{}, shared: map[chunks.Hash]*chunks.File{}}
	if bytes > 0 {
		burst := int(max(bytes, chunks.Size))
		d.in, d.out = rate.NewLimiter(rate.Limit(bytes), burst), rate.NewLimiter(rate.Limit(bytes), burst)
	}
	return d
}

// Given returns the bytes of chunks that were given to others.
func (d *Depot) Given() int64 { return d.given.Load() }

// Share gives others a program that lies in a file which is not the depot's.
func (d *Depot) Share(f *chunks.File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shared[f.Tree()] = f
}

func (d *Depot) file(tree chunks.Hash) (*chunks.File, error) {
	d.mu.Lock()
	f := d.shared[tree]
	d.mu.Unlock()
	if f != nil {
		return f, nil
	}
	if d.store == nil {
		return nil, fmt.Errorf("device: %w", chunks.ErrNotKnown)
	}
	return d.store.Get(tree)
}

// Holding says what is here of a program, and whether the rest is being fetched.
func (d *Depot) Holding(tree chunks.Hash) (h swarm.Holding, known bool) {
	f, err := d.file(tree)
	if err != nil {
		return h, false
	}
	h.Have, _ = f.Have()
	d.mu.Lock()
	coming := d.coming[tree]
	d.mu.Unlock()
	if coming != nil && !f.Complete() {
		h.Wants, h.Due = true, coming.Due()
	}
	return h, true
}

// List returns the encoded list of a program's chunks.
func (d *Depot) List(tree chunks.Hash) ([]byte, error) {
	f, err := d.file(tree)
	if err != nil {
		return nil, err
	}
	l, err := f.List()
	return l.Bytes(), err
}

// Chunk returns a chunk, in buf, as fast as the rate allows.
func (d *Depot) Chunk(ctx context.Context, tree chunks.Hash, i int, buf []byte) ([]byte, error) {
	f, err := d.file(tree)
	if err != nil {
		return nil, err
	}
	c, err := f.Chunk(i, buf)
	if err == nil && d.out != nil {
		err = d.out.WaitN(ctx, len(c))
	}
	if err != nil {
		return nil, err
	}
	d.given.Add(int64(len(c)))
	return c, nil
}

// Fetching is how far a fetch is.
type Fetching struct {
	Chunks, Of int
	Stats      swarm.Stats
}

// Percent is 0 to 100.
func (f Fetching) Percent() int { return 100 * f.Chunks / max(f.Of, 1) }

// Progress returns how far the fetch of a program is, or was.
func (d *Depot) Progress(tree chunks.Hash) Fetching {
	f, err := d.file(tree)
	if err != nil {
		return Fetching{}
	}
	_, n := f.Have()
	p := Fetching{Chunks: n, Of: chunks.Count(f.Size())}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.coming[tree]; c != nil {
		p.Stats = c.Stats()
	}
	return p
}

// Begin makes room for a program, so that neighbours who ask learn that it is wanted here, and returns how many bytes are still to come. The error wraps
// chunks.ErrQuota.
func (d *Depot) Begin(a ota.Artifact) (missing int64, err error) {
	f, err := d.store.Begin(a.Tree, a.Size)
	if err != nil {
		return 0, err
	}
	_, n := f.Have()
	return max(a.Size-int64(n)*chunks.Size, 0), nil
}

// Bring completes a program; see swarm.Fetcher.Run. One that is complete is here at once.
func (d *Depot) Bring(ctx context.Context, a ota.Artifact, find func(context.Context) []swarm.Peer) (*chunks.File, error) {
	f, err := d.store.Begin(a.Tree, a.Size)
	if err != nil {
		return nil, err
	}
	if f.Complete() {
		return f, f.Sync()
	}
	fetcher := swarm.New(f, swarm.Options{Self: d.self, Find: find, Rate: d.in, Logger: d.log})
	d.mu.Lock()
	if d.coming[a.Tree] != nil {
		d.mu.Unlock()
		return nil, fmt.Errorf("device: %s is being fetched already", a.Path)
	}
	d.coming[a.Tree] = fetcher
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.coming, a.Tree)
	}()
	if err := fetcher.Run(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// Keep removes all programs but those.
func (d *Depot) Keep(trees ...chunks.Hash) error { return d.store.Keep(trees...) }
