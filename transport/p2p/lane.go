// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// storeProtocol: the client writes segments as frames; the hub answers each with a status frame, in their order.
const storeProtocol = "/streembit/store/1"

const (
	laneSegments = 64      // segments that wait for one hub, written or not …
	laneBytes    = 8 << 20 // … and their bytes: what a frozen hub may cost

	writeLimit = 15 * time.Second // a hub takes what is written within this
	ackLimit   = 30 * time.Second // a hub answers within this while something waits
	idleLimit  = 2 * time.Minute  // an idle stream is closed after this

	backoffFirst = 200 * time.Millisecond
	backoffLast  = 15 * time.Second
)

// Put sends one segment to one hub and returns nil once that hub has fsynced it. Otherwise the error is a
// *transport.Refusal, or wraps transport.ErrUnreachable, or is that of ctx. It is called concurrently: puts to one
// hub share one stream and do not wait for each other's answers. After a failure it fails at once until a short
// back-off has passed. The segment must not change until Put returns.
func (n *Node) Put(ctx context.Context, hub edge.ID, segment []byte) error {
	if len(segment) > journal.MaxSegment {
		return fmt.Errorf("p2p: putting segment of %d bytes: %w", len(segment), journal.ErrOversize)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("p2p: putting on hub %s: %w", hub.Short(), err)
	}
	if hub == n.self && n.o.Store != nil {
		return n.named(n.o.Store.Put(ctx, segment))
	}
	l, err := n.lane(hub)
	if err != nil {
		return err
	}
	return l.put(ctx, segment)
}

// lane returns the hub's lane and starts it at first use; there is one per enrolled hub at most.
func (n *Node) lane(hub edge.ID) (*lane, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l, ok := n.lanes[hub]; ok {
		return l, nil
	}
	if !n.o.Fleet().Is(hub, fleet.Hub) {
		return nil, fmt.Errorf("p2p: putting: %s is not an enrolled hub: %w", hub, transport.ErrUnreachable)
	}
	ctx, drop := context.WithCancelCause(n.life)
	l := &lane{node: n, hub: hub, wake: make(chan struct{}, 1), drop: drop}
	if !n.spawn(func() { defer drop(nil); l.run(ctx) }) {
		drop(nil)
		return nil, fmt.Errorf("p2p: putting: %w", ErrClosed)
	}
	n.lanes[hub] = l
	return l, nil
}

// lane is the way to one hub: a bounded queue, one writer, one long-lived stream.
type lane struct {
	node *Node
	hub  edge.ID
	wake chan struct{} // holds a token when the writer has to look at the queue
	drop context.CancelCauseFunc

	mu      sync.Mutex
	queue   []*parcel // not written yet
	sent    []*parcel // written, in order, not answered yet
	bytes   int       // of both
	fails   int       // in a row
	retryAt time.Time
	cause   error // of the last failure
	over    bool
}

type parcel struct {
	segment []byte
	done    chan error // buffered, exactly one answer
}

func (l *lane) put(ctx context.Context, segment []byte) error {
	p := &parcel{segment: segment, done: make(chan error, 1)}
	if err := l.enqueue(p); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
	}
	l.withdraw(p)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("p2p: hub %s gave no answer: %w: %w", l.hub.Short(), transport.ErrUnreachable, ctx.Err())
	}
	return fmt.Errorf("p2p: putting on hub %s: %w", l.hub.Short(), ctx.Err())
}

func (l *lane) enqueue(p *parcel) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := len(l.queue) + len(l.sent)
	switch wait := time.Until(l.retryAt); {
	case l.over:
		return l.cause
	case waiting == 0 && wait > 0:
		return fmt.Errorf("p2p: hub %s, next try in %s: %w", l.hub.Short(), wait.Round(time.Millisecond), l.cause)
	case waiting >= laneSegments || l.bytes+len(p.segment) > laneBytes:
		return &transport.Refusal{Hub: l.hub, Reason: transport.RefusedBusy,
			Detail: fmt.Sprintf("%d segments of %d bytes wait for it already", waiting, l.bytes)}
	}
	l.queue = append(l.queue, p)
	l.bytes += len(p.segment)
	l.poke()
	return nil
}

// withdraw takes back a parcel that was not written yet. One that was keeps its place until its answer comes.
func (l *lane) withdraw(p *parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.queue, p); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.bytes -= len(p.segment)
	}
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run owns the lane: it holds a stream open while there is work and ends with the node, or when its hub is none any more.
func (l *lane) run(ctx context.Context) {
	defer func() {
		cause := context.Cause(ctx)
		if l.node.life.Err() != nil {
			cause = fmt.Errorf("p2p: putting: %w", ErrClosed)
		}
		l.fail(cause, true)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		if l.idle() {
			continue
		}
		if err := l.session(ctx); err != nil && ctx.Err() == nil {
			l.fail(err, false)
		}
	}
}

func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)+len(l.sent) == 0
}

// session opens a stream and works until it fails (an error that wraps ErrUnreachable) or was idle for long (nil).
func (l *lane) session(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, dialLimit+findLimit+dialLimit)
	defer cancel()
	s, err := l.node.open(dial, l.hub, storeProtocol)
	if err != nil {
		return err
	}
	l.node.protect(l.hub)
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	broken := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { broken <- l.readAnswers(s) })
	defer reader.Wait()
	defer func() { _ = s.Reset() }()
	err = l.writeSegments(s, broken)
	if err == nil {
		return nil
	}
	return fmt.Errorf("p2p: sending to hub %s: %w: %w", l.hub.Short(), transport.ErrUnreachable, err)
}

// writeSegments sends what is queued and gathers what is queued meanwhile into one write.
func (l *lane) writeSegments(s network.Stream, broken <-chan error) error {
	w := bufio.NewWriterSize(s, 32<<10)
	for {
		p := l.next(s)
		if p == nil {
			if err := w.Flush(); err != nil {
				return fmt.Errorf("p2p: writing: %w", err)
			}
			if done, err := l.pause(broken); done || err != nil {
				return err
			}
			continue
		}
		if err := s.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
			return fmt.Errorf("p2p: setting deadline: %w", err)
		}
		if err := writeFrame(w, p.segment); err != nil {
			return err
		}
	}
}

// pause waits for more to send; done means that the stream was idle for long and nothing waits.
func (l *lane) pause(broken <-chan error) (done bool, err error) {
	t := time.NewTimer(idleLimit)
	defer t.Stop()
	select {
	case <-l.wake:
		return false, nil
	case err := <-broken:
		if l.idle() { // the hub went away while nobody wanted anything of it: no failure yet
			return true, nil
		}
		return false, err
	case <-t.C:
		return l.idle(), nil
	}
}

// next moves a parcel from the queue to those that wait for an answer.
func (l *lane) next(s network.Stream) *parcel {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	p := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	l.sent = append(l.sent, p)
	if len(l.sent) == 1 {
		_ = s.SetReadDeadline(time.Now().Add(ackLimit))
	}
	return p
}

// readAnswers hands each status to the oldest parcel without one.
func (l *lane) readAnswers(s network.Stream) error {
	r := bufio.NewReaderSize(s, 1<<10)
	for {
		raw, err := readFrame(r, maxStatus)
		if err != nil {
			return err
		}
		status, ok := decodeStatus(raw, l.hub)
		if !ok || !l.answer(s, status) {
			return fmt.Errorf("p2p: reading answer: %w", ErrFrame)
		}
	}
}

// answer settles the oldest parcel and renews the deadline for the others; false means that none was waiting.
func (l *lane) answer(s network.Stream, status error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sent) == 0 {
		return false
	}
	p := l.sent[0]
	l.sent = slices.Delete(l.sent, 0, 1)
	l.bytes -= len(p.segment)
	l.fails = 0
	deadline := time.Time{}
	if len(l.sent) > 0 {
		deadline = time.Now().Add(ackLimit)
	}
	_ = s.SetReadDeadline(deadline)
	p.done <- status
	return true
}

// fail settles everything that waits with the error and sets the time before which no new attempt is made.
func (l *lane) fail(cause error, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range slices.Concat(l.sent, l.queue) {
		p.done <- cause
	}
	l.queue, l.sent, l.bytes, l.over, l.cause = nil, nil, 0, over, cause
	pause := min(backoffFirst<<min(l.fails, 16), backoffLast)
	l.fails++
	l.retryAt = time.Now().Add(pause/2 + rand.N(pause/2))
	if !over {
		l.node.log.Debug("hub does not take segments", "hub", l.hub, "retry", pause, "err", cause)
	}
}

// protect keeps the connection manager from trimming a connection that carries segments.
func (n *Node) protect(hub edge.ID) {
	n.parts.host.ConnManager().Protect(peerID(hub), storeProtocol)
}
