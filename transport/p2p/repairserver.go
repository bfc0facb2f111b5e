// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	repairPlaces = 8 // answers to hubs at a time …
	repairOfOne  = 2 // … and to one of them
)

// serveRepair answers one request of one hub.
func (n *Node) serveRepair(s network.Stream) {
	n.serve(s, func() (func(*reading, *reply) error, error) {
		q, err := readRepairRequest(s)
		return func(who *reading, out *reply) error { return n.mirror(who, q, out) }, err
	})
}

func readRepairRequest(s network.Stream) (q repairRequest, err error) {
	if err := s.SetReadDeadline(time.Now().Add(requestLimit)); err != nil {
		return q, fmt.Errorf("p2p: setting deadline: %w", err)
	}
	raw, err := readFrame(s, maxRequest)
	if err != nil {
		return q, err
	}
	if q, err = decodeRepairRequest(raw); err != nil {
		return q, err
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		return q, fmt.Errorf("p2p: setting deadline: %w", err)
	}
	return q, nil
}

func (n *Node) mirror(who *reading, q repairRequest, out *reply) error {
	if !who.asHub(n.o.Fleet()) {
		return errNoHub()
	}
	leave, err := n.repairs.enter(who.ctx, who.id)
	if err != nil {
		return err
	}
	defer leave()
	switch q.Op {
	case opRanges:
		return n.giveRanges(who.ctx, q.Query, out)
	case opFetchDated:
		return n.o.Mirror.FetchDated(who.ctx, *q.Query.Chain, q.Query.Span, func(segment []byte, received int64) error {
			return out.parts(frameDated, false, binary.BigEndian.AppendUint64(nil, uint64(received)), segment)
		})
	default:
		if n.o.Books == nil {
			return nil
		}
		return n.o.Books.Marks(who.ctx, func(signed []byte) error { return out.frame(frameMarks, signed, false) })
	}
}

// giveRanges gathers the ranges of a chain into frames.
func (n *Node) giveRanges(ctx context.Context, q transport.RangeQuery, out *reply) error {
	var f rangeFrame
	send := func() error {
		if len(f.Ranges) == 0 {
			return nil
		}
		body, err := journal.Encode(f)
		if err != nil {
			return err
		}
		f.Ranges = f.Ranges[:0]
		return out.frame(frameRanges, body, false)
	}
	err := n.o.Mirror.Ranges(ctx, q, func(r transport.Range) error {
		if len(f.Ranges) == rangesAFrame || r.Chain != f.Chain || r.Floor != f.Floor {
			if err := send(); err != nil {
				return err
			}
		}
		f.Chain, f.Floor = r.Chain, r.Floor
		f.Ranges = append(f.Ranges, rangeOfChain{Span: r.Span, Count: r.Count, Mask: r.Mask, Sum: r.Sum})
		return nil
	})
	if err != nil {
		return err
	}
	return send()
}

// asHub reports whether the asker is a hub; if so, the answer ends when it is none any more.
func (a *reading) asHub(f *fleet.Fleet) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hub = true
	return f.Is(a.id, fleet.Hub)
}

func errNoHub() error { return refuse(transport.RefusedNoRight, "only hubs repair from each other") }
