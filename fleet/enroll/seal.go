// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"crypto/hpke"
	"errors"
	"fmt"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// ErrSealed is wrapped by OpenSecret.
var ErrSealed = errors.New("the token's secret was sealed for another reader key, fleet or token")

// sealInfo binds a sealed secret to its token (the info parameter of RFC 9180).
func sealInfo(f journal.FleetID, t fleet.TokenID) []byte {
	return append(append([]byte("streembit/token/1"), f[:]...), t[:]...)
}

// SealSecret seals a token's secret to the public reader key of the hub that is to carry out its policy, for Policy.Sealed: HPKE
// (RFC 9180) with MLKEM768-X25519, HKDF-SHA256 and ChaCha20-Poly1305, as epoch keys are.
func SealSecret(reader []byte, f journal.FleetID, t fleet.TokenID, s Secret) ([]byte, error) {
	key, err := hpke.MLKEM768X25519().NewPublicKey(reader)
	if err != nil {
		return nil, fmt.Errorf("enroll: sealing token: reading reader key: %w", err)
	}
	sealed, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(f, t), s[:])
	if err != nil {
		return nil, fmt.Errorf("enroll: sealing token: %w", err)
	}
	return sealed, nil
}

// OpenSecret opens what SealSecret made. The error wraps ErrSealed.
func OpenSecret(reader journal.ReaderKey, f journal.FleetID, t fleet.TokenID, sealed []byte) (s Secret, err error) {
	raw, err := reader.Bytes()
	if err != nil {
		return s, fmt.Errorf("enroll: opening token: %w", err)
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(raw)
	if err != nil {
		return s, fmt.Errorf("enroll: opening token: %w", err)
	}
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(f, t), sealed)
	if err != nil || len(plain) != len(s) {
		return s, fmt.Errorf("enroll: opening token: %w", ErrSealed)
	}
	return Secret(plain), nil
}
