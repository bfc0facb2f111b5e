// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/mr-tron/base58"
)

// ID is a member's identity: its Ed25519 public key (RFC 8032). The text form is the one libp2p uses for such a key
// (base58btc of the identity multihash of the key's protobuf), so logs, addresses and commands all show one name.
type ID [ed25519.PublicKeySize]byte

// ErrBadID is wrapped by ParseID.
var ErrBadID = errors.New("not a member id (it looks like 12D3KooW…, 52 characters)")

// idPrefix: identity multihash (0x00), 36 bytes, protobuf {1: key type Ed25519 = 1, 2: 32 bytes}.
const idPrefix = "\x00\x24\x08\x01\x12\x20"

// maxIDText is more than the text form of any Ed25519 key needs.
const maxIDText = 64

// Bytes returns the binary form of the text: the libp2p peer id.
func (id ID) Bytes() []byte { return append([]byte(idPrefix), id[:]...) }

// String returns the text form, 52 characters that begin with 12D3KooW.
func (id ID) String() string { return base58.Encode(id.Bytes()) }

// Short returns the last eight characters, for tables and logs.
func (id ID) Short() string { s := id.String(); return s[len(s)-8:] }

// Key returns the identity as a public key.
func (id ID) Key() ed25519.PublicKey { return append(ed25519.PublicKey(nil), id[:]...) }

// Compare orders identities by their bytes.
func (id ID) Compare(o ID) int { return bytes.Compare(id[:], o[:]) }

// MarshalText writes the text form, so that JSON and logs show it.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the text form.
func (id *ID) UnmarshalText(text []byte) error {
	v, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// ParseID reads the text form; an error wraps ErrBadID.
func ParseID(s string) (ID, error) {
	if len(s) > maxIDText { // decoding base58 takes time with the square of the length
		return ID{}, fmt.Errorf("edge: reading id of %d characters: %w", len(s), ErrBadID)
	}
	raw, err := base58.Decode(s)
	if err != nil || len(raw) != len(idPrefix)+len(ID{}) || !bytes.HasPrefix(raw, []byte(idPrefix)) {
		return ID{}, fmt.Errorf("edge: reading id %q: %w", s, ErrBadID)
	}
	return ID(raw[len(idPrefix):]), nil
}
