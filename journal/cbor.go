// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"fmt"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// encMode is core deterministic encoding (RFC 8949 §4.2.1) in which a missing list is written as an empty one, so that
// null and empty cannot both exist; decMode refuses what encMode would never write.
var (
	encMode = must(encOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  65536,
	}.DecMode())
)

func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// mustEncode encodes values of our own fixed types, which cannot fail.
func mustEncode(v any) []byte { return must(encMode.Marshal(v)) }

// Initial bytes of the CBOR items that are framed by hand (RFC 8949 §3.1), so that a segment of 30 kB is not copied.
const (
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
)

// appendHead writes an item's first byte and its argument in the shortest form (RFC 8949 §4.2.1).
func appendHead(b []byte, major byte, n uint32) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return append(b, major|25, byte(n>>8), byte(n))
	}
	return append(b, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// appendBytes writes a byte string of less than 4 GiB.
func appendBytes(b, value []byte) []byte {
	return append(appendHead(b, cborBytes, uint32(len(value))), value...)
}

// cutBytes takes the byte string at the front of b off, without copying. ErrNotCanonical: its length is not in the
// shortest form.
func cutBytes(b []byte) (value, rest []byte, err error) {
	if len(b) == 0 || b[0]&0xe0 != cborBytes {
		return nil, nil, fmt.Errorf("no byte string: %w", ErrMalformed)
	}
	info, b := b[0]&0x1f, b[1:]
	n := uint64(info)
	if info >= 24 {
		size := 1 << (info - 24)
		switch {
		case info > 27:
			return nil, nil, fmt.Errorf("indefinite or reserved length: %w", ErrNotCanonical)
		case len(b) < size:
			return nil, nil, fmt.Errorf("cut off: %w", ErrMalformed)
		}
		n = 0
		for _, c := range b[:size] {
			n = n<<8 | uint64(c)
		}
		if n < 24 || size > 1 && n>>(4*size) == 0 {
			return nil, nil, fmt.Errorf("length in a longer form than needed: %w", ErrNotCanonical)
		}
		b = b[size:]
	}
	if n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("cut off: %w", ErrMalformed)
	}
	return b[:n:n], b[n:], nil
}

// Encode writes v in core deterministic CBOR (RFC 8949 §4.2.1), the only encoding that is ever signed.
func Encode(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("journal: encoding: %w", err)
	}
	return b, nil
}

// Decode reads what Encode wrote and refuses any other encoding of the same value (ErrNotCanonical), so that a
// signed record has exactly one form and one hash.
func Decode(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("journal: decoding: %w: %w", ErrMalformed, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("journal: decoding: %w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("journal: decoding: %w", ErrNotCanonical)
	}
	return nil
}
