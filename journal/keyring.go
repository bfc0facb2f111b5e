// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"crypto/hpke"
	"fmt"
	"maps"

	"github.com/streembit/edge"
)

// Keyring opens sealed segments with one reader's private key. Feed it every KindEpoch segment of a chain before the
// segments of that epoch. It holds up to 0.6 MB of buffers and, for each chain, a key or two: so use one for all chains
// that one goroutine reads. Not safe for concurrent use.
type Keyring struct {
	key      ReaderKey
	tag      [8]byte
	epochs   map[Chain]map[uint64]epochKey
	unpacker unpacker
	opened   []byte
}

// NewKeyring returns an empty keyring of a reader.
func NewKeyring(k ReaderKey) *Keyring {
	return &Keyring{key: k, tag: readerTag(k.Public()), epochs: map[Chain]map[uint64]epochKey{}}
}

// Learn takes the epoch key out of a KindEpoch segment and returns what the segment says about a former incarnation,
// nil for nothing. ErrNotReader: the key is not wrapped for this reader. Keys of other epochs of the chain that ended
// before it are forgotten, so memory does not grow with the length of a chain.
func (k *Keyring) Learn(s *Segment) (*Continuation, error) {
	if s.Kind != KindEpoch {
		return nil, fmt.Errorf("journal: learning from seq %d: it does not start an epoch: %w", s.Seq, ErrMalformed)
	}
	var p epochPayload
	if err := Decode(s.payload, &p); err != nil {
		return nil, err
	}
	if p.After != nil && p.After.Incarnation == s.Chain.Incarnation {
		return nil, fmt.Errorf("journal: epoch %d of %s continues itself: %w", s.Epoch, s.Chain, ErrMalformed)
	}
	key, err := k.unwrap(s, p.Wraps)
	if err != nil {
		return p.After, fmt.Errorf("journal: epoch %d of %s: %w", s.Epoch, s.Chain, err)
	}
	k.keep(s, key)
	return p.After, nil
}

// unwrap tries every wrap that carries this reader's tag: tags are 8 bytes and may collide.
func (k *Keyring) unwrap(s *Segment, wraps []wrap) (epochKey, error) {
	failed := ErrNotReader
	for _, w := range wraps {
		if w.Reader != k.tag {
			continue
		}
		raw, err := hpke.Open(k.key.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), epochInfo(s.Chain, s.Epoch), w.Sealed)
		if err != nil {
			failed = fmt.Errorf("%w: %w", ErrSealed, err)
			continue
		}
		key, err := newEpochKey(raw)
		if err != nil {
			return epochKey{}, err
		}
		return key, nil
	}
	return epochKey{}, failed
}

func (k *Keyring) keep(s *Segment, key epochKey) {
	keys := k.epochs[s.Chain]
	if keys == nil {
		keys = map[uint64]epochKey{}
		k.epochs[s.Chain] = keys
	}
	maps.DeleteFunc(keys, func(epoch uint64, _ epochKey) bool { return epoch < s.Epoch })
	keys[s.Epoch] = key
}

// Readings opens a KindReadings segment. ErrUnknownEpoch: learn its epoch first.
func (k *Keyring) Readings(s *Segment) ([]edge.Reading, error) {
	plain, err := k.open(s, KindReadings)
	if err != nil {
		return nil, err
	}
	// The pack is an array: holding its head against the signed count bounds what is allocated for a hostile pack.
	if !bytes.HasPrefix(plain, appendHead(nil, cborArray, s.Count)) {
		return nil, fmt.Errorf("journal: seq %d of %s does not hold the %d readings that it promises: %w", s.Seq, s.Chain, s.Count, ErrMalformed)
	}
	readings, err := edge.UnmarshalSenML(plain, s.Chain.Device, s.At())
	if err != nil {
		return nil, fmt.Errorf("journal: reading seq %d of %s: %w: %w", s.Seq, s.Chain, ErrMalformed, err)
	}
	if newest, span, err := oneClock(readings); err != nil || newest != s.At() || span != s.Span {
		return nil, fmt.Errorf("journal: seq %d of %s does not span the time that it promises: %w", s.Seq, s.Chain, ErrMalformed)
	}
	return readings, nil
}

// Note opens a KindNote segment.
func (k *Keyring) Note(s *Segment) (Note, error) {
	plain, err := k.open(s, KindNote)
	if err != nil {
		return Note{}, err
	}
	var n Note
	if err := Decode(plain, &n); err != nil {
		return Note{}, err
	}
	if err := n.check(); err != nil {
		return Note{}, fmt.Errorf("journal: reading seq %d of %s: %w", s.Seq, s.Chain, err)
	}
	return n, nil
}

// open returns the payload as it was before packing and sealing; it is valid until the next call.
func (k *Keyring) open(s *Segment, want Kind) ([]byte, error) {
	if s.Kind != want {
		return nil, fmt.Errorf("journal: opening seq %d of %s: kind %d, want %d: %w", s.Seq, s.Chain, s.Kind, want, ErrMalformed)
	}
	key, ok := k.epochs[s.Chain][s.Epoch]
	if !ok {
		return nil, fmt.Errorf("journal: opening seq %d of %s, epoch %d: %w", s.Seq, s.Chain, s.Epoch, ErrUnknownEpoch)
	}
	padded, err := key.aead.Open(k.opened[:0], nonce(s.Seq), s.payload, additional(s.Header))
	if err != nil {
		return nil, fmt.Errorf("journal: opening seq %d of %s: %w", s.Seq, s.Chain, ErrSealed)
	}
	k.opened = padded
	packed, err := unpad(padded)
	if err != nil {
		return nil, fmt.Errorf("journal: opening seq %d of %s: %w", s.Seq, s.Chain, err)
	}
	plain, err := k.unpacker.unpack(s.Coding, packed)
	if err != nil {
		return nil, fmt.Errorf("journal: opening seq %d of %s: %w", s.Seq, s.Chain, err)
	}
	return plain, nil
}
