// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/swarm"
	"github.com/streembit/edge/transport"
)

const (
	programPlaces = 16              // answers at a time …
	programsOfOne = 6               // … and to one member
	chunkLimit    = 2 * time.Minute // for one chunk: who takes longer holds up others
)

// Programs is what a node gives others. Its methods are called concurrently.
type Programs interface {
	// Holding says what is here of a program; false = it is neither here nor wanted, and who wants it is not noted.
	Holding(tree chunks.Hash) (swarm.Holding, bool)
	// List returns the encoded list of its chunks.
	List(tree chunks.Hash) ([]byte, error)
	// Chunk returns one of them, in buf, which has room for chunks.Size bytes. It waits for what a limit of the rate allows.
	Chunk(ctx context.Context, tree chunks.Hash, i int, buf []byte) ([]byte, error)
}

// servePrograms answers one request of one member.
func (n *Node) servePrograms(s network.Stream) {
	n.serve(s, func() (func(*reading, *reply) error, error) {
		q, err := readProgramRequest(s)
		return func(who *reading, out *reply) error { return n.program(who, q, out) }, err
	})
}

func readProgramRequest(s network.Stream) (q programRequest, err error) {
	if err := s.SetReadDeadline(time.Now().Add(requestLimit)); err != nil {
		return q, fmt.Errorf("p2p: setting deadline: %w", err)
	}
	raw, err := readFrame(s, maxRequest)
	if err != nil {
		return q, err
	}
	if q, err = decodeProgramRequest(raw); err != nil {
		return q, err
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		return q, fmt.Errorf("p2p: setting deadline: %w", err)
	}
	return q, nil
}

func (n *Node) program(who *reading, q programRequest, out *reply) error {
	out.slim()
	switch q.Op {
	case opNews:
		switch {
		case n.o.Fleet().Is(who.id, fleet.Hub):
			n.o.News(q.Key)
			return nil
		case n.o.Store != nil:
			return n.takeRecord(who, q.Key)
		}
		return refuse(transport.RefusedNoRight, "only hubs tell news")
	case opRecord:
		r, ok := n.o.Records.Get(q.Key)
		if !ok {
			return nil
		}
		return giveRecord(r, out)
	case opRecords:
		leave, err := n.giving.enter(who.ctx, who.id)
		if err != nil {
			return err
		}
		defer leave()
		for _, r := range n.o.Records.All(q.Key) {
			if err := giveRecord(r, out); err != nil {
				return err
			}
		}
		return nil
	}
	if n.o.Programs == nil {
		return refuse(transport.RefusedFailed, "this member gives no programs")
	}
	switch q.Op {
	case opProgram:
		return n.giveHolding(who, q, out)
	case opChunks:
		return n.giveList(who, q, out)
	default:
		return n.giveChunk(who, q, out)
	}
}

func giveRecord(r records.Record, out *reply) error {
	body, err := journal.Encode(recordFrame{Key: r.Key, Raw: r.Raw})
	if err != nil {
		return err
	}
	return out.frame(frameRecord, body, false)
}

func (n *Node) giveHolding(who *reading, q programRequest, out *reply) error {
	h, known := n.o.Programs.Holding(q.Tree)
	f := holdingFrame{Have: h.Have, Wants: h.Wants, Due: h.Due}
	if known {
		f.Others = n.wanted.note(n.o.Fleet(), q.Tree, who.id, seeker{has: q.Has, addr: n.addrOfMember(who.id)}, q.Wants || q.Has)
	}
	body, err := journal.Encode(f)
	if err != nil {
		return err
	}
	return out.frame(frameHolding, body, false)
}

func (n *Node) giveList(who *reading, q programRequest, out *reply) error {
	leave, err := n.giving.enter(who.ctx, who.id)
	if err != nil {
		return err
	}
	defer leave()
	raw, err := n.o.Programs.List(q.Tree)
	if err != nil {
		return notHere(err)
	}
	return inParts(out, frameList, raw)
}

func (n *Node) giveChunk(who *reading, q programRequest, out *reply) error {
	leave, err := n.giving.enter(who.ctx, who.id)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(who.ctx, chunkLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			_ = out.s.Reset()
		}
	})()
	c, err := n.o.Programs.Chunk(ctx, q.Tree, int(q.Index), make([]byte, chunks.Size))
	if err != nil {
		return notHere(err)
	}
	return inParts(out, frameChunk, c)
}

func inParts(out *reply, kind byte, raw []byte) error {
	for part := range slices.Chunk(raw, partSize) {
		if err := out.frame(kind, part, false); err != nil {
			return err
		}
	}
	return nil
}

// notHere tells apart what is not here from what failed.
func notHere(err error) error {
	if errors.Is(err, chunks.ErrMissing) || errors.Is(err, chunks.ErrNotKnown) || errors.Is(err, chunks.ErrNoList) {
		return refuse(transport.RefusedFailed, "this part of the program is not here")
	}
	return err
}
