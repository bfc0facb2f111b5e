// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/streembit/edge"
	"github.com/veraison/go-cose"
)

// Signer is the seam behind which a member's Ed25519 key sits: a file today, a secure element later.
type Signer interface {
	ID() edge.ID
	Sign(message []byte) ([]byte, error)
}

// Content types of the signed records; each kind of record has its own, so one can never stand in for another.
const (
	TypeSegment = "application/vnd.streembit.segment+cbor"
	TypeState   = "application/vnd.streembit.fleet-state+cbor"
)

// SignRecord returns payload as a COSE_Sign1 (RFC 9052 §4.2) with the content type in the protected header.
func SignRecord(s Signer, contentType string, payload []byte) ([]byte, error) {
	id := s.ID()
	signer, err := cose.NewSigner(cose.AlgorithmEdDSA, coseSigner{s, id})
	if err != nil {
		return nil, fmt.Errorf("journal: signing: %w", err)
	}
	msg := newRecord(contentType, payload)
	if err := msg.Sign(nil, nil, signer); err != nil {
		return nil, fmt.Errorf("journal: signing: %w", err)
	}
	out, err := msg.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("journal: signing: %w", err)
	}
	return out, nil
}

// OpenRecord returns the payload of a record if signer, and nobody else, signed it as contentType in the one
// canonical form. The key always comes from the caller, never from the record.
func OpenRecord(signer edge.ID, contentType string, record []byte) ([]byte, error) {
	return openRecord(contentType, record, func([]byte) (edge.ID, error) { return signer, nil })
}

// openRecord asks who must have signed the (still unproven) payload, then proves it.
func openRecord(contentType string, record []byte, expect func(payload []byte) (edge.ID, error)) ([]byte, error) {
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(record); err != nil {
		return nil, fmt.Errorf("journal: opening record: %w: %w", ErrMalformed, err)
	}
	canon := newRecord(contentType, msg.Payload)
	canon.Signature = msg.Signature
	again, err := canon.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("journal: opening record: %w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, record) {
		return nil, fmt.Errorf("journal: opening record as %s: %w", contentType, ErrNotCanonical)
	}
	who, err := expect(msg.Payload)
	if err != nil {
		return nil, err
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmEdDSA, who.Key())
	if err != nil {
		return nil, fmt.Errorf("journal: opening record: %w", err)
	}
	if err := canon.Verify(nil, verifier); err != nil {
		return nil, fmt.Errorf("journal: opening record: %w: %w", ErrForeignSigner, err)
	}
	return msg.Payload, nil
}

func newRecord(contentType string, payload []byte) *cose.Sign1Message {
	msg := cose.NewSign1Message()
	msg.Headers.Protected[cose.HeaderLabelAlgorithm] = cose.AlgorithmEdDSA
	msg.Headers.Protected[cose.HeaderLabelContentType] = contentType
	msg.Payload = payload
	return msg
}

// coseSigner lets a Signer stand where go-cose wants a crypto.Signer.
type coseSigner struct {
	s  Signer
	id edge.ID
}

func (c coseSigner) Public() crypto.PublicKey { return c.id.Key() }

func (c coseSigner) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return c.s.Sign(message)
}

// SoftKey is a Signer whose private key is in memory.
type SoftKey struct{ key ed25519.PrivateKey }

// NewSoftKey wraps an Ed25519 private key.
func NewSoftKey(key ed25519.PrivateKey) SoftKey { return SoftKey{key} }

// ID returns the public key.
func (k SoftKey) ID() edge.ID { return edge.ID(k.key.Public().(ed25519.PublicKey)) }

// Sign returns the Ed25519 signature of message (RFC 8032).
func (k SoftKey) Sign(message []byte) ([]byte, error) { return ed25519.Sign(k.key, message), nil }

// PeekRecord returns a record's payload WITHOUT proving anything: only to learn who claims to have signed it.
func PeekRecord(record []byte) ([]byte, error) {
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(record); err != nil {
		return nil, fmt.Errorf("journal: opening record: %w: %w", ErrMalformed, err)
	}
	return msg.Payload, nil
}
