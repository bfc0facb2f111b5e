// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	cryptopb "github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// peerID is the libp2p name of a member.
func peerID(id edge.ID) peer.ID { return peer.ID(id.Bytes()) }

// memberID reverses peerID; ok is false for peers whose key is not an Ed25519 one: they can be no members.
func memberID(p peer.ID) (id edge.ID, ok bool) {
	if len(p) < len(id) {
		return id, false
	}
	copy(id[:], p[len(p)-len(id):])
	return id, string(id.Bytes()) == string(p)
}

// hostKey lets a journal.Signer, whose key may not be exportable, stand where libp2p wants a private key. libp2p
// derives QUIC secrets from Raw, so that is a separate stable secret and never the key.
type hostKey struct {
	signer journal.Signer
	public crypto.PubKey
	secret []byte
}

func newHostKey(s journal.Signer, secret []byte) (*hostKey, error) {
	id := s.ID()
	pub, err := crypto.UnmarshalEd25519PublicKey(id.Key())
	if err != nil {
		return nil, fmt.Errorf("p2p: reading own public key: %w", err)
	}
	return &hostKey{signer: s, public: pub, secret: secret}, nil
}

func (k *hostKey) Raw() ([]byte, error)                { return bytes.Clone(k.secret), nil }
func (k *hostKey) Type() cryptopb.KeyType              { return cryptopb.KeyType_Ed25519 }
func (k *hostKey) Sign(message []byte) ([]byte, error) { return k.signer.Sign(message) }
func (k *hostKey) GetPublic() crypto.PubKey            { return k.public }

func (k *hostKey) Equals(o crypto.Key) bool {
	other, ok := o.(*hostKey)
	return ok && k.public.Equals(other.public)
}

// derive returns a 32-byte key for one purpose (HKDF-SHA256, RFC 5869).
func (k *hostKey) derive(purpose string) ([32]byte, error) {
	out, err := hkdf.Key(sha256.New, k.secret, nil, purpose, 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("p2p: deriving %s: %w", purpose, err)
	}
	return [32]byte(out), nil
}
