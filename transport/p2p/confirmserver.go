// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/sync/errgroup"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// handOnWidth is how many segments are on their way to one hub for one request; busyHub is the pause when its queue is full.
const (
	handOnWidth = 8
	busyHub     = 50 * time.Millisecond
)

// errNotHeld is answered when part of the run is not here, or is not what the device says.
var errNotHeld = errors.New("this hub does not hold all of it")

// serveConfirm answers one request for proofs.
func (n *Node) serveConfirm(s network.Stream) {
	ctx, cancel := context.WithTimeout(n.life, handOnLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	out := &reply{s: s, w: bufio.NewWriterSize(s, 1<<10)}
	who, _ := memberID(s.Conn().RemotePeer())
	err := n.answerConfirm(ctx, who, s, out)
	err = errors.Join(err, out.end(err))
	_ = s.Close()
	if err != nil {
		n.log.Debug("confirm stream ended", "peer", who, "err", err)
	}
}

func (n *Node) answerConfirm(ctx context.Context, who edge.ID, s network.Stream, out *reply) error {
	raw, err := n.readRequestFrame(s)
	if err != nil {
		return refuse(transport.RefusedInvalid, "%v", err)
	}
	c, err := decodeConfirm(raw)
	if err != nil {
		return refuse(transport.RefusedInvalid, "%v", err)
	}
	f := n.o.Fleet()
	if !mayConfirm(f, who, c.Chain) {
		return refuse(transport.RefusedNoRight, "proofs are for the device whose segments they are")
	}
	run, size, last, err := n.heldRun(ctx, c)
	if err != nil {
		return err
	}
	if f.Is(who, fleet.Hub) && who != c.Chain.Device {
		return n.showProof(c, out)
	}
	if err := n.taken.Acquire(ctx, size); err != nil {
		return refuse(transport.RefusedBusy, "too much is being handed on")
	}
	defer n.taken.Release(size)
	n.headSoon(last)
	n.handOn(ctx, c, run, out)
	return nil
}

func (n *Node) readRequestFrame(s network.Stream) ([]byte, error) {
	if err := s.SetReadDeadline(time.Now().Add(requestLimit)); err != nil {
		return nil, fmt.Errorf("p2p: setting deadline: %w", err)
	}
	return readFrame(s, maxRequest)
}

// heldRun returns the segments of the run from this hub's disk, of which nothing may be missing and the last must be the one that was asked for.
func (n *Node) heldRun(ctx context.Context, c journal.Custody) (run [][]byte, size int64, last *journal.Segment, err error) {
	err = n.o.Store.Fetch(ctx, c.Chain, transport.Span{First: c.From, Last: c.To}, func(segment []byte) error {
		run, size = append(run, bytes.Clone(segment)), size+int64(len(segment))
		return nil
	})
	if err != nil {
		return nil, 0, nil, refuse(transport.RefusedFailed, "%v", err)
	}
	if uint64(len(run)) != c.To-c.From+1 {
		return nil, 0, nil, refuse(transport.RefusedInvalid, "%v", errNotHeld)
	}
	last, err = journal.OpenFrom(run[len(run)-1], c.Chain, c.To)
	if err != nil || last.Hash != c.Hash {
		return nil, 0, nil, refuse(transport.RefusedFork, "%v", errNotHeld)
	}
	return run, size, last, nil
}

// headEvery is the shortest time between two heads that this hub puts for a chain; headLimit is how long the DHT may take.
const (
	headEvery = time.Minute
	headLimit = 30 * time.Second
)

// headSoon puts the head of a chain whose device leaves that to the hubs.
func (n *Node) headSoon(last *journal.Segment) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if now.Before(n.headDue[last.Chain]) {
		return
	}
	for c, due := range n.headDue {
		if now.After(due) {
			delete(n.headDue, c)
		}
	}
	n.headDue[last.Chain] = now.Add(headEvery)
	n.spawn(func() {
		ctx, cancel := context.WithTimeout(n.life, headLimit)
		defer cancel()
		if err := n.PutHead(ctx, last.SignedHeader()); err != nil {
			n.log.Debug("head not put, readers ask the holders", "chain", last.Chain, "seq", last.Seq, "err", err)
		}
	})
}

// showProof signs for this hub.
func (n *Node) showProof(c journal.Custody, out *reply) error {
	c.Storer = n.self
	signature, err := c.Sign(n.o.Signer)
	if err != nil {
		return refuse(transport.RefusedFailed, "%v", err)
	}
	return out.frame(frameProof, slices.Concat(n.self[:proofID], signature), true)
}

// handOn brings the run to all other hubs of the bucket at once and passes their proofs on as they come. A device that has enough hangs up: the
// others get their copies all the same. Who fails is left to repair.
func (n *Node) handOn(ctx context.Context, c journal.Custody, run [][]byte, out *reply) {
	var all sync.WaitGroup
	defer all.Wait()
	var gone atomic.Bool
	for _, hub := range n.bucketOf(c) {
		if hub == n.self {
			continue
		}
		all.Go(func() {
			err := n.handOver(ctx, hub, run)
			if err == nil && !gone.Load() {
				err = n.passProof(ctx, hub, c, out, &gone)
			}
			if err != nil {
				n.log.Debug("run not handed on", "hub", hub, "chain", c.Chain, "from", c.From, "to", c.To, "err", err)
			}
		})
	}
}

func (n *Node) handOver(ctx context.Context, hub edge.ID, run [][]byte) error {
	puts, putting := errgroup.WithContext(ctx)
	puts.SetLimit(handOnWidth)
	for _, segment := range run {
		puts.Go(func() error { return n.putPatiently(putting, hub, segment) })
	}
	return puts.Wait()
}

// passProof gets the hub's proof and shows it to the device. A false one is not passed on: the device would blame this hub.
func (n *Node) passProof(ctx context.Context, hub edge.ID, c journal.Custody, out *reply, gone *atomic.Bool) error {
	c.Storer = edge.ID{}
	var signature []byte
	err := n.Confirm(ctx, hub, c, func(storer edge.ID, s []byte) bool {
		proof := c
		proof.Storer = hub
		if storer == hub && proof.Check(s) == nil {
			signature = s
		}
		return false
	})
	if err != nil {
		return err
	}
	if signature == nil {
		return fmt.Errorf("p2p: hub %s: %w", hub.Short(), journal.ErrCustody)
	}
	if err := out.frame(frameProof, slices.Concat(hub[:proofID], signature), true); err != nil {
		gone.Store(true)
		return err
	}
	return nil
}

func (n *Node) putPatiently(ctx context.Context, hub edge.ID, segment []byte) error {
	for {
		err := n.Put(ctx, hub, segment)
		if r, ok := errors.AsType[*transport.Refusal](err); !ok || r.Reason != transport.RefusedBusy {
			return err
		}
		t := time.NewTimer(busyHub)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}
