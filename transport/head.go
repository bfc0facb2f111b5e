// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"fmt"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// MaxHead is the largest signed header, in bytes, that the DHT keeps as a head.
const MaxHead = 8 << 10

// ErrNotDevice is wrapped by CheckHead.
var ErrNotDevice = errors.New("is not the head of a chain that counts in the fleet")

// Head is a proven signed header: a hint that its chain reaches at least so far.
type Head struct {
	Header journal.Header
	Hash   journal.Hash
	Signed []byte
}

// CheckHead proves a signed header as a head: its size, its signature, and that it counts (Fleet.Accepts).
func CheckHead(signed []byte, f *fleet.Fleet) (Head, error) {
	if len(signed) > MaxHead {
		return Head{}, fmt.Errorf("transport: checking head of %d bytes: %w", len(signed), journal.ErrOversize)
	}
	h, hash, err := journal.OpenHeader(signed, f.ID())
	if err != nil {
		return Head{}, fmt.Errorf("transport: checking head: %w", err)
	}
	if err := f.Accepts(h.Chain, h.Seq, hash); err != nil {
		return Head{}, fmt.Errorf("transport: checking head: seq %d of %s %w: %w", h.Seq, h.Chain, ErrNotDevice, err)
	}
	return Head{Header: h, Hash: hash, Signed: signed}, nil
}

// Supersedes reports whether h counts and o does not: the higher seq, and of a fork the lower hash, so that all
// members agree whatever they saw first.
func (h Head) Supersedes(o Head) bool {
	if h.Header.Seq != o.Header.Seq {
		return h.Header.Seq > o.Header.Seq
	}
	return h.Hash.Compare(o.Hash) < 0
}
