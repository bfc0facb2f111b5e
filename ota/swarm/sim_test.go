// SPDX-License-Identifier: Apache-2.0

package swarm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/swarm"
)

// The simulated network: nodes with real files, links with a rate, and the clock of synctest.

// node is a member with a file, which fetches if fetcher is there.
type node struct {
	id   edge.ID
	site string
	file *chunks.File

	mu      sync.Mutex
	fetcher *swarm.Fetcher
	off     bool
}

func (n *node) running() *swarm.Fetcher {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fetcher
}

func (n *node) set(f *swarm.Fetcher, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fetcher, n.off = f, off
}

func (n *node) isOff() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.off
}

var errOff = errors.New("it is off")

// way is how one node gets at another. The zero way is a fast one.
type way struct {
	to    *node
	link  *rate.Limiter // shared by whom it is shared; nil = no limit
	delay time.Duration // of each answer
	lie   func(i int, chunk []byte) []byte
	bytes *atomic.Int64 // of chunks that began to cross; nil = not counted
	cut   atomic.Int64  // chunks after which nothing comes any more; 0 = never
	asked atomic.Int64
}

func (w *way) Have(ctx context.Context, _ chunks.Hash) (swarm.Holding, error) {
	if err := w.wait(ctx); err != nil {
		return swarm.Holding{}, err
	}
	h := swarm.Holding{}
	h.Have, _ = w.to.file.Have()
	if f := w.to.running(); f != nil && !w.to.file.Complete() {
		h.Wants, h.Due = true, f.Due()
	}
	return h, nil
}

func (w *way) wait(ctx context.Context) error {
	select {
	case <-time.After(w.delay + time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.to.isOff() {
		return errOff
	}
	return nil
}

func (w *way) Chunks(ctx context.Context, _ chunks.Hash) ([]byte, error) {
	if err := w.wait(ctx); err != nil {
		return nil, err
	}
	l, err := w.to.file.List()
	return l.Bytes(), err
}

func (w *way) Chunk(ctx context.Context, _ chunks.Hash, i int, buf []byte) ([]byte, error) {
	if err := w.wait(ctx); err != nil {
		return nil, err
	}
	if n := w.asked.Add(1); w.cut.Load() > 0 && n > w.cut.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c, err := w.to.file.Chunk(i, buf)
	if err != nil {
		return nil, err
	}
	if w.bytes != nil {
		w.bytes.Add(int64(len(c)))
	}
	if w.link != nil {
		if err := w.link.WaitN(ctx, len(c)); err != nil {
			<-ctx.Done() // WaitN knows beforehand that it would take too long; a real link does not
			return nil, ctx.Err()
		}
	}
	if w.lie != nil {
		c = w.lie(i, c)
	}
	return c, nil
}

// world is a program of so many chunks and one node that has it.
type world struct {
	t      *testing.T
	bytes  []byte
	list   chunks.List
	origin *node
	nodes  uint64
}

func newWorld(t *testing.T, pieces int) *world {
	t.Helper()
	w := &world{t: t, bytes: make([]byte, pieces*chunks.Size-100)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(w.bytes)
	path := filepath.Join(t.TempDir(), "program")
	must(t, os.WriteFile(path, w.bytes, 0o600))
	f, err := chunks.Share(path)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	w.list, err = f.List()
	must(t, err)
	w.origin = &node{id: w.id(), file: f}
	return w
}

func (w *world) id() (id edge.ID) {
	w.nodes++
	binary.BigEndian.PutUint64(id[:], w.nodes)
	return id
}

// node makes one with nothing, or with what lies in dir.
func (w *world) node(site, dir string) *node {
	w.t.Helper()
	s, err := chunks.Open(dir, 1<<30)
	must(w.t, err)
	f, err := s.Begin(w.list.Tree(), int64(len(w.bytes)))
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, s.Close()) })
	return &node{id: w.id(), site: site, file: f}
}

// fetch has the node get the program from those peers.
func (w *world) fetch(ctx context.Context, n *node, o swarm.Options, peers ...swarm.Peer) error {
	o.Self = n.id
	if o.Find == nil {
		o.Find = func(context.Context) []swarm.Peer { return peers }
	}
	f := swarm.New(n.file, o)
	n.set(f, false)
	return f.Run(ctx)
}

func (w *world) whole(n *node) {
	w.t.Helper()
	got, err := os.ReadFile(n.file.Path())
	if err != nil || !bytes.Equal(got, w.bytes) {
		w.t.Errorf("the program of %s differs: %v", n.id.Short(), err)
	}
}

func far(w *way) swarm.Peer  { return swarm.Peer{ID: w.to.id, Source: w} }
func near(w *way) swarm.Peer { return swarm.Peer{ID: w.to.id, Near: true, Source: w} }

// link is one of so many bytes a second.
func link(bytesASecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytesASecond), chunks.Size)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
