// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// ErrClosed is returned by the methods of a Node that was closed or killed.
var ErrClosed = errors.New("node is closed")

// What may wait for one hub, as in p2p.
const (
	laneSegments = 64
	laneBytes    = 8 << 20
)

// Node is one member. Its methods are those of p2p.Node and keep the same contract (transporttest). Safe for
// concurrent use.
type Node struct {
	net   *Network
	id    edge.ID
	store transport.Store // nil = client
	life  context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu    sync.Mutex
	lanes map[edge.ID]*lane
	heads map[journal.Hash]transport.Head // by chain key, of a hub
}

type lane struct{ segments, bytes int }

// ID returns the node's own identity.
func (n *Node) ID() edge.ID { return n.id }

// Close takes the node off the network.
func (n *Node) Close() error {
	if n.life.Err() == nil {
		n.net.Kill(n.id)
	}
	return nil
}

// Put is p2p.Node.Put.
func (n *Node) Put(ctx context.Context, hub edge.ID, segment []byte) error {
	if len(segment) > journal.MaxSegment {
		return fmt.Errorf("mem: putting segment of %d bytes: %w", len(segment), journal.ErrOversize)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mem: putting: %w", err)
	}
	l, err := n.enter(hub, len(segment))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	segment = bytes.Clone(segment) // the store may still work on it after ctx has ended
	n.tasks.Go(func() {
		err := n.deliver(ctx, hub, segment)
		n.leave(l, len(segment)) // first, so that who was answered has room for the next
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("mem: hub %s gives no answer: %w", hub.Short(), ctx.Err())
	}
}

func (n *Node) enter(hub edge.ID, size int) (*lane, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life.Err() != nil {
		return nil, fmt.Errorf("mem: putting: %w", ErrClosed)
	}
	l := n.lanes[hub]
	if l == nil {
		l = &lane{}
		n.lanes[hub] = l
	}
	if l.segments >= laneSegments || l.bytes+size > laneBytes {
		return nil, &transport.Refusal{Hub: hub, Reason: transport.RefusedBusy,
			Detail: fmt.Sprintf("%d segments of %d bytes wait for it already", l.segments, l.bytes)}
	}
	l.segments++
	l.bytes += size
	return l, nil
}

func (n *Node) leave(l *lane, size int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l.segments--
	l.bytes -= size
}

// deliver waits for the hub and hands it the segment. What the hub does with it ends with either node, not with ctx.
func (n *Node) deliver(ctx context.Context, hub edge.ID, segment []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	to, err := n.net.reach(ctx, n.id, hub)
	if err != nil {
		return err
	}
	both, stop := context.WithCancel(to.life)
	defer stop()
	defer context.AfterFunc(n.life, stop)()
	err = to.store.Put(both, segment)
	if both.Err() != nil {
		return fmt.Errorf("mem: hub %s is gone: %w", hub.Short(), transport.ErrUnreachable)
	}
	return named(err, hub)
}

// named turns a store's error into the refusal that a member on the network gets to see.
func named(err error, hub edge.ID) error {
	if err == nil {
		return nil
	}
	if r := (*transport.Refusal)(nil); errors.As(err, &r) && r.Reason != 0 {
		return &transport.Refusal{Hub: hub, Reason: r.Reason, Detail: r.Detail}
	}
	return &transport.Refusal{Hub: hub, Reason: transport.RefusedFailed, Detail: err.Error()}
}

// call runs f with the hub's store; it ends with ctx, with the hub and with this node.
func (n *Node) call(ctx context.Context, hub edge.ID, f func(context.Context, transport.Store) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mem: asking: %w", err)
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	to, err := n.net.reach(own, n.id, hub)
	if err != nil {
		return err
	}
	defer context.AfterFunc(to.life, cancel)()
	var visited visitError
	err = f(own, to.store)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &visited):
		return visited.err
	case ctx.Err() != nil:
		return fmt.Errorf("mem: asking hub %s: %w", hub.Short(), ctx.Err())
	case n.life.Err() != nil:
		return fmt.Errorf("mem: asking: %w", ErrClosed)
	case to.life.Err() != nil || errors.Is(err, transport.ErrUnreachable):
		return fmt.Errorf("mem: hub %s is gone: %w: %w", hub.Short(), transport.ErrUnreachable, err)
	}
	return named(err, hub)
}

// visitError marks an error of the caller's own visit.
type visitError struct{ err error }

func (e visitError) Error() string { return e.err.Error() }

// Held is p2p.Node.Held.
func (n *Node) Held(ctx context.Context, hub edge.ID, device edge.ID) (held []transport.Held, err error) {
	err = n.call(ctx, hub, func(ctx context.Context, s transport.Store) error {
		held, err = s.Held(ctx, device)
		return err
	})
	return held, err
}

// Fetch is p2p.Node.Fetch.
func (n *Node) Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte) error) error {
	return n.call(ctx, hub, func(ctx context.Context, s transport.Store) error {
		return s.Fetch(ctx, chain, span, func(segment []byte) error {
			if _, err := n.net.reach(ctx, n.id, hub); err != nil {
				return err
			}
			if err := visit(segment); err != nil {
				return visitError{err}
			}
			return nil
		})
	})
}

// Follow is p2p.Node.Follow.
func (n *Node) Follow(ctx context.Context, hub edge.ID, visit func(transport.Held) error) error {
	return n.call(ctx, hub, func(ctx context.Context, s transport.Store) error {
		return s.Follow(ctx, func(h transport.Held) error {
			if _, err := n.net.reach(ctx, n.id, hub); err != nil {
				return err
			}
			if err := visit(h); err != nil {
				return visitError{err}
			}
			return nil
		})
	})
}
