// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"fmt"

	"github.com/streembit/edge/journal"
)

// A frame of the log begins with one byte that says what follows.
const (
	frameSegment = 'S' // a segment as it came
	frameFork    = 'F' // CBOR of a journal.Fork
)

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
	payload, err := journal.PeekRecord(w.Signed)
	if err != nil {
		return h, hash, nil, err
	}
	if err := journal.Decode(payload, &h); err != nil {
		return h, hash, nil, err
	}
	return h, sha256.Sum256(payload), w.Signed, nil
}

// frameOf returns data behind its type byte.
func frameOf(kind byte, data []byte) []byte {
	return append(append(make([]byte, 0, 1+len(data)), kind), data...)
}

// segmentOf returns what frameOf got for a segment.
func segmentOf(frame []byte) ([]byte, error) {
	if len(frame) == 0 || frame[0] != frameSegment {
		return nil, fmt.Errorf("store: reading segment: %w", journal.ErrMalformed)
	}
	return frame[1:], nil
}
