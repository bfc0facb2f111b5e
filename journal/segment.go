// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/sha256"
	"fmt"

	"github.com/streembit/edge"
)

// Kind says what a segment's payload is.
type Kind uint8

// The kinds of segment.
const (
	KindEpoch    Kind = 1 // wraps of a new epoch key; the epoch is named by this segment's seq
	KindReadings Kind = 2 // sealed SenML pack
	KindNote     Kind = 3 // sealed Note: clock, gap
	KindFleet    Kind = 4 // plain fleet log entries (package fleet)
	KindRewrap   Kind = 5 // epoch keys for readers that came later, by a member that may read (Rewrap)
)

// remedy says what to do when a segment of the kind is too large.
func (k Kind) remedy() string {
	switch k {
	case KindEpoch:
		return "too many readers for one stream: split it"
	case KindFleet, KindRewrap:
		return "write fewer entries at once"
	}
	return "close batches earlier"
}

// Coding says how a payload was packed before it was sealed.
type Coding uint8

// The codings; which one a Writer uses was decided by measurement (docs/decisions/0003-compression.md).
const (
	CodingPlain Coding = 0
	CodingZstd  Coding = 1 // RFC 8878
)

// Header is the signed part of a segment.
type Header struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Chain   Chain
	Seq     uint64
	Prev    Hash   // hash of the header of seq-1; zero at seq 0
	Epoch   uint64 // seq of the KindEpoch segment whose key seals this one
	Kind    Kind
	Coding  Coding
	Boot    BootID
	Mono    int64  // ms since boot, of the newest reading
	Span    int64  // ms from the oldest to the newest reading
	Wall    int64  // ms since 1970 UTC at Mono; 0 = clock not synchronised
	Count   uint32 // readings
	Size    uint32 // payload bytes
	Payload Hash   // SHA-256 of the payload as it is on the wire
}

// At is the instant of the newest reading.
func (h *Header) At() edge.Instant { return edge.Instant{Mono: h.Mono, Wall: h.Wall} }

// Segment is a proven segment: its signature, hash, size and encoding were checked by Open (or made by a Writer).
// It is read-only and safe for concurrent use.
type Segment struct {
	Header
	Hash    Hash   // SHA-256 of the encoded header: what the successor's Prev must be
	signed  []byte // COSE_Sign1 of the header
	payload []byte
	raw     []byte
}

// Link returns the segment's place and hash.
func (s *Segment) Link() Link { return Link{Seq: s.Seq, Hash: s.Hash} }

// Bytes returns the wire form. The caller must not change it.
func (s *Segment) Bytes() []byte { return s.raw }

// SignedHeader returns the signed header alone: a proof of (chain, seq, hash) that fits a DHT value.
func (s *Segment) SignedHeader() []byte { return s.signed }

// Plain returns the payload of a segment that is not sealed (KindFleet, KindEpoch, KindRewrap).
func (s *Segment) Plain() []byte { return s.payload }

// encodeSegment writes [signed, payload].
func encodeSegment(signed, payload []byte) []byte {
	b := make([]byte, 0, len(signed)+len(payload)+16)
	return appendBytes(appendBytes(append(b, cborArray|2), signed), payload)
}

// splitSegment is its inverse and copies nothing.
func splitSegment(raw []byte) (signed, payload []byte, err error) {
	if len(raw) == 0 || raw[0] != cborArray|2 {
		return nil, nil, fmt.Errorf("journal: opening segment: no array of two: %w", ErrMalformed)
	}
	signed, rest, err := cutBytes(raw[1:])
	if err != nil {
		return nil, nil, fmt.Errorf("journal: opening segment: signed header: %w", err)
	}
	if payload, rest, err = cutBytes(rest); err != nil {
		return nil, nil, fmt.Errorf("journal: opening segment: payload: %w", err)
	}
	if len(rest) != 0 {
		return nil, nil, fmt.Errorf("journal: opening segment: %d bytes after it: %w", len(rest), ErrMalformed)
	}
	return signed, payload, nil
}

// Open decodes and proves one segment of fleet. It checks size, canonical form, the signature of the device that the
// header names, and the payload's hash. Whether that device is a member, and whether the segment continues a chain,
// is for the caller: fleet membership and Link.Check. The segment keeps raw, which nobody may change afterwards.
func Open(raw []byte, fleet FleetID) (*Segment, error) {
	if len(raw) > MaxSegment {
		return nil, fmt.Errorf("journal: opening segment of %d bytes: %w", len(raw), ErrOversize)
	}
	signed, payload, err := splitSegment(raw)
	if err != nil {
		return nil, err
	}
	h, hash, err := OpenHeader(signed, fleet)
	if err != nil {
		return nil, err
	}
	if int64(h.Size) != int64(len(payload)) || Hash(sha256.Sum256(payload)) != h.Payload {
		return nil, fmt.Errorf("journal: opening %s seq %d: %w", h.Chain, h.Seq, ErrTampered)
	}
	return &Segment{Header: h, Hash: hash, signed: signed, payload: payload, raw: raw}, nil
}

// OpenFrom is Open for a caller who knows which chain and seq he asked for.
func OpenFrom(raw []byte, chain Chain, seq uint64) (*Segment, error) {
	s, err := Open(raw, chain.Fleet)
	if err != nil {
		return nil, err
	}
	switch {
	case s.Chain.Device != chain.Device:
		return nil, fmt.Errorf("journal: asked for %s, got a segment of %s: %w", chain, s.Chain.Device, ErrForeignSigner)
	case s.Chain != chain:
		return nil, fmt.Errorf("journal: asked for %s, got %s: %w", chain, s.Chain, ErrForeignChain)
	case s.Seq != seq:
		return nil, fmt.Errorf("journal: asked %s for seq %d, got %d: %w", chain, seq, s.Seq, ErrBadSeq)
	}
	return s, nil
}

// OpenHeader proves a signed header and returns it with its hash.
func OpenHeader(signed []byte, fleet FleetID) (Header, Hash, error) {
	if len(signed) > MaxHeader {
		return Header{}, Hash{}, fmt.Errorf("journal: opening header of %d bytes: %w", len(signed), ErrOversize)
	}
	var h Header
	payload, err := openRecord(TypeSegment, signed, func(payload []byte) (edge.ID, error) {
		if err := checkVersion(payload); err != nil {
			return edge.ID{}, err
		}
		if err := Decode(payload, &h); err != nil {
			return edge.ID{}, err
		}
		return h.Chain.Device, h.check(fleet)
	})
	if err != nil {
		return Header{}, Hash{}, err
	}
	return h, sha256.Sum256(payload), nil
}

// checkVersion looks at the first field alone, since a later version may have other fields.
func checkVersion(header []byte) error {
	if len(header) > 1 && header[0]&0xe0 == cborArray && header[1] < 24 && header[1] != Version {
		return fmt.Errorf("journal: header version %d: %w", header[1], ErrVersion)
	}
	return nil
}

// check holds a decoded header against the rules that need no neighbour.
func (h *Header) check(fleet FleetID) error {
	switch {
	case h.Version != Version:
		return fmt.Errorf("journal: header version %d: %w", h.Version, ErrVersion)
	case h.Chain.Fleet != fleet:
		return fmt.Errorf("journal: header of fleet %s: %w", h.Chain.Fleet, ErrWrongFleet)
	case !ValidStream(h.Chain.Stream), h.Kind < KindEpoch, h.Kind > KindRewrap, h.Coding > CodingZstd,
		(h.Kind == KindRewrap) != (h.Chain.Stream == RewrapStream):
		return fmt.Errorf("journal: header of stream %q, kind %d, coding %d: %w", h.Chain.Stream, h.Kind, h.Coding, ErrMalformed)
	case h.Count > MaxReadings, h.Size > MaxSegment:
		return fmt.Errorf("journal: header counts %d readings, %d bytes: %w", h.Count, h.Size, ErrOversize)
	case !validTime(h.Mono), !validTime(h.Wall), h.Span < 0, h.Span > h.Mono:
		return fmt.Errorf("journal: header times %d, %d, %d: %w", h.Mono, h.Span, h.Wall, ErrMalformed)
	case h.Seq > MaxSeq, (h.Seq == 0) != (h.Prev == Hash{}), !h.validEpoch():
		return fmt.Errorf("journal: header seq %d, epoch %d of kind %d: %w", h.Seq, h.Epoch, h.Kind, ErrMalformed)
	case !h.validCount():
		return fmt.Errorf("journal: header of kind %d counts %d over %d ms, coding %d: %w", h.Kind, h.Count, h.Span, h.Coding, ErrMalformed)
	case (h.Kind == KindReadings || h.Kind == KindNote) && !sealedSize(h.Size):
		return fmt.Errorf("journal: header of %d sealed bytes, which is no padded size: %w", h.Size, ErrNotCanonical)
	}
	return nil
}

// validEpoch: an epoch is named by the seq that starts it, what is sealed comes after it, the fleet log has none.
func (h *Header) validEpoch() bool {
	switch h.Kind {
	case KindEpoch:
		return h.Epoch == h.Seq
	case KindFleet, KindRewrap:
		return h.Epoch == 0
	}
	return h.Epoch < h.Seq
}

// validCount: only readings span time, only they and the fleet log count, and only what is sealed is packed.
func (h *Header) validCount() bool {
	switch h.Kind {
	case KindReadings:
		return h.Count > 0
	case KindNote:
		return h.Count == 0 && h.Span == 0
	case KindEpoch:
		return h.Count == 0 && h.Span == 0 && h.Coding == CodingPlain
	}
	return h.Span == 0 && h.Coding == CodingPlain
}

// validTime reports whether ms lies in 0 .. MaxTime.
func validTime(ms int64) bool { return ms >= 0 && ms <= MaxTime }

// Fork is the signed proof that a device (or two with one key) put two different segments in one place.
type Fork struct {
	_    struct{} `cbor:",toarray"`
	A, B []byte   // signed headers
}

// Prove checks the proof and returns the chain and seq that are forked. An error means that it proves nothing.
func (f Fork) Prove(fleet FleetID) (Chain, uint64, error) {
	a, ha, err := OpenHeader(f.A, fleet)
	if err != nil {
		return Chain{}, 0, fmt.Errorf("journal: proving fork: %w", err)
	}
	b, hb, err := OpenHeader(f.B, fleet)
	if err != nil {
		return Chain{}, 0, fmt.Errorf("journal: proving fork: %w", err)
	}
	if a.Chain != b.Chain || a.Seq != b.Seq || ha == hb {
		return Chain{}, 0, fmt.Errorf("journal: proving fork: the headers do not contradict each other: %w", ErrMalformed)
	}
	return a.Chain, a.Seq, nil
}
