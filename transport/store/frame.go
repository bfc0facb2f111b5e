// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/streembit/edge/journal"
)

// A frame of the log begins with one byte that says what follows. Times are ms since 1970 in 8 bytes, big endian.
const (
	frameSegment = 'S' // a segment as it came; written before receipts were dated
	frameDated   = 'D' // the time of its first receipt, 0 = not known, and a segment
	frameFork    = 'F' // CBOR of a journal.Fork
	frameFloor   = 'P' // CBOR of a floorRecord: what of a chain is past
	frameMarks   = 'M' // signed journal.Watermarks
	frameDate    = 'T' // a time: what stands before and was received later, or nobody knows when, was received then
	frameClock   = 'C' // a time that this hub's clock has shown and that was believed
)

const (
	timeSize  = 8
	frameHead = 1 + timeSize
	logHead   = 8 // bytes that journal/wal puts before each frame
)

// floorRecord is how far a chain was let go.
type floorRecord struct {
	_     struct{} `cbor:",toarray"`
	Chain journal.Chain
	Floor uint64
	Past  uint8
	Last  journal.Link // of the last segment that was let go: it says what comes next
	Proof []byte       // its signed header, half of the proof of a fork; none if it was damaged
	Time  uint32       // of the newest receipt of the chain, s since 1970
}

// wireSegment is the outer form of a segment (docs/wire.md).
type wireSegment struct {
	_       struct{} `cbor:",toarray"`
	Signed  []byte
	Payload []byte
}

// peek reads the header of a segment that this hub proved before it wrote it, so that opening a large log does not
// cost a signature check per segment.
func peek(raw []byte) (h journal.Header, hash journal.Hash, signed []byte, err error) {
	var w wireSegment
	if err := journal.Decode(raw, &w); err != nil {
		return h, hash, nil, err
	}
	h, hash, err = peekHeader(w.Signed)
	return h, hash, w.Signed, err
}

func peekHeader(signed []byte) (h journal.Header, hash journal.Hash, err error) {
	payload, err := journal.PeekRecord(signed)
	if err != nil {
		return h, hash, err
	}
	if err := journal.Decode(payload, &h); err != nil {
		return h, hash, err
	}
	return h, sha256.Sum256(payload), nil
}

// frameOf returns data behind its type byte.
func frameOf(kind byte, data []byte) []byte {
	return append(append(make([]byte, 0, 1+len(data)), kind), data...)
}

// timeFrame returns a time, and data, behind a type byte.
func timeFrame(kind byte, ms int64, data []byte) []byte {
	return append(binary.BigEndian.AppendUint64(append(make([]byte, 0, frameHead+len(data)), kind), uint64(ms)), data...)
}

// splitTime is its inverse.
func splitTime(frame []byte) (ms int64, data []byte, err error) {
	if len(frame) < frameHead {
		return 0, nil, fmt.Errorf("store: frame of %d bytes: %w", len(frame), journal.ErrMalformed)
	}
	ms = int64(binary.BigEndian.Uint64(frame[1:]))
	if ms < 0 || ms > journal.MaxTime {
		return 0, nil, fmt.Errorf("store: frame of time %d: %w", ms, journal.ErrMalformed)
	}
	return ms, frame[frameHead:], nil
}

// segmentOf returns the segment of a frame and when it was first received.
func segmentOf(frame []byte) (received int64, segment []byte, err error) {
	switch {
	case len(frame) > 0 && frame[0] == frameSegment:
		return 0, frame[1:], nil
	case len(frame) > 0 && frame[0] == frameDated:
		return splitTime(frame)
	}
	return 0, nil, fmt.Errorf("store: reading segment: %w", journal.ErrMalformed)
}

// epochOf returns what a segment is kept and let go together with: the seq of the segment that brings the key that opens it. Rewraps bring
// keys of other chains, and stand each for itself.
func epochOf(h *journal.Header) uint64 {
	if h.Kind == journal.KindRewrap {
		return h.Seq
	}
	return h.Epoch
}
