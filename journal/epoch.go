// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Reader is somebody for whom epoch keys are wrapped: an HPKE public key (RFC 9180 with the hybrid KEM
// MLKEM768-X25519), 1216 bytes.
type Reader struct{ key hpke.PublicKey }

// NewReader reads the encoded public key of a reader.
func NewReader(public []byte) (Reader, error) {
	k, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		return Reader{}, fmt.Errorf("journal: reading reader's public key: %w", err)
	}
	return Reader{k}, nil
}

// Fingerprint is the start of the SHA-256 of the public key: enough to notice that the set of readers changed.
func (r Reader) Fingerprint() [8]byte { return readerTag(r.key.Bytes()) }

// ReaderKey is a reader's private key.
type ReaderKey struct{ key hpke.PrivateKey }

// GenerateReaderKey makes a fresh private key.
func GenerateReaderKey() (ReaderKey, error) {
	k, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return ReaderKey{}, fmt.Errorf("journal: making reader key: %w", err)
	}
	return ReaderKey{k}, nil
}

// NewReaderKey reads what Bytes wrote.
func NewReaderKey(private []byte) (ReaderKey, error) {
	k, err := hpke.MLKEM768X25519().NewPrivateKey(private)
	if err != nil {
		return ReaderKey{}, fmt.Errorf("journal: reading reader key: %w", err)
	}
	return ReaderKey{k}, nil
}

// Bytes encodes the private key (32 bytes: a seed).
func (k ReaderKey) Bytes() ([]byte, error) { return k.key.Bytes() }

// Public encodes the public half, as NewReader reads it.
func (k ReaderKey) Public() []byte { return k.key.PublicKey().Bytes() }

// epochPayload is the payload of a KindEpoch segment.
type epochPayload struct {
	_     struct{} `cbor:",toarray"`
	After *Continuation
	Wraps []wrap
}

// Continuation links a new incarnation to the last segment of the one before it that the device still knew. It is the
// device's word and proves no more than that: segments of the former incarnation after Last may exist and are just as
// authentic, and a reader who knows another hash at Last.Seq has found a fork.
type Continuation struct {
	_           struct{} `cbor:",toarray"`
	Incarnation Incarnation
	Last        Link
}

type wrap struct {
	_      struct{} `cbor:",toarray"`
	Reader [8]byte  // first bytes of the SHA-256 of the reader's public key
	Sealed []byte   // HPKE encapsulation, then the sealed 32-byte epoch key
}

func readerTag(public []byte) [8]byte {
	sum := sha256.Sum256(public)
	return [8]byte(sum[:8])
}

// epochInfo binds a wrap to its chain and epoch (the HPKE info parameter).
func epochInfo(c Chain, epoch uint64) []byte {
	return mustEncode([]any{"streembit/epoch/1", c, epoch})
}

// epochKey seals the segments of one epoch.
type epochKey struct {
	aead cipher.AEAD
	raw  [chacha20poly1305.KeySize]byte // for readers that come later
}

// newEpochKey refuses a key of another cipher's length and the one key that nobody draws: with it anybody could read.
func newEpochKey(key []byte) (epochKey, error) {
	a, err := chacha20poly1305.New(key)
	if err != nil {
		return epochKey{}, fmt.Errorf("journal: epoch key: %w: %w", ErrMalformed, err)
	}
	raw := [chacha20poly1305.KeySize]byte(key)
	if raw == ([chacha20poly1305.KeySize]byte{}) {
		return epochKey{}, fmt.Errorf("journal: epoch key is all zeros: %w", ErrMalformed)
	}
	return epochKey{aead: a, raw: raw}, nil
}

// nonce is unique under a key because a seq is used once in an incarnation and the key once in an epoch.
func nonce(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, chacha20poly1305.NonceSize), seq)
}

// additional is what the AEAD binds: the whole header but the facts that are known only after sealing.
func additional(h Header) []byte {
	h.Payload, h.Size = Hash{}, 0
	return mustEncode(h)
}

func wrapEpochKey(c Chain, epoch uint64, readers []Reader) (epochKey, []wrap, error) {
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key)
	wraps := make([]wrap, 0, len(readers))
	for _, r := range readers {
		sealed, err := hpke.Seal(r.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), epochInfo(c, epoch), key)
		if err != nil {
			return epochKey{}, nil, fmt.Errorf("journal: wrapping epoch key: %w", err)
		}
		wraps = append(wraps, wrap{Reader: readerTag(r.key.Bytes()), Sealed: sealed})
	}
	ek, err := newEpochKey(key)
	return ek, wraps, err
}
