// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/streembit/edge"
)

// TypeCustody is the content type of a signed Custody.
const TypeCustody = "application/vnd.streembit.custody+cbor"

// ErrCustody is wrapped when a custody is not what its storer signed, or speaks of no run of segments that there can be.
var ErrCustody = errors.New("not a proof that the hub holds these segments")

// Custody is a hub's word that it has fsynced a run of segments of one bucket, for a device that cannot ask each hub itself. As each segment names
// the hash of the one before, the last hash speaks for all of the run. Only the signature travels: who asked knows all the rest.
type Custody struct {
	_        struct{} `cbor:",toarray"`
	Chain    Chain
	From, To uint64   // both included, in one bucket
	Hash     Hash     // of the header of To
	Storer   edge.ID  // who holds it
	Nonce    [16]byte // of the device's, fresh: no old word counts, from before a disk was lost
}

// Sign returns the signature of a COSE_Sign1 with detached payload (RFC 9052 §4.2) by s, who must be the Storer.
func (c Custody) Sign(s Signer) ([]byte, error) {
	payload, err := c.payload()
	if err != nil {
		return nil, err
	}
	if s.ID() != c.Storer {
		return nil, fmt.Errorf("journal: signing custody of %s as %s: %w", c.Storer.Short(), s.ID().Short(), ErrForeignSigner)
	}
	return s.Sign(sigStructure(protectedHeader(TypeCustody), payload))
}

// Check proves that the Storer signed it. The error wraps ErrCustody.
func (c Custody) Check(signature []byte) error {
	payload, err := c.payload()
	if err != nil {
		return err
	}
	if WeakKey(c.Storer) || !ed25519.Verify(c.Storer[:], sigStructure(protectedHeader(TypeCustody), payload), signature) {
		return fmt.Errorf("journal: checking custody of %s: %w: %w", c.Storer.Short(), ErrCustody, ErrForeignSigner)
	}
	return nil
}

func (c Custody) payload() ([]byte, error) {
	if c.From > c.To || c.To > MaxSeq || c.From/BucketSize != c.To/BucketSize || !ValidStream(c.Chain.Stream) {
		return nil, fmt.Errorf("journal: custody of seq %d to %d of %s: %w", c.From, c.To, c.Chain, ErrCustody)
	}
	return Encode(c)
}
