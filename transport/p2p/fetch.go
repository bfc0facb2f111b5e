// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// fetchProtocol: the member writes one request frame; the hub answers with frames whose first byte is their kind,
// the last of them frameEnd.
const fetchProtocol = "/streembit/fetch/1"

// The kinds of frames in an answer.
const (
	frameEnd     = 'E' // a status follows
	frameSegment = 'S' // a segment follows
	frameHeld    = 'H' // a transport.Held in CBOR follows
	frameAlive   = 'K' // nothing follows: the hub lives and has nothing to say
)

// The operations of a request.
const (
	opHeld uint8 = iota + 1
	opFetch
	opFollow
	opMark // a second frame of the member follows: its signed watermarks
)

const (
	maxRequest   = 1 << 10                           // bytes of a request
	maxReply     = 1 + dateSize + journal.MaxSegment // bytes of an answer's frame
	maxHeld      = 32 << 20                          // bytes in memory of what one hub claims to hold: some 200 000 chains, or 2 million runs
	heldSize     = 160                               // of a chain …
	spanSize     = 16                                // … and of a run
	spansAFrame  = 4096                              // runs of one chain in a frame; more come in further frames
	requestLimit = 10 * time.Second                  // a member writes its request within this
	replyLimit   = 2 * time.Minute                   // a member takes a frame within this: its sink may be slow
	missedBeats  = 3                                 // keep-alives whose absence ends a stream
)

type request struct {
	_      struct{} `cbor:",toarray"`
	Op     uint8
	Device edge.ID        // opHeld
	Chain  journal.Chain  // opFetch
	Span   transport.Span // opFetch
}

func decodeRequest(raw []byte) (request, error) {
	var q request
	if err := journal.Decode(raw, &q); err != nil {
		return q, fmt.Errorf("p2p: reading request: %w", err)
	}
	switch {
	case q.Op < opHeld || q.Op > opMark:
		return q, fmt.Errorf("p2p: reading request: operation %d is unknown: update this program", q.Op)
	case q.Op == opFetch && (!journal.ValidStream(q.Chain.Stream) || q.Span.First > q.Span.Last):
		return q, fmt.Errorf("p2p: reading request: stream %q, seq %d to %d: %w", q.Chain.Stream, q.Span.First, q.Span.Last, ErrFrame)
	}
	return q, nil
}

// Held asks a hub what it holds of one device's chains, the zero ID meaning all devices.
func (n *Node) Held(ctx context.Context, hub edge.ID, device edge.ID) ([]transport.Held, error) {
	if hub == n.self && n.o.Store != nil {
		return n.o.Store.Held(ctx, device)
	}
	var all []transport.Held
	var size int
	err := n.ask(ctx, hub, request{Op: opHeld, Device: device}, func(kind byte, body []byte) error {
		h, err := decodeHeld(kind, body)
		if err != nil {
			return err
		}
		if size += heldSize + spanSize*len(h.Spans); size > maxHeld {
			return fmt.Errorf("p2p: the hub claims to hold more than can be told in %d bytes: %w", maxHeld, ErrFrame)
		}
		if last := len(all) - 1; last >= 0 && all[last].Chain == h.Chain {
			all[last].Spans = append(all[last].Spans, h.Spans...)
		} else {
			all = append(all, h)
		}
		return nil
	})
	return all, err
}

// Fetch visits the segments of a span that a hub has, in ascending order. They are what the hub sent: prove them.
// The slice is valid only during the call.
func (n *Node) Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte) error) error {
	if hub == n.self && n.o.Store != nil {
		return n.o.Store.Fetch(ctx, chain, span, visit)
	}
	return n.ask(ctx, hub, request{Op: opFetch, Chain: chain, Span: span}, func(kind byte, body []byte) error {
		if kind != frameSegment {
			return fmt.Errorf("p2p: kind %q in place of a segment: %w", kind, ErrFrame)
		}
		return visit(body)
	})
}

// Follow visits each chain that a hub holds, then each newly durable span, until ctx ends, visit returns an error or
// the hub is gone (an error that wraps transport.ErrUnreachable). A chain with very many runs comes in several calls.
func (n *Node) Follow(ctx context.Context, hub edge.ID, visit func(transport.Held) error) error {
	if hub == n.self && n.o.Store != nil {
		return n.o.Store.Follow(ctx, visit)
	}
	return n.ask(ctx, hub, request{Op: opFollow}, func(kind byte, body []byte) error {
		h, err := decodeHeld(kind, body)
		if err != nil {
			return err
		}
		return visit(h)
	})
}

func decodeHeld(kind byte, body []byte) (transport.Held, error) {
	var h transport.Held
	if kind != frameHeld {
		return h, fmt.Errorf("p2p: kind %q in place of what is held: %w", kind, ErrFrame)
	}
	if err := journal.Decode(body, &h); err != nil {
		return h, fmt.Errorf("p2p: reading what is held: %w: %w", ErrFrame, err)
	}
	return h, nil
}

// visitError marks an error of the caller's own visit, which says nothing about the hub.
type visitError struct{ err error }

func (e visitError) Error() string { return e.err.Error() }

// ask sends one request of the fetch protocol and hands each frame of the answer to visit.
func (n *Node) ask(ctx context.Context, hub edge.ID, q request, visit func(kind byte, body []byte) error) error {
	raw, err := journal.Encode(q)
	if err != nil {
		return err
	}
	return n.inquire(ctx, hub, fetchProtocol, [][]byte{raw}, visit)
}

// inquire opens a stream, writes the frames of a request, and hands each frame of the answer to visit.
func (n *Node) inquire(ctx context.Context, hub edge.ID, p protocol.ID, frames [][]byte, visit func(kind byte, body []byte) error) error {
	if !n.begin() {
		return fmt.Errorf("p2p: asking: %w", ErrClosed)
	}
	defer n.tasks.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	err := n.exchange(ctx, hub, p, frames, visit)
	var own visitError
	var refused *transport.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own.err
	case n.life.Err() != nil:
		return fmt.Errorf("p2p: asking hub %s: %w", hub.Short(), ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("p2p: asking hub %s: %w", hub.Short(), ctx.Err())
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, transport.ErrUnreachable):
		return err
	}
	return fmt.Errorf("p2p: asking hub %s: %w: %w", hub.Short(), transport.ErrUnreachable, err)
}

func (n *Node) exchange(ctx context.Context, hub edge.ID, p protocol.ID, frames [][]byte, visit func(kind byte, body []byte) error) error {
	s, err := n.open(ctx, hub, p)
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }() // after the end it frees the stream at once
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	if err := writeRequest(s, frames); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s, 64<<10)
	for {
		// The hub sends at least a keep-alive, so silence means that it is gone.
		if err := s.SetReadDeadline(time.Now().Add(missedBeats * n.o.KeepAlive)); err != nil {
			return fmt.Errorf("p2p: setting deadline: %w", err)
		}
		frame, err := readFrame(r, maxReply)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("p2p: the answer has no end: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		switch kind, body := frame[0], frame[1:]; kind {
		case frameAlive:
		case frameEnd:
			status, ok := decodeStatus(body, hub)
			if !ok {
				return fmt.Errorf("p2p: reading status: %w", ErrFrame)
			}
			return status
		default:
			if err := visit(kind, body); errors.Is(err, ErrFrame) {
				return err
			} else if err != nil {
				return visitError{err}
			}
		}
	}
}

func writeRequest(s network.Stream, frames [][]byte) error {
	if err := s.SetWriteDeadline(time.Now().Add(requestLimit)); err != nil {
		return fmt.Errorf("p2p: setting deadline: %w", err)
	}
	w := bufio.NewWriterSize(s, maxRequest+frameHeader)
	for _, f := range frames {
		if err := writeFrame(w, f); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("p2p: writing request: %w", err)
	}
	return nil
}
