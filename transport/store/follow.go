// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// maxNews bounds the spans that wait for a slow follower per chain; beyond it he gets all that is held of the chain.
const maxNews = 64

// follower is one call of Follow: what it has not been told yet. Store.mu guards news and order.
type follower struct {
	wake  chan struct{} // capacity 1: there is news
	news  map[journal.Chain]*news
	order []journal.Chain // of the news, first come first told
}

type news struct {
	spans []transport.Span
	all   bool // too many spans: tell everything held
}

// tell notes that seq of a chain is durable; it never blocks. all says that the whole chain must be told.
func (f *follower) tell(c journal.Chain, s transport.Span, all bool) {
	n := f.news[c]
	if n == nil {
		n = &news{}
		f.news[c] = n
		f.order = append(f.order, c)
	}
	if n.all = n.all || all; !n.all {
		n.spans = merge(n.spans, s)
	}
	if len(n.spans) > maxNews {
		n.all, n.spans = true, nil
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Follow calls visit once for each chain that is held now, with all its spans, then for each chain that grew, with the
// spans that became durable since it was told last. It returns ctx.Err() when ctx ends, the error of visit, or ErrClosed.
// A slow visit delays nobody: what it misses is merged, and told again whole where it became too scattered, so a seq
// may be told more than once.
func (s *Store) Follow(ctx context.Context, visit func(transport.Held) error) error {
	f := &follower{wake: make(chan struct{}, 1), news: map[journal.Chain]*news{}}
	s.mu.Lock()
	s.followers[f] = struct{}{}
	for c := range s.chains {
		f.tell(c, transport.Span{}, true)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.followers, f)
	}()
	for {
		for {
			h, ok := s.nextNews(f)
			if !ok {
				break
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := visit(h); err != nil {
				return err
			}
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return fmt.Errorf("store: following: %w", ErrClosed)
		}
	}
}

func (s *Store) nextNews(f *follower) (transport.Held, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(f.order) > 0 {
		c := f.order[0]
		f.order = f.order[1:]
		n := f.news[c]
		delete(f.news, c)
		h := s.chains[c]
		if h == nil {
			continue // all of it is damaged: nothing to fetch
		}
		if n.all {
			n.spans = h.spans()
		}
		if told := h.told(s.scope(c).clip(h, n.spans)); len(told.Spans) > 0 {
			return told, true
		}
	}
	return transport.Held{}, false
}

// announce tells all followers; the caller holds Store.mu.
func (s *Store) announce(c journal.Chain, seq uint64) {
	for f := range s.followers {
		f.tell(c, transport.Span{First: seq, Last: seq}, false)
	}
}
