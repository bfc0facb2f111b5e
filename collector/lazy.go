// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"sync"

	"github.com/streembit/edge/journal"
)

// Lazy is a Sink that is opened when it is needed first, and again after an attempt that failed: so a server that is down when the collector starts
// is no different from one that goes down later. Safe for concurrent use.
type Lazy struct {
	open func(context.Context) (Sink, error)

	mu   sync.Mutex
	sink Sink // nil: not open yet
}

// NewLazy returns a sink that open opens.
func NewLazy(open func(context.Context) (Sink, error)) *Lazy { return &Lazy{open: open} }

// Open opens the sink unless it is open.
func (l *Lazy) Open(ctx context.Context) (Sink, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sink == nil {
		s, err := l.open(ctx)
		if err != nil {
			return nil, err
		}
		l.sink = s
	}
	return l.sink, nil
}

// Unwrap implements Wrapper: nil until the sink is open.
func (l *Lazy) Unwrap() Sink {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sink
}

// Marks implements Sink.
func (l *Lazy) Marks(ctx context.Context) (map[journal.Chain]Mark, error) {
	s, err := l.Open(ctx)
	if err != nil {
		return nil, err
	}
	return s.Marks(ctx)
}

// Write implements Sink.
func (l *Lazy) Write(ctx context.Context, b Batch) error {
	s, err := l.Open(ctx)
	if err != nil {
		return err
	}
	return s.Write(ctx, b)
}

// Close closes the sink if it is open.
func (l *Lazy) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sink == nil {
		return nil
	}
	return l.sink.Close()
}
