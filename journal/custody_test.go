// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/veraison/go-cose"

	"github.com/streembit/edge/journal"
)

// TestCustody also holds the signature against go-cose, as an oracle.
func TestCustody(t *testing.T) {
	key := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)))
	other := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32)))
	c := journal.Custody{Chain: journal.Chain{Fleet: journal.FleetID{1}, Device: other.ID(), Stream: "main"}, From: 64, To: 127, Hash: journal.Hash{3},
		Storer: key.ID(), Nonce: [16]byte{4}}
	signature, err := c.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(signature); err != nil {
		t.Error(err)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmEdDSA, ed25519.PublicKey(c.Storer[:]))
	if err != nil {
		t.Fatal(err)
	}
	msg := cose.NewSign1Message()
	msg.Headers.Protected[cose.HeaderLabelAlgorithm] = cose.AlgorithmEdDSA
	msg.Headers.Protected[cose.HeaderLabelContentType] = journal.TypeCustody
	if msg.Payload, err = journal.Encode(c); err != nil {
		t.Fatal(err)
	}
	msg.Signature = signature
	if err := msg.Verify(nil, verifier); err != nil {
		t.Errorf("go-cose: %v", err)
	}
	if _, err := c.Sign(other); !errors.Is(err, journal.ErrForeignSigner) {
		t.Errorf("signed for another hub: %v", err)
	}
	for name, change := range map[string]func(*journal.Custody){
		"chain":        func(c *journal.Custody) { c.Chain.Incarnation[0]++ },
		"from":         func(c *journal.Custody) { c.From++ },
		"to":           func(c *journal.Custody) { c.To-- },
		"hash":         func(c *journal.Custody) { c.Hash[0]++ },
		"storer":       func(c *journal.Custody) { c.Storer = other.ID() },
		"nonce":        func(c *journal.Custody) { c.Nonce[0]++ },
		"two buckets":  func(c *journal.Custody) { c.From-- },
		"back to back": func(c *journal.Custody) { c.From, c.To = c.To, c.From },
	} {
		changed := c
		change(&changed)
		if err := changed.Check(signature); !errors.Is(err, journal.ErrCustody) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}
