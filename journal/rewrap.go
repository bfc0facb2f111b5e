// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/hpke"
	"fmt"
	"slices"

	"github.com/streembit/edge"
)

// RewrapStream is the one stream of KindRewrap segments; no device can publish under it.
const RewrapStream = "rewraps"

// MaxRewraps is how many keys one segment of rewraps holds at most, about 1.3 kB each.
const MaxRewraps = 128

// Rewrap hands the key of an older epoch to a reader for whom the device did not wrap it. It is the word of the member that signed the
// segment it stands in, and no more than that: whether the key is the epoch's shows when it opens what the device sealed.
type Rewrap struct {
	_      struct{} `cbor:",toarray"`
	Chain  Chain    // whose epoch
	Epoch  uint64
	Reader [8]byte // first bytes of the SHA-256 of the reader's public key
	Sealed []byte  // HPKE encapsulation, then the sealed 32-byte epoch key
}

// rewrapInfo binds a rewrap to its maker, chain and epoch (the HPKE info parameter).
func rewrapInfo(by edge.ID, c Chain, epoch uint64) []byte {
	return mustEncode([]any{"streembit/rewrap/1", by, c, epoch})
}

// Rewrap wraps a key that the keyring knows for another reader, in the name of the member that will sign it. ErrUnknownEpoch: learn the
// epoch first.
func (k *Keyring) Rewrap(by edge.ID, c Chain, epoch uint64, to Reader) (Rewrap, error) {
	key, ok := k.epochs[c][epoch]
	if !ok {
		return Rewrap{}, fmt.Errorf("journal: wrapping the key of epoch %d of %s: %w", epoch, c, ErrUnknownEpoch)
	}
	sealed, err := hpke.Seal(to.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), rewrapInfo(by, c, epoch), key.raw[:])
	if err != nil {
		return Rewrap{}, fmt.Errorf("journal: wrapping epoch key: %w", err)
	}
	return Rewrap{Chain: c, Epoch: epoch, Reader: to.Fingerprint(), Sealed: sealed}, nil
}

// For reports whether the rewrap carries the tag of this keyring's reader; tags may collide.
func (k *Keyring) For(r Rewrap) bool { return r.Reader == k.tag }

// LearnRewrap takes the epoch key out of a rewrap that by signed; epoch is the segment that began the epoch. The key may be a lie: then the
// epoch's segments do not open (ErrSealed), and another rewrap may be learnt in its place.
func (k *Keyring) LearnRewrap(epoch *Segment, by edge.ID, r Rewrap) error {
	if epoch.Kind != KindEpoch || epoch.Chain != r.Chain || epoch.Epoch != r.Epoch {
		return fmt.Errorf("journal: rewrap of epoch %d of %s does not fit seq %d of %s: %w", r.Epoch, r.Chain, epoch.Seq, epoch.Chain, ErrForeignChain)
	}
	raw, err := hpke.Open(k.key.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), rewrapInfo(by, r.Chain, r.Epoch), r.Sealed)
	if err != nil {
		return fmt.Errorf("journal: rewrap of epoch %d of %s by %s: %w: %w", r.Epoch, r.Chain, by, ErrSealed, err)
	}
	key, err := newEpochKey(raw)
	if err != nil {
		return fmt.Errorf("journal: rewrap of epoch %d of %s by %s: %w", r.Epoch, r.Chain, by, err)
	}
	k.keep(epoch, key)
	return nil
}

// Rewraps makes a segment of rewraps, 1 to MaxRewraps; the writer's stream must be RewrapStream.
func (w *Writer) Rewraps(list []Rewrap, at Stamp) (*Segment, error) {
	if err := w.ready(); err != nil {
		return nil, err
	}
	if len(list) == 0 || len(list) > MaxRewraps {
		return nil, fmt.Errorf("journal: writing %d rewraps in one segment: want 1 to %d: %w", len(list), MaxRewraps, ErrOversize)
	}
	h := w.header(KindRewrap, at)
	h.Count = uint32(len(list))
	return w.finish(h, mustEncode(list))
}

// Rewraps returns what a KindRewrap segment holds.
func (s *Segment) Rewraps() ([]Rewrap, error) {
	if s.Kind != KindRewrap {
		return nil, fmt.Errorf("journal: seq %d of %s holds no rewraps: %w", s.Seq, s.Chain, ErrMalformed)
	}
	var list []Rewrap
	if err := Decode(s.payload, &list); err != nil {
		return nil, err
	}
	if len(list) != int(s.Count) {
		return nil, fmt.Errorf("journal: seq %d of %s counts %d rewraps and holds %d: %w", s.Seq, s.Chain, s.Count, len(list), ErrMalformed)
	}
	for _, r := range list {
		if r.Chain.Fleet != s.Chain.Fleet || r.Chain.Stream == RewrapStream || !ValidStream(r.Chain.Stream) || r.Epoch > MaxSeq {
			return nil, fmt.Errorf("journal: seq %d of %s: rewrap of epoch %d of %s: %w", s.Seq, s.Chain, r.Epoch, r.Chain, ErrForeignChain)
		}
	}
	return list, nil
}

// WrappedFor reports whether a KindEpoch segment carries a wrap with the reader's tag.
func (s *Segment) WrappedFor(r Reader) bool {
	var p epochPayload
	if s.Kind != KindEpoch || Decode(s.payload, &p) != nil {
		return false
	}
	tag := r.Fingerprint()
	return slices.ContainsFunc(p.Wraps, func(w wrap) bool { return w.Reader == tag })
}
