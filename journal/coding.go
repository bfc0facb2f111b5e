// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxPlain bounds what a payload may unpack to, for makers and readers alike: 128 bytes for each of MaxReadings.
	maxPlain = 1 << 20
	// minPack is the size in bytes, about 10 readings, from which packing pays (docs/decisions/0003-compression.md).
	minPack = 384
	// maxKept is the largest buffer in bytes that is kept for the next payload.
	maxKept = 256 << 10
)

// packer packs payloads one after another. It makes its compressor, 0.4 MB, at the first payload that is worth it, and
// keeps it. What pack returns is valid until the next call.
type packer struct {
	z   *zstd.Encoder
	buf []byte
}

// pack chooses a coding; where zstd does not make the payload smaller it stays plain.
func (p *packer) pack(plain []byte) ([]byte, Coding, error) {
	if len(plain) > maxPlain {
		return nil, 0, fmt.Errorf("journal: packing %d bytes: %w: close batches earlier", len(plain), ErrOversize)
	}
	if len(plain) < minPack {
		return plain, CodingPlain, nil
	}
	if p.z == nil {
		// One encoder without goroutines; no checksum, because the seal is one.
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(64<<10), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, 0, fmt.Errorf("journal: packing: %w", err)
		}
		p.z = z
	}
	packed := p.z.EncodeAll(plain, p.buf[:0])
	if cap(packed) <= maxKept {
		p.buf = packed
	}
	if len(packed) >= len(plain) {
		return plain, CodingPlain, nil
	}
	return packed, CodingZstd, nil
}

// pad pads what pack returned; the compressor's buffer takes the padding too.
func (p *packer) pad(packed []byte, c Coding) []byte {
	padded := pad(packed)
	if c == CodingZstd && cap(padded) <= maxKept {
		p.buf = padded
	}
	return padded
}

// unpacker reverses packer, payload after payload. What unpack returns is valid until the next call.
type unpacker struct {
	z   *zstd.Decoder
	buf []byte
}

// unpack refuses payloads that unfold beyond maxPlain before it has the memory for them.
func (u *unpacker) unpack(c Coding, packed []byte) ([]byte, error) {
	if c == CodingPlain {
		return packed, nil
	}
	if u.z == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecoderMaxWindow(maxPlain))
		if err != nil {
			return nil, fmt.Errorf("unpacking: %w", err)
		}
		u.z = z
	}
	plain, err := u.z.DecodeAll(packed, u.buf[:0])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), len(plain) > maxPlain:
		return nil, fmt.Errorf("unpacking: %w: %w", ErrOversize, err)
	case err != nil:
		return nil, fmt.Errorf("unpacking: %w: %w", ErrMalformed, err)
	}
	if cap(plain) <= maxKept {
		u.buf = plain
	}
	return plain, nil
}
