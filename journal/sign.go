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

// openRecord asks who must have signed the (still unproven) payload, then proves it. What it returns lies in record.
func openRecord(contentType string, record []byte, expect func(payload []byte) (edge.ID, error)) ([]byte, error) {
	protected, payload, signature, err := splitRecord(record)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(protected, protectedHeader(contentType)) {
		return nil, fmt.Errorf("journal: opening record: it is not a canonical %s: %w", contentType, ErrNotCanonical)
	}
	who, err := expect(payload)
	if err != nil {
		return nil, err
	}
	if WeakKey(who) || !ed25519.Verify(who[:], sigStructure(protected, payload), signature) {
		return nil, fmt.Errorf("journal: opening record of %s: %w", who, ErrForeignSigner)
	}
	return payload, nil
}

// splitRecord takes a tagged COSE_Sign1 (RFC 9052 §4.2) apart without copying and without trusting any length. It
// knows only the shape that SignRecord writes: an empty unprotected header, an attached payload, an Ed25519 signature.
// A general COSE decoder would build whatever maps a stranger puts into the unprotected header before anything is proven.
func splitRecord(record []byte) (protected, payload, signature []byte, err error) {
	fail := func(err error) ([]byte, []byte, []byte, error) {
		return nil, nil, nil, fmt.Errorf("journal: opening record: %w", err)
	}
	rest, ok := bytes.CutPrefix(record, []byte{coseSign1, cborArray | 4})
	if !ok {
		return fail(fmt.Errorf("no tagged COSE_Sign1: %w", ErrMalformed))
	}
	if protected, rest, err = cutBytes(rest); err != nil {
		return fail(fmt.Errorf("protected header: %w", err))
	}
	if rest, ok = bytes.CutPrefix(rest, []byte{emptyMap}); !ok {
		return fail(fmt.Errorf("unprotected header is not empty: %w", ErrNotCanonical))
	}
	if payload, rest, err = cutBytes(rest); err != nil {
		return fail(fmt.Errorf("payload: %w", err))
	}
	if signature, rest, err = cutBytes(rest); err != nil {
		return fail(fmt.Errorf("signature: %w", err))
	}
	if len(signature) != ed25519.SignatureSize || len(rest) != 0 {
		return fail(fmt.Errorf("signature of %d bytes, %d bytes after it: %w", len(signature), len(rest), ErrMalformed))
	}
	return protected, payload, signature, nil
}

const (
	coseSign1 = 0xd2 // tag 18
	emptyMap  = 0xa0
)

// protectedHeader is {1: -8 (EdDSA), 3: contentType}, the only one that is written or accepted.
func protectedHeader(contentType string) []byte {
	b := make([]byte, 0, 64)
	b = append(b, emptyMap|2, 1, 0x27, 3)
	return append(appendHead(b, cborText, uint32(len(contentType))), contentType...)
}

// sigStructure is what is signed (RFC 9052 §4.4), with no external data.
func sigStructure(protected, payload []byte) []byte {
	const context = "Signature1"
	b := make([]byte, 0, len(protected)+len(payload)+32)
	b = append(append(b, cborArray|4, cborText|byte(len(context))), context...)
	b = append(appendBytes(b, protected), cborBytes)
	return appendBytes(b, payload)
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

// ID returns the public key, the second half of what ed25519 calls a private key.
func (k SoftKey) ID() edge.ID { return edge.ID(k.key[ed25519.SeedSize:]) }

// Sign returns the Ed25519 signature of message (RFC 8032).
func (k SoftKey) Sign(message []byte) ([]byte, error) { return ed25519.Sign(k.key, message), nil }

// PeekRecord returns a record's payload WITHOUT proving anything: only to learn who claims to have signed it.
func PeekRecord(record []byte) ([]byte, error) {
	_, payload, _, err := splitRecord(record)
	return payload, err
}
