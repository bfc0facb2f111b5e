// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// maxPlain bounds what a payload may unpack to: the largest pack a Writer can make is far below it.
const maxPlain = 4 << 20

// pack applies a coding; where that does not make the payload smaller it stays plain.
func pack(c Coding, plain []byte) ([]byte, Coding, error) {
	if c == CodingPlain {
		return plain, CodingPlain, nil
	}
	var buf bytes.Buffer
	z, err := flate.NewWriter(&buf, flate.BestSpeed)
	if err != nil {
		return nil, 0, fmt.Errorf("journal: packing: %w", err)
	}
	if _, err := z.Write(plain); err != nil {
		return nil, 0, fmt.Errorf("journal: packing: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, 0, fmt.Errorf("journal: packing: %w", err)
	}
	if buf.Len() >= len(plain) {
		return plain, CodingPlain, nil
	}
	return buf.Bytes(), CodingDeflate, nil
}

// unpack reverses pack and refuses payloads that unfold beyond maxPlain.
func unpack(c Coding, packed []byte) ([]byte, error) {
	if c == CodingPlain {
		return packed, nil
	}
	z := flate.NewReader(bytes.NewReader(packed))
	plain, err := io.ReadAll(io.LimitReader(z, maxPlain+1))
	if err != nil {
		return nil, fmt.Errorf("journal: unpacking: %w: %w", ErrMalformed, err)
	}
	if len(plain) > maxPlain {
		return nil, fmt.Errorf("journal: unpacking: %w", ErrOversize)
	}
	return plain, nil
}
