// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Past is the part of a chain that a hub has let go.
type Past uint8

// The reasons.
const (
	PastNone      Past = 0
	PastAge       Past = 1 // it had been held for the maximum age
	PastCollected Past = 2 // every required collector had it
)

func (p Past) String() string {
	switch p {
	case PastNone:
		return ""
	case PastAge:
		return "held for the maximum age"
	case PastCollected:
		return "all required collectors have it"
	}
	return "let go"
}

// RangeQuery asks for digests of what is held of the buckets that Target ought to hold.
type RangeQuery struct {
	_      struct{}       `cbor:",toarray"`
	Target edge.ID        // a hub: only buckets whose Place it is in; zero = all buckets
	Chain  *journal.Chain // nil = all chains
	Span   Span           // of one chain; must begin and end with a bucket. Of all chains: zero, and each is one range
	Width  uint64         // seqs of a range, a multiple of journal.BucketSize; 0 = the whole Span is one range
}

// Range is the digest of what a hub holds of a run of seqs. Two hubs with equal ranges hold the same segments.
type Range struct {
	_     struct{} `cbor:",toarray"`
	Chain journal.Chain
	Span  Span         // what was asked for; of a whole chain 0 to the last seq held
	Floor uint64       // all below was let go and is not to be repaired
	Count uint64       // segments held
	Mask  uint64       // of a range of one bucket: bit i = seq First+i is held; 0 for wider ranges
	Sum   journal.Hash // XOR of SHA-256(seq as 8 bytes, big endian | hash of the header) of each
}

// Digest is what one segment adds, by XOR, to the Sum of a Range.
func Digest(seq uint64, header journal.Hash) journal.Hash {
	var in [8 + sha256.Size]byte
	binary.BigEndian.PutUint64(in[:8], seq)
	copy(in[8:], header[:])
	return sha256.Sum256(in[:])
}

// Mirror is a hub's store as other hubs repair from it and to it. Safe for concurrent use.
type Mirror interface {
	// Ranges visits the ranges that are not empty, ordered by chain and seq.
	Ranges(ctx context.Context, q RangeQuery, visit func(Range) error) error
	// FetchDated is Shelf.Fetch with the time of first receipt, ms since 1970; 0 = not known.
	FetchDated(ctx context.Context, chain journal.Chain, span Span, visit func(segment []byte, received int64) error) error
	// PutDated is Keeper.Put of a segment that another hub received then. What is below the floor is refused with RefusedPast.
	PutDated(ctx context.Context, segment []byte, received int64) error
}

// Bookkeeper keeps the watermarks of collectors. Safe for concurrent use.
type Bookkeeper interface {
	// Mark takes signed journal.Watermarks: nil once what is new in them is durable.
	Mark(ctx context.Context, signed []byte) error
	// Marks visits signed records that together say all that counts.
	Marks(ctx context.Context, visit func(signed []byte) error) error
}
