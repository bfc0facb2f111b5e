// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
)

// FuzzClaim: of all that a stranger can send as a claim or an approval, only what was made with the secret proves itself.
func FuzzClaim(f *testing.F) {
	secret := enroll.Secret{1, 2, 3}
	tok := enroll.Token{Secret: secret, Fleet: journal.FleetID{4}, Owner: id(1), Expires: time.UnixMilli(1_760_000_000_000)}
	code := enroll.Code{Device: id(2), Secret: secret}
	seed := func(v any) {
		enc, err := journal.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	seed(tok.Claim(id(2), id(3), "shed"))
	seed(tok.Claim(id(2), id(3), ""))
	seed(code.Approve(tok.Fleet, id(5)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c enroll.Claim
		if journal.Decode(data, &c) == nil && c.Check(secret) == nil {
			made := tok
			made.Fleet, made.ID = c.Fleet, c.Token
			if made.Claim(c.Device, c.Hub, c.Name) != c {
				t.Fatalf("%+v proves itself", c)
			}
			for _, changed := range []enroll.Claim{{Fleet: c.Fleet, Token: c.Token, Device: c.Hub, Hub: c.Device, Name: c.Name, MAC: c.MAC},
				{Fleet: c.Fleet, Token: c.Token, Device: c.Device, Hub: c.Hub, Name: c.Name + "x", MAC: c.MAC}} {
				if changed != c && changed.Check(secret) == nil {
					t.Fatalf("%+v proves itself with the proof of %+v", changed, c)
				}
			}
		}
		var a enroll.Approval
		if journal.Decode(data, &a) == nil && a.Check(code) == nil && code.Approve(a.Fleet, a.Operator) != a {
			t.Fatalf("%+v proves itself", a)
		}
	})
}
