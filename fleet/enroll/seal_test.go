// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"errors"
	"testing"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
)

// TestSealSecret: a policy that everybody may read tells the secret to its executor alone, and for this token alone.
func TestSealSecret(t *testing.T) {
	hub, err := journal.GenerateReaderKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := journal.GenerateReaderKey()
	if err != nil {
		t.Fatal(err)
	}
	f, id, secret := journal.FleetID{1}, fleet.TokenID{2}, enroll.NewSecret()
	sealed, err := enroll.SealSecret(hub.Public(), f, id, secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := enroll.OpenSecret(hub, f, id, sealed); err != nil || got != secret {
		t.Errorf("%x, %v", got, err)
	}
	p := fleet.Policy{ID: id, Executor: key(11).ID(), Roles: fleet.Device, Uses: 1, Expires: 1, Sealed: sealed}
	if _, err := journal.Encode(p); err != nil || len(sealed) > 2048 { // what an entry may hold
		t.Errorf("%d bytes, %v", len(sealed), err)
	}
	changed := append([]byte(nil), sealed...)
	changed[len(changed)-1]++
	for name, open := range map[string]func() (enroll.Secret, error){
		"another reader":   func() (enroll.Secret, error) { return enroll.OpenSecret(other, f, id, sealed) },
		"another fleet":    func() (enroll.Secret, error) { return enroll.OpenSecret(hub, journal.FleetID{9}, id, sealed) },
		"another token":    func() (enroll.Secret, error) { return enroll.OpenSecret(hub, f, fleet.TokenID{9}, sealed) },
		"a changed byte":   func() (enroll.Secret, error) { return enroll.OpenSecret(hub, f, id, changed) },
		"nothing":          func() (enroll.Secret, error) { return enroll.OpenSecret(hub, f, id, nil) },
		"a cut ciphertext": func() (enroll.Secret, error) { return enroll.OpenSecret(hub, f, id, sealed[:100]) },
	} {
		if s, err := open(); !errors.Is(err, enroll.ErrSealed) || s != (enroll.Secret{}) {
			t.Errorf("%s: %x, %v", name, s, err)
		}
	}
	if _, err := enroll.SealSecret([]byte("no key"), f, id, secret); err == nil {
		t.Error("sealed to no key")
	}
}
