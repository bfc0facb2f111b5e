// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/hpke"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// MaxPlain is for tests.
const MaxPlain = maxPlain

// Forge signs any header with any payload, as a device that does not keep the rules could.
func Forge(s Signer, h Header, payload []byte) []byte {
	return encodeSegment(must(SignRecord(s, TypeSegment, mustEncode(h))), payload)
}

// SealRaw seals a plaintext of the device's choice, padded, under a header of its choice.
func (w *Writer) SealRaw(h Header, plain []byte) []byte {
	return w.SealUnpadded(h, pad(slices.Clone(plain)))
}

// SealUnpadded seals what the device says is padded.
func (w *Writer) SealUnpadded(h Header, padded []byte) []byte {
	return w.key.aead.Seal(nil, nonce(h.Seq), padded, additional(h))
}

// PaddedSize is the size that n bytes are padded to.
func PaddedSize(n int) int { return paddedSize(n) }

// Pad pads as a Writer does, Unpad as a Keyring.
func Pad(packed []byte) []byte { return pad(packed) }

// Unpad takes padding off as a Keyring does.
func Unpad(padded []byte) ([]byte, error) { return unpad(padded) }

// SetEpochKey makes a Writer seal with a key of its choice from its next epoch on, as a device that does not keep the rules could, and
// returns that epoch's first segment.
func (w *Writer) SetEpochKey(key []byte, to Reader, at Stamp) *Segment {
	h := w.header(KindEpoch, at)
	h.Epoch = h.Seq
	sealed := must(hpke.Seal(to.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), epochInfo(w.chain, h.Epoch), key))
	s := must(w.finish(h, mustEncode(epochPayload{Wraps: []wrap{{Reader: to.Fingerprint(), Sealed: sealed}}})))
	w.newKey = &epochKey{aead: must(chacha20poly1305.New(key))}
	return s
}

// Next is the header of the segment that the writer would make next.
func (w *Writer) Next(k Kind, at Stamp) Header { return w.header(k, at) }

// Pack packs as a Writer does.
func Pack(plain []byte) ([]byte, Coding, error) { return new(packer).pack(plain) }

// SameTag makes a wrap that carries the reader's tag and opens for nobody.
func SameTag(reader []byte) any {
	return wrap{Reader: readerTag(reader), Sealed: make([]byte, 1168)}
}

// Wraps decodes the wraps of an epoch segment's payload.
func Wraps(payload []byte) ([]any, error) {
	var p epochPayload
	err := Decode(payload, &p)
	out := make([]any, 0, len(p.Wraps))
	for _, w := range p.Wraps {
		out = append(out, w)
	}
	return out, err
}

// Packer packs payload after payload with one compressor.
type Packer struct{ p packer }

// Pack packs one payload.
func (p *Packer) Pack(plain []byte) ([]byte, error) {
	packed, _, err := p.p.pack(plain)
	return packed, err
}
