// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// serveFetch answers one request of one member.
func (n *Node) serveFetch(s network.Stream) {
	n.serve(s, func() (func(*reading, *reply) error, error) {
		q, signed, err := readRequest(s)
		return func(who *reading, out *reply) error { return n.fulfil(who, q, signed, out) }, err
	})
}

// serve reads one request and does the work that it asks for, until that is done, the member ends the stream, or loses the right to it.
func (n *Node) serve(s network.Stream, read func() (work func(*reading, *reply) error, err error)) {
	ctx, cancel := context.WithCancel(n.life)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	out := &reply{s: s, w: bufio.NewWriterSize(s, 64<<10)}
	work, err := read()
	if err == nil {
		who, _ := memberID(s.Conn().RemotePeer())
		reading, done := n.serving.begin(ctx, who)
		var side sync.WaitGroup
		side.Go(func() { out.beat(ctx, n.o.KeepAlive) })
		side.Go(func() { watch(s); cancel() })
		err = work(reading, out)
		if ended := reading.lost(); ended != nil && ctx.Err() == nil {
			err = ended
		}
		done()
		if ctx.Err() == nil {
			err = errors.Join(err, out.end(err))
		}
		stop()
		_ = s.Close()
		_ = s.CloseRead() // wakes watch
		cancel()
		side.Wait()
	} else {
		err = errors.Join(err, out.end(&transport.Refusal{Hub: n.self, Reason: transport.RefusedInvalid, Detail: err.Error()}))
		_ = s.Close()
	}
	if err != nil {
		n.log.Debug("stream ended", "protocol", s.Protocol(), "peer", s.Conn().RemotePeer(), "err", err)
	}
}

// readRequest also returns the signed watermarks of an opMark.
func readRequest(s network.Stream) (q request, signed []byte, err error) {
	if err := s.SetReadDeadline(time.Now().Add(requestLimit)); err != nil {
		return request{}, nil, fmt.Errorf("p2p: setting deadline: %w", err)
	}
	raw, err := readFrame(s, maxRequest)
	if err != nil {
		return request{}, nil, err
	}
	if q, err = decodeRequest(raw); err != nil {
		return request{}, nil, err
	}
	if q.Op == opMark {
		if signed, err = readFrame(s, journal.MaxWatermarkRecord); err != nil {
			return request{}, nil, err
		}
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		return request{}, nil, fmt.Errorf("p2p: setting deadline: %w", err)
	}
	return q, signed, nil
}

// watch returns when the member has ended the stream or sends what it has no right to.
func watch(s network.Stream) {
	var b [1]byte
	_, _ = s.Read(b[:])
}

func (n *Node) fulfil(who *reading, q request, signed []byte, out *reply) error {
	ctx := who.ctx
	switch q.Op {
	case opHeld:
		all, err := n.o.Store.Held(ctx, q.Device)
		hidden := 0
		for i := 0; err == nil && i < len(all); i++ {
			if !who.may(n.o.Fleet(), all[i].Chain) {
				hidden++
				continue
			}
			err = out.held(all[i], false)
		}
		if err == nil && hidden > 0 && hidden == len(all) {
			return who.refusal(all[0].Chain)
		}
		return err
	case opFetch:
		if !who.may(n.o.Fleet(), q.Chain) {
			return who.refusal(q.Chain)
		}
		return n.o.Store.Fetch(ctx, q.Chain, q.Span, func(segment []byte) error {
			return out.frame(frameSegment, segment, false)
		})
	case opMark:
		return n.markBy(ctx, who.id, signed)
	default:
		if !mayAny(n.o.Fleet(), who.id) {
			return refuse(transport.RefusedNoRight, "the fleet's log gives you no right to read anything")
		}
		out.slim()
		return n.o.Store.Follow(ctx, func(h transport.Held) error {
			if !who.may(n.o.Fleet(), h.Chain) {
				return nil
			}
			return out.held(h, true)
		})
	}
}

// reply is the answer's stream; frames and keep-alives do not mix.
type reply struct {
	mu sync.Mutex
	s  network.Stream
	w  *bufio.Writer
}

// slim gives back most of the buffer, before anything was written: an answer that lasts for days says little at a time.
func (o *reply) slim() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = bufio.NewWriterSize(o.s, 4<<10)
}

func (o *reply) frame(kind byte, body []byte, now bool) error { return o.parts(kind, now, body) }

// parts writes one frame whose body is the parts in a row.
func (o *reply) parts(kind byte, now bool, body ...[]byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.s.SetWriteDeadline(time.Now().Add(replyLimit)); err != nil {
		return fmt.Errorf("p2p: setting deadline: %w", err)
	}
	if err := writeFrame(o.w, append([][]byte{{kind}}, body...)...); err != nil {
		return err
	}
	if !now {
		return nil
	}
	if err := o.w.Flush(); err != nil {
		return fmt.Errorf("p2p: writing answer: %w", err)
	}
	return nil
}

// held writes what is held of one chain, in as many frames as its runs need.
func (o *reply) held(h transport.Held, now bool) error {
	for spans := h.Spans; ; spans = spans[spansAFrame:] {
		part := transport.Held{Chain: h.Chain, Spans: spans[:min(len(spans), spansAFrame)], Floor: h.Floor, Past: h.Past}
		body, err := journal.Encode(part)
		if err != nil {
			return err
		}
		if err := o.frame(frameHeld, body, now); err != nil {
			return err
		}
		if len(spans) <= spansAFrame {
			return nil
		}
	}
}

func (o *reply) end(status error) error { return o.frame(frameEnd, encodeStatus(status), true) }

// beat shows the member that the hub lives and sends what lies in the buffer.
func (o *reply) beat(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := o.frame(frameAlive, nil, true); err != nil {
				_ = o.s.Reset()
				return
			}
		}
	}
}
