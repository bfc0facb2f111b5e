// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
)

const (
	// headEvery is the shortest time between two heads of one chain. A head is a hint: what holders have is the truth.
	headEvery = time.Minute
	// headLimit is how long the DHT may take for one.
	headLimit = 30 * time.Second
)

// heads puts the newest published header of each chain into the DHT. One goroutine, run.
type heads struct {
	to     Heads
	logger *slog.Logger
	wake   chan struct{}

	mu     sync.Mutex
	newest map[journal.Chain]*journal.Segment // not put yet
}

func newHeads(to Heads, l *slog.Logger) *heads {
	return &heads{to: to, logger: l, wake: make(chan struct{}, 1), newest: map[journal.Chain]*journal.Segment{}}
}

// published offers a segment as its chain's head.
func (h *heads) published(s *journal.Segment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.newest[s.Chain]; old == nil || old.Seq < s.Seq {
		h.newest[s.Chain] = s
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *heads) run(ctx context.Context) {
	if h.to == nil {
		return
	}
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return
		}
		for _, s := range h.take() {
			h.put(ctx, s)
		}
		if !nap.For(ctx, headEvery) {
			return
		}
	}
}

func (h *heads) take() []*journal.Segment {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*journal.Segment
	for _, s := range h.newest {
		out = append(out, s)
	}
	clear(h.newest)
	return out
}

func (h *heads) put(ctx context.Context, s *journal.Segment) {
	ctx, cancel := context.WithTimeout(ctx, headLimit)
	defer cancel()
	if err := h.to.PutHead(ctx, s.SignedHeader()); err != nil && ctx.Err() == nil {
		h.logger.Debug("head not put, readers ask the holders", "chain", s.Chain, "seq", s.Seq, "err", err)
	}
}
