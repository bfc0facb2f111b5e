// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"fmt"
	"math/bits"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// minPadded is the smallest size in bytes to which what is sealed is padded: one to three readings look alike.
	minPadded = 256
	// padMark ends the payload, zeros follow (as in ISO/IEC 7816-4).
	padMark = 0x80
)

// paddedSize returns the size to which n bytes are padded: by Padmé (Nikitin et al., Reducing Metadata Leakage from Encrypted Files and
// Communication with PURBs, 2019), which keeps of a size only as many leading bits as its exponent has: 16 sizes an octave here, at
// most 6.3 % more. docs/decisions/0012-padding.md has the figures.
func paddedSize(n int) int {
	n = max(n+1, minPadded)
	exponent := bits.Len(uint(n)) - 1
	mask := 1<<(exponent-bits.Len(uint(exponent))) - 1
	return (n + mask) &^ mask
}

// sealedSize reports whether a sealed payload can have the size.
func sealedSize(n uint32) bool {
	plain := int(n) - chacha20poly1305.Overhead
	return plain >= minPadded && paddedSize(plain-1) == plain
}

// pad appends to packed, which becomes the callee's.
func pad(packed []byte) []byte {
	n := paddedSize(len(packed))
	zeros := n - len(packed) - 1
	packed = append(packed, padMark)
	return append(packed, make([]byte, zeros)...)
}

// unpad takes off what pad appended and nothing else, so that a payload has one padded form.
func unpad(padded []byte) ([]byte, error) {
	packed, ok := bytes.CutSuffix(bytes.TrimRight(padded, "\x00"), []byte{padMark})
	if !ok || paddedSize(len(packed)) != len(padded) {
		return nil, fmt.Errorf("payload of %d bytes is not padded as it must be: %w", len(padded), ErrNotCanonical)
	}
	return packed, nil
}
