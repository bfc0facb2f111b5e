// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// encMode is core deterministic encoding (RFC 8949 §4.2.1); decMode refuses what that would never write.
var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  65536,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// mustEncode encodes values of our own fixed types, which cannot fail.
func mustEncode(v any) []byte { return must(encMode.Marshal(v)) }

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
