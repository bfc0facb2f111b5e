// SPDX-License-Identifier: Apache-2.0

// Package journal is the device's signed log: segments of readings that are chained, sealed for the fleet's readers
// and signed by the device (design: docs/wire.md). It does no I/O and knows no network: a Writer makes segments,
// Open proves them, a Keyring reads them.
//
// Start with Writer to produce and with Open, Link.Check and Keyring to consume.
package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/streembit/edge"
)

const (
	// Version is the wire version of headers made by this package.
	Version = 1
	// MaxSegment is the largest encoded segment, in bytes, that anyone accepts.
	MaxSegment = 256 << 10
	// TargetSegment is the size in bytes at which a batch should be closed.
	TargetSegment = 48 << 10
	// MaxReadings is the largest number of readings in one segment.
	MaxReadings = 8192
	// MaxHeader is the largest signed header in bytes; the longest that a Writer makes is below half of it.
	MaxHeader = 1 << 10
	// MaxSeq is the highest sequence number, so that a seq fits a signed 64-bit column.
	MaxSeq = math.MaxInt64
	// MaxTime bounds every time, in ms: the end of the year 9999, after which RFC 3339 has no form. It is below 2^48, so
	// sums and differences of valid times cannot overflow.
	MaxTime = 253_402_300_799_999
	// BucketSize is the number of consecutive segments that are stored together.
	BucketSize = 64
)

// Errors of the package; test with errors.Is.
var (
	ErrMalformed     = errors.New("malformed segment")
	ErrNotCanonical  = errors.New("not in the one canonical encoding")
	ErrVersion       = errors.New("unknown wire version: update this program")
	ErrOversize      = errors.New("larger than a segment may be")
	ErrForeignSigner = errors.New("not signed by the device that it names")
	ErrForeignChain  = errors.New("belongs to another chain")
	ErrWrongFleet    = errors.New("belongs to another fleet")
	ErrTampered      = errors.New("payload does not match the signed hash")
	ErrBadSeq        = errors.New("sequence number is not the next one")
	ErrFork          = errors.New("chain is forked: two segments claim one place")
	ErrNotReader     = errors.New("epoch key is not wrapped for this reader")
	ErrUnknownEpoch  = errors.New("the segment that starts the epoch was not read yet")
	ErrSealed        = errors.New("cannot be opened with its epoch's key")
	ErrSpent         = errors.New("writer failed before: begin a new incarnation")
)

// FleetID names a fleet: the first 16 bytes of the SHA-256 of its first fleet state.
type FleetID [16]byte

// Incarnation tells the lives of one stream's log apart; random, renewed whenever the log is not provably intact.
type Incarnation [16]byte

// BootID is the kernel's random id of one boot of the device.
type BootID [16]byte

// Hash is a SHA-256.
type Hash [sha256.Size]byte

func (f FleetID) String() string     { return hex.EncodeToString(f[:]) }
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }
func (b BootID) String() string      { return hex.EncodeToString(b[:]) }
func (h Hash) String() string        { return hex.EncodeToString(h[:]) }

// MarshalText writes hexadecimal, so that JSON and logs show it.
func (f FleetID) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// MarshalText writes hexadecimal, so that JSON and logs show it.
func (i Incarnation) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// MarshalText writes hexadecimal, so that JSON and logs show it.
func (b BootID) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (b *BootID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(b) {
		return fmt.Errorf("journal: reading boot id %q: want 32 hexadecimal digits", text)
	}
	*b = BootID(raw)
	return nil
}

// MarshalText writes hexadecimal, so that JSON and logs show it.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// ParseFleetID reads the 32 hexadecimal digits that String writes.
func ParseFleetID(s string) (FleetID, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(FleetID{}) {
		return FleetID{}, fmt.Errorf("journal: reading fleet id %q: want 32 hexadecimal digits", s)
	}
	return FleetID(raw), nil
}

// Chain names one log: the segments 0, 1, 2 … that one device made for one stream in one incarnation.
type Chain struct {
	_           struct{} `cbor:",toarray"`
	Fleet       FleetID
	Device      edge.ID
	Stream      string
	Incarnation Incarnation
}

// Key is the chain's place in hash space, and its short name in indexes.
func (c Chain) Key() Hash { return tagged("streembit/chain/1", mustEncode(c)) }

// String shows "<device>/<stream>/<incarnation>"; ParseChain reads it back.
func (c Chain) String() string {
	return c.Device.String() + "/" + c.Stream + "/" + c.Incarnation.String()
}

// ParseChain reads what String wrote.
func ParseChain(fleet FleetID, s string) (Chain, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 || !ValidStream(parts[1]) {
		return Chain{}, fmt.Errorf("journal: reading chain %q: want DEVICE/STREAM/INCARNATION", s)
	}
	dev, err := edge.ParseID(parts[0])
	if err != nil {
		return Chain{}, fmt.Errorf("journal: reading chain: %w", err)
	}
	inc, err := hex.DecodeString(parts[2])
	if err != nil || len(inc) != len(Incarnation{}) {
		return Chain{}, fmt.Errorf("journal: reading chain %q: want 32 hexadecimal digits at the end", s)
	}
	c := Chain{Fleet: fleet, Device: dev, Stream: parts[1], Incarnation: Incarnation(inc)}
	if c.String() != s {
		return Chain{}, fmt.Errorf("journal: reading chain %q: want lower case: %s", s, c)
	}
	return c, nil
}

// Bucket returns the bucket that holds segment seq.
func (c Chain) Bucket(seq uint64) Bucket { return Bucket{Chain: c, Index: seq / BucketSize} }

// Bucket is BucketSize consecutive segments of a chain, the unit of placement. Counting by seq, not by hour, needs
// no clock, and a reader computes where anything is.
type Bucket struct {
	_     struct{} `cbor:",toarray"`
	Chain Chain
	Index uint64
}

// Key is the bucket's place in hash space.
func (b Bucket) Key() Hash { return tagged("streembit/bucket/1", mustEncode(b)) }

// Range returns the first and last seq of the bucket.
func (b Bucket) Range() (first, last uint64) {
	return b.Index * BucketSize, b.Index*BucketSize + BucketSize - 1
}

// DHTName is the key's text form for DHT records and lookups.
func (h Hash) DHTName() string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:]))
}

// ValidStream reports whether name can name a stream: [a-z0-9][a-z0-9._-]{0,31}.
func ValidStream(name string) bool {
	if len(name) == 0 || len(name) > 32 || strings.ContainsRune("._-", rune(name[0])) {
		return false
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return false
		}
	}
	return true
}

// Link is a place in a chain and what stands there: the proof that everything before it is known.
type Link struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint64
	Hash Hash
}

// Check reports whether h is the direct successor of the link, nil being the start of a chain. That h is of the same
// chain is for the caller (OpenFrom). The error wraps ErrBadSeq or, when the number fits and the hash does not, ErrFork.
func (l *Link) Check(h *Header) error {
	switch {
	case l == nil && h.Seq != 0:
		return fmt.Errorf("journal: seq %d at the start of a chain: %w", h.Seq, ErrBadSeq)
	case l == nil && h.Prev != (Hash{}):
		return fmt.Errorf("journal: seq 0 names a predecessor: %w", ErrFork)
	case l == nil:
		return nil
	case h.Seq != l.Seq+1:
		return fmt.Errorf("journal: seq %d after %d: %w", h.Seq, l.Seq, ErrBadSeq)
	case h.Prev != l.Hash:
		return fmt.Errorf("journal: seq %d does not continue the known seq %d: %w", h.Seq, l.Seq, ErrFork)
	}
	return nil
}

func tagged(tag string, data []byte) Hash {
	h := sha256.New()
	h.Write([]byte(tag))
	h.Write([]byte{0})
	h.Write(data)
	return Hash(h.Sum(nil))
}

// Compare orders hashes by their bytes.
func (h Hash) Compare(o Hash) int { return bytes.Compare(h[:], o[:]) }
