// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// repairProtocol is how hubs see what they lack, between hubs only: the asker writes one request frame and gets frames as those of the fetch protocol.
const repairProtocol = "/streembit/repair/1"

// The kinds of frames of its own.
const (
	frameRanges = 'R' // a rangeFrame in CBOR follows
	frameDated  = 'D' // when the segment was received, 8 bytes, big endian, and the segment follow
	frameMarks  = 'W' // a signed journal.Watermarks follows
)

// The operations of a repairRequest.
const (
	opRanges uint8 = iota + 1
	opFetchDated
	opMarks
)

const (
	rangesAFrame = 1024 // ranges of one chain in a frame: some 60 bytes each
	dateSize     = 8    // bytes before the segment in a frameDated
)

type repairRequest struct {
	_     struct{} `cbor:",toarray"`
	Op    uint8
	Query transport.RangeQuery // opRanges; opFetchDated: of one chain, its Span
}

// rangeFrame is ranges of one chain in a row.
type rangeFrame struct {
	_      struct{} `cbor:",toarray"`
	Chain  journal.Chain
	Floor  uint64
	Ranges []rangeOfChain
}

type rangeOfChain struct {
	_           struct{} `cbor:",toarray"`
	Span        transport.Span
	Count, Mask uint64
	Sum         journal.Hash
}

func decodeRepairRequest(raw []byte) (repairRequest, error) {
	var q repairRequest
	if err := journal.Decode(raw, &q); err != nil {
		return q, fmt.Errorf("p2p: reading repair request: %w", err)
	}
	one := q.Query.Chain != nil
	switch s := q.Query.Span; {
	case q.Op < opRanges || q.Op > opMarks:
		return q, fmt.Errorf("p2p: reading repair request: operation %d is unknown: update this program", q.Op)
	case one && !journal.ValidStream(q.Query.Chain.Stream) || s.First > s.Last,
		q.Op == opFetchDated && !one,
		q.Op == opRanges && !one && (s != transport.Span{} || q.Query.Width != 0),
		q.Op == opRanges && one && (s.First%journal.BucketSize != 0 || s.Last%journal.BucketSize != journal.BucketSize-1 || q.Query.Width%journal.BucketSize != 0):
		return q, fmt.Errorf("p2p: reading repair request: operation %d, seq %d to %d by %d: %w", q.Op, s.First, s.Last, q.Query.Width, ErrFrame)
	}
	return q, nil
}

// Ranges visits the digests of what a hub holds, as transport.Mirror does there. They are what the hub says. This node must be a hub.
func (n *Node) Ranges(ctx context.Context, hub edge.ID, q transport.RangeQuery, visit func(transport.Range) error) error {
	if hub == n.self && n.o.Mirror != nil {
		return n.o.Mirror.Ranges(ctx, q, visit)
	}
	return n.askRepair(ctx, hub, repairRequest{Op: opRanges, Query: q}, func(kind byte, body []byte) error {
		ranges, err := decodeRanges(kind, body)
		for i := 0; err == nil && i < len(ranges); i++ {
			err = visit(ranges[i])
		}
		return err
	})
}

func decodeRanges(kind byte, body []byte) ([]transport.Range, error) {
	if kind != frameRanges {
		return nil, fmt.Errorf("p2p: kind %q in place of ranges: %w", kind, ErrFrame)
	}
	var f rangeFrame
	if err := journal.Decode(body, &f); err != nil {
		return nil, fmt.Errorf("p2p: reading ranges: %w: %w", ErrFrame, err)
	}
	if len(f.Ranges) == 0 || len(f.Ranges) > rangesAFrame {
		return nil, fmt.Errorf("p2p: %d ranges in a frame: %w", len(f.Ranges), ErrFrame)
	}
	out := make([]transport.Range, 0, len(f.Ranges))
	for _, r := range f.Ranges {
		out = append(out, transport.Range{Chain: f.Chain, Floor: f.Floor, Span: r.Span, Count: r.Count, Mask: r.Mask, Sum: r.Sum})
	}
	return out, nil
}

// FetchDated visits the segments of a span that a hub has, in ascending order, and when it received them: ms since 1970, 0 = not known. Prove them.
// The slice is valid only during the call. This node must be a hub.
func (n *Node) FetchDated(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte, received int64) error) error {
	if hub == n.self && n.o.Mirror != nil {
		return n.o.Mirror.FetchDated(ctx, chain, span, visit)
	}
	q := repairRequest{Op: opFetchDated, Query: transport.RangeQuery{Chain: &chain, Span: span}}
	return n.askRepair(ctx, hub, q, func(kind byte, body []byte) error {
		received, segment, err := decodeDated(kind, body)
		if err != nil {
			return err
		}
		return visit(segment, received)
	})
}

func decodeDated(kind byte, body []byte) (received int64, segment []byte, err error) {
	if kind != frameDated || len(body) <= dateSize {
		return 0, nil, fmt.Errorf("p2p: kind %q, %d bytes in place of a dated segment: %w", kind, len(body), ErrFrame)
	}
	received = int64(binary.BigEndian.Uint64(body[:dateSize]))
	if received < 0 || received > journal.MaxTime {
		return 0, nil, fmt.Errorf("p2p: segment received at %d ms: %w", received, ErrFrame)
	}
	return received, body[dateSize:], nil
}

// Marks visits the signed watermarks that a hub keeps. Prove them. This node must be a hub.
func (n *Node) Marks(ctx context.Context, hub edge.ID, visit func(signed []byte) error) error {
	if hub == n.self && n.o.Books != nil {
		return n.o.Books.Marks(ctx, visit)
	}
	return n.askRepair(ctx, hub, repairRequest{Op: opMarks}, func(kind byte, body []byte) error {
		if kind != frameMarks || len(body) > journal.MaxWatermarkRecord {
			return fmt.Errorf("p2p: kind %q, %d bytes in place of watermarks: %w", kind, len(body), ErrFrame)
		}
		return visit(body)
	})
}

func (n *Node) askRepair(ctx context.Context, hub edge.ID, q repairRequest, visit func(kind byte, body []byte) error) error {
	raw, err := journal.Encode(q)
	if err != nil {
		return err
	}
	return n.inquire(ctx, hub, repairProtocol, [][]byte{raw}, visit)
}
