// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
)

func key(seed byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
}

func id(seed byte) edge.ID { return key(seed).ID() }

func code() enroll.Code {
	return enroll.Code{Device: id(21), Secret: enroll.Secret{1, 2, 3}, Addrs: []string{"/ip4/192.0.2.7/tcp/32321"}, Name: "shed"}
}

func TestCode_BothForms(t *testing.T) {
	c := code()
	short := c.String()
	t.Logf("%d characters: %s", len(short), short)
	if strings.ToUpper(short) != short || len(short) > 114 { // a version 4 QR code at level L
		t.Errorf("%q does not fit a small QR code", short)
	}
	bare := enroll.Code{Device: c.Device, Secret: c.Secret}
	for _, text := range []string{short, " " + strings.ToLower(short) + "\n", short[:30] + "\n" + short[30:]} {
		if got, err := enroll.ParseCode(text); err != nil || !reflect.DeepEqual(got, bare) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	block, err := c.Block()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{block, "Hello,\n> quoted\n" + block + "bye", strings.ReplaceAll(block, "\n", "\r\n")} {
		if got, err := enroll.ParseCode(text); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestParseCode_RefusesEveryChange(t *testing.T) {
	block, err := code().Block()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{code().String(), block} {
		for i := range text {
			changed := []byte(text)
			if changed[i] == '\n' {
				continue
			}
			changed[i] ^= 3
			got, err := enroll.ParseCode(string(changed))
			if err == nil && !strings.HasSuffix(text, "-----\n") {
				t.Errorf("character %d changed: %+v", i, got)
			}
			if err != nil && !errors.Is(err, enroll.ErrBadCode) {
				t.Errorf("character %d changed: %v", i, err)
			}
		}
	}
	for _, text := range []string{"", "STREEMBIT:1:", strings.Repeat("A", 9000), "-----BEGIN STREEMBIT OFFER-----", (enroll.Code{}).String()} {
		if _, err := enroll.ParseCode(text); !errors.Is(err, enroll.ErrBadCode) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestApproval(t *testing.T) {
	c, f := code(), journal.FleetID{7}
	a := c.Approve(f, id(41))
	if err := a.Check(c); err != nil {
		t.Fatal(err)
	}
	other := c
	other.Secret[0]++
	otherDevice := c
	otherDevice.Device = id(22)
	for name, bad := range map[string]func(*enroll.Approval){
		"fleet": func(a *enroll.Approval) { a.Fleet[0]++ }, "operator": func(a *enroll.Approval) { a.Operator = id(42) },
		"device": func(a *enroll.Approval) { a.Device = id(22) }, "mac": func(a *enroll.Approval) { a.MAC[0]++ },
	} {
		b := a
		bad(&b)
		if err := b.Check(c); !errors.Is(err, enroll.ErrBadProof) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := a.Check(other); !errors.Is(err, enroll.ErrBadProof) {
		t.Errorf("by somebody who has not seen the code: %v", err)
	}
	if err := a.Check(otherDevice); !errors.Is(err, enroll.ErrBadProof) {
		t.Errorf("given to another device: %v", err)
	}
}

func token(t *testing.T) enroll.Token {
	t.Helper()
	recovery, err := journal.GenerateReaderKey()
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Found(fleet.Founding{Name: "lab", Owner: key(1), Spare: id(2), Recovery: recovery.Public(),
		Hubs: []fleet.Bootstrap{{ID: id(11), Addrs: []string{"/ip4/203.0.113.11/tcp/32321"}, Site: "barn"}}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return enroll.NewToken(f, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))
}

func TestToken_File(t *testing.T) {
	tok := token(t)
	data, err := tok.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := enroll.ParseToken(data); err != nil || !reflect.DeepEqual(got, tok) {
		t.Errorf("%+v, %v\n%s", got, err, data)
	}
	text := string(data)
	for name, bad := range map[string]string{
		"empty": "", "no TOML": "fleet", "cut": text[:len(text)/2], "short secret": strings.Replace(text, "secret = '", "secret = 'zz", 1),
		"no hub": text[:strings.Index(text, "[[hub]]")], "too large": text + strings.Repeat("#", 70000),
		"no owner": strings.Replace(text, "owner", "oner", 1),
	} {
		if got, err := enroll.ParseToken([]byte(bad)); !errors.Is(err, enroll.ErrBadToken) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestClaim_Relayed: a claim holds for the two that made it alone.
func TestClaim_Relayed(t *testing.T) {
	tok := token(t)
	c := tok.Claim(id(21), id(11), "shed")
	if err := c.Check(tok.Secret); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]func(*enroll.Claim){
		"fleet": func(c *enroll.Claim) { c.Fleet[0]++ }, "token": func(c *enroll.Claim) { c.Token[0]++ }, "device": func(c *enroll.Claim) { c.Device = id(22) },
		"hub": func(c *enroll.Claim) { c.Hub = id(12) }, "name": func(c *enroll.Claim) { c.Name = "barn" }, "mac": func(c *enroll.Claim) { c.MAC[31]++ },
	} {
		b := c
		bad(&b)
		if err := b.Check(tok.Secret); !errors.Is(err, enroll.ErrBadProof) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := c.Check(enroll.NewSecret()); !errors.Is(err, enroll.ErrBadProof) {
		t.Errorf("another secret: %v", err)
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add(code().String())
	block, err := code().Block()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(block)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := enroll.ParseCode(text)
		if err != nil {
			return
		}
		block, err := c.Block()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := enroll.ParseCode(block); err != nil || !reflect.DeepEqual(again, c) && len(c.Addrs) > 0 {
			t.Errorf("%+v reads again as %+v, %v", c, again, err)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add([]byte("fleet = 'x'\n[[hub]]\nid='y'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := enroll.ParseToken(data)
		if err != nil {
			return
		}
		enc, err := tok.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := enroll.ParseToken(enc); err != nil || again.Secret != tok.Secret || again.Fleet != tok.Fleet {
			t.Errorf("%+v, %v", again, err)
		}
	})
}
