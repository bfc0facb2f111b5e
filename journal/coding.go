// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
)

const (
	// maxPlain bounds what a payload may unpack to, for makers and readers alike: 128 bytes for each of MaxReadings.
	maxPlain = 1 << 20
	// minDeflate is the size from which packing pays (docs/decisions/0003-compression.md).
	minDeflate = 512
)

// packer packs payloads one after another. It makes its compressor, 0.8 MB, at the first payload that is worth it, and
// keeps it. What pack returns is valid until the next call.
type packer struct {
	z   *flate.Writer
	buf bytes.Buffer
}

// pack chooses a coding; where deflate does not make the payload smaller it stays plain.
func (p *packer) pack(plain []byte) ([]byte, Coding, error) {
	if len(plain) > maxPlain {
		return nil, 0, fmt.Errorf("journal: packing %d bytes: %w: close batches earlier", len(plain), ErrOversize)
	}
	if len(plain) < minDeflate {
		return plain, CodingPlain, nil
	}
	p.buf.Reset()
	if p.z == nil {
		z, err := flate.NewWriter(&p.buf, flate.BestSpeed)
		if err != nil {
			return nil, 0, fmt.Errorf("journal: packing: %w", err)
		}
		p.z = z
	}
	p.z.Reset(&p.buf)
	_, err := p.z.Write(plain)
	if err := errors.Join(err, p.z.Close()); err != nil {
		return nil, 0, fmt.Errorf("journal: packing: %w", err)
	}
	if p.buf.Len() >= len(plain) {
		return plain, CodingPlain, nil
	}
	return p.buf.Bytes(), CodingDeflate, nil
}

// unpacker reverses packer, payload after payload. What unpack returns is valid until the next call.
type unpacker struct {
	z   io.ReadCloser
	buf bytes.Buffer
}

// unpack refuses payloads that unfold beyond maxPlain, and bytes after the end of the packed data.
func (u *unpacker) unpack(c Coding, packed []byte) ([]byte, error) {
	if c == CodingPlain {
		return packed, nil
	}
	src := bytes.NewReader(packed)
	if u.z == nil {
		u.z = flate.NewReader(src)
	} else if err := u.z.(flate.Resetter).Reset(src, nil); err != nil {
		return nil, fmt.Errorf("unpacking: %w: %w", ErrMalformed, err)
	}
	u.buf.Reset()
	if _, err := u.buf.ReadFrom(io.LimitReader(u.z, maxPlain+1)); err != nil {
		return nil, fmt.Errorf("unpacking: %w: %w", ErrMalformed, err)
	}
	if u.buf.Len() > maxPlain {
		return nil, fmt.Errorf("unpacking: %w", ErrOversize)
	}
	if src.Len() != 0 {
		return nil, fmt.Errorf("unpacking: %d bytes after the end: %w", src.Len(), ErrMalformed)
	}
	return u.buf.Bytes(), nil
}
