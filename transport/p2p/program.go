// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/swarm"
)

// programProtocol is how programs and the records of updates go from member to member: the asker writes one request frame and gets frames as those of the fetch
// protocol.
const programProtocol = "/streembit/ota/1"

// The kinds of frames of its own.
const (
	frameHolding = 'B' // a holdingFrame in CBOR follows
	frameList    = 'L' // a part of the list of hashes follows
	frameChunk   = 'C' // a part of a chunk follows
	frameRecord  = 'V' // a recordFrame in CBOR follows
)

// The operations of a programRequest.
const (
	opProgram uint8 = iota + 1 // what the other side has of a program, and who else wants it
	opChunks                   // the list of its chunks
	opChunk                    // one of them
	opRecord                   // the newest record under a key
	opRecords                  // those of a space
	opNews                     // there is a new record under a key: a hub says so to members, a member that pays for its bytes to one hub
)

const (
	maxChunks  = ota.MaxProgram / chunks.Size
	partSize   = 32 << 10 // bytes of a chunk or a list in one frame
	maxSeekers = 24       // members that one answer names
	maxKeySize = 160
)

type programRequest struct {
	_     struct{} `cbor:",toarray"`
	Op    uint8
	Tree  chunks.Hash // opProgram, opChunks, opChunk
	Index uint32      // opChunk
	Wants bool        // opProgram: the asker wants the program too …
	Has   bool        // … or has all of it; others may then be told of the asker
	Key   string      // opRecord, opNews; opRecords: a space
}

// holdingFrame is what somebody has of a program.
type holdingFrame struct {
	_      struct{} `cbor:",toarray"`
	Have   []byte
	Wants  bool
	Due    []byte
	Others []edge.ID // who asked here for it lately
}

type recordFrame struct {
	_   struct{} `cbor:",toarray"`
	Key string
	Raw []byte
}

func decodeProgramRequest(raw []byte) (programRequest, error) {
	var q programRequest
	if err := journal.Decode(raw, &q); err != nil {
		return q, fmt.Errorf("p2p: reading program request: %w", err)
	}
	of := q.Op == opProgram || q.Op == opChunks || q.Op == opChunk
	switch {
	case q.Op < opProgram || q.Op > opNews:
		return q, fmt.Errorf("p2p: reading program request: operation %d is unknown: update this program", q.Op)
	case of && q.Key != "", !of && (q.Key == "" || len(q.Key) > maxKeySize || q.Tree != chunks.Hash{}),
		q.Op != opChunk && q.Index != 0, q.Index >= maxChunks, q.Op != opProgram && (q.Wants || q.Has):
		return q, fmt.Errorf("p2p: reading program request: operation %d, chunk %d, key %.80q: %w", q.Op, q.Index, q.Key, ErrFrame)
	}
	return q, nil
}

func decodeHolding(kind byte, body []byte) (holdingFrame, error) {
	var h holdingFrame
	if kind != frameHolding {
		return h, fmt.Errorf("p2p: kind %q in place of what somebody has: %w", kind, ErrFrame)
	}
	if err := journal.Decode(body, &h); err != nil {
		return h, fmt.Errorf("p2p: reading what somebody has: %w: %w", ErrFrame, err)
	}
	if max(len(h.Have), len(h.Due)) > maxChunks/8 || len(h.Others) > maxSeekers {
		return h, fmt.Errorf("p2p: %d and %d bytes of chunks, %d members: %w", len(h.Have), len(h.Due), len(h.Others), ErrFrame)
	}
	return h, nil
}

func decodeRecord(kind byte, body []byte) (recordFrame, error) {
	var r recordFrame
	if kind != frameRecord {
		return r, fmt.Errorf("p2p: kind %q in place of a record: %w", kind, ErrFrame)
	}
	if err := journal.Decode(body, &r); err != nil {
		return r, fmt.Errorf("p2p: reading record: %w: %w", ErrFrame, err)
	}
	if len(r.Key) > maxKeySize || len(r.Raw) > records.MaxMetadata+maxRequest {
		return r, fmt.Errorf("p2p: record of %d bytes under a key of %d: %w", len(r.Raw), len(r.Key), ErrFrame)
	}
	return r, nil
}

// askProgram sends one request and hands each frame of the answer to visit.
func (n *Node) askProgram(ctx context.Context, member edge.ID, q programRequest, visit func(kind byte, body []byte) error) error {
	raw, err := journal.Encode(q)
	if err != nil {
		return err
	}
	return n.inquire(ctx, member, programProtocol, [][]byte{raw}, visit)
}

// gather puts the parts of an answer together, in buf as far as that has room, limit bytes at most.
func (n *Node) gather(ctx context.Context, member edge.ID, q programRequest, want byte, buf []byte, limit int) ([]byte, error) {
	out := buf[:0]
	err := n.askProgram(ctx, member, q, func(kind byte, body []byte) error {
		if kind != want || len(out)+len(body) > limit {
			return fmt.Errorf("p2p: kind %q, %d bytes after %d: %w", kind, len(body), len(out), ErrFrame)
		}
		out = append(out, body...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// programSource is a member as a source of one program.
type programSource struct {
	node   *Node
	member edge.ID
	heard  func([]edge.ID) // who else wants it
}

// Have implements swarm.Source.
func (s programSource) Have(ctx context.Context, tree chunks.Hash) (swarm.Holding, error) {
	return s.node.askHolding(ctx, s.member, programRequest{Op: opProgram, Tree: tree, Wants: true}, s.heard)
}

func (n *Node) askHolding(ctx context.Context, member edge.ID, q programRequest, heard func([]edge.ID)) (h swarm.Holding, err error) {
	err = n.askProgram(ctx, member, q, func(kind byte, body []byte) error {
		f, err := decodeHolding(kind, body)
		if err == nil {
			h = swarm.Holding{Have: f.Have, Wants: f.Wants, Due: f.Due}
			heard(f.Others)
		}
		return err
	})
	return h, err
}

// Chunks implements swarm.Source.
func (s programSource) Chunks(ctx context.Context, tree chunks.Hash) ([]byte, error) {
	return s.node.gather(ctx, s.member, programRequest{Op: opChunks, Tree: tree}, frameList, nil, maxChunks*sha256.Size)
}

// Chunk implements swarm.Source.
func (s programSource) Chunk(ctx context.Context, tree chunks.Hash, i int, buf []byte) ([]byte, error) {
	return s.node.gather(ctx, s.member, programRequest{Op: opChunk, Tree: tree, Index: uint32(i)}, frameChunk, buf, chunks.Size)
}
