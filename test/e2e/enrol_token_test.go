// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport/p2p"
)

// token makes a claim token and returns its file.
func (o *office) token(args ...string) string {
	o.t.Helper()
	out := filepath.Join(o.Dir, fmt.Sprintf("token-%d.toml", time.Now().UnixNano()))
	o.must(append([]string{"enroll", "token", "--out", out}, args...)...)
	return out
}

// withToken adds a device on whose boot partition a token lies.
func (o *office) withToken(name, token string) *swarm.Member {
	o.t.Helper()
	text, err := os.ReadFile(token)
	must(o.t, err)
	boot := filepath.Join(o.Dir, name+".boot")
	must(o.t, os.Mkdir(boot, 0o700))
	must(o.t, os.WriteFile(filepath.Join(boot, "enroll.toml"), text, 0o644))
	m := o.add(name, fmt.Sprintf("mdns = false\n[enroll]\ntoken = %q\n", filepath.Join(boot, "enroll.toml"))+simDevice)
	return m
}

func (o *office) bootToken(m *swarm.Member) string {
	return filepath.Join(o.Dir, m.Name+".boot", "enroll.toml")
}

// TestEnrol_ByTokenAndOperator: devices claim by a token, and wait until somebody at the fleet's folder grants them.
func TestEnrol_ByTokenAndOperator(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	hub := o.addHub("hub0")
	token := o.token("--uses", "2", "--expires", "1h", "--label", "site=lab")
	a, b := o.withToken("device0", token), o.withToken("device1", token)
	o.Start(a, b)
	list := func(want ...*swarm.Member) {
		t.Helper()
		swarm.WaitFor(t, "claims at the hub", func() error {
			text := o.must("enroll", "list")
			for _, m := range want {
				if !strings.Contains(text, m.ID.String()) {
					return fmt.Errorf("%s does not wait: %s", m.Name, text)
				}
			}
			return nil
		})
	}
	list(a, b)
	o.Kill(hub) // claims outlive it
	o.Start(hub)
	list(a, b)
	if text := o.daemon(hub, "status"); !strings.Contains(text, "enrolment: 2 claims wait") {
		t.Errorf("the hub's status: %s", text)
	}
	o.must("enroll", "grant", "--all")
	for _, m := range []*swarm.Member{a, b} {
		o.awaitStanding(m, "member")
		gone(t, o.bootToken(m))
	}
	o.awaitPublished(a)
	if text := o.must("enroll", "list"); strings.Contains(text, a.ID.String()) {
		t.Errorf("claims of members wait on: %s", text)
	}
	if text := o.must("fleet", "show"); strings.Count(text, "site=lab") < 2 {
		t.Errorf("the token's labels are not in the grants: %s", text)
	}
}

// TestEnrol_ByTokenAndPolicy: a hub grants by the policy that names it. What else somebody can do with such a token is refused and noted.
func TestEnrol_ByTokenAndPolicy(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	hub := o.addHub("hub0")
	o.withReader(hub)
	token := o.token("--uses", "1", "--expires", "1h", "--executor", "hub0", "--site", "cellar")
	first := o.withToken("device0", token)
	o.Start(first)
	o.awaitStanding(first, "member")
	o.awaitPublished(first)
	gone(t, o.bootToken(first))
	gone(t, filepath.Join(first.State, "claim.key"))
	if len(audited(t, hub.State, "token-grant")) != 1 {
		t.Error("the hub did not note what it granted")
	}

	t.Run("used twice", func(t *testing.T) {
		second := o.withToken("device1", token)
		o.Start(second)
		awaitAudited(t, hub, "refused-claim", "used as often as it may")
		swarm.WaitFor(t, "the device to show the refusal", func() error {
			if text := o.daemon(second, "status"); !strings.Contains(text, "used as often as it may") {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
		if _, err := os.Stat(o.bootToken(second)); err != nil {
			t.Errorf("a token that was of no use was erased: %v", err)
		}
		o.Kill(second)
	})
	t.Run("relayed and forged", func(t *testing.T) { o.relayed(t, hub) })
	t.Run("replayed", func(t *testing.T) {
		o.must("fleet", "revoke", first.ID.String(), "--reason", "lost")
		o.awaitStanding(first, "revoked")
		o.Kill(first)
		for _, name := range []string{"fleet.cbor", "fleet.pin"} { // whoever holds the card makes the device forget, and claims once more
			must(t, os.Remove(filepath.Join(first.State, name)))
		}
		text, err := os.ReadFile(token)
		must(t, err)
		must(t, os.WriteFile(o.bootToken(first), text, 0o600))
		o.Start(first)
		swarm.WaitFor(t, "the device to be told", func() error {
			if text := o.daemon(first, "status"); !strings.Contains(text, "revoked") {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
		if v, err := o.Status(first); err != nil || v["standing"] != "unclaimed" {
			t.Errorf("it is %v, %v", v["standing"], err)
		}
	})
}

// relayed sends claims that were made for somebody else, from a device that holds no token.
func (o *office) relayed(t *testing.T, hub *swarm.Member) {
	text, err := os.ReadFile(o.token("--uses", "5", "--expires", "1h", "--executor", "hub0"))
	must(t, err)
	token, err := enroll.ParseToken(text)
	must(t, err)
	thief := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x77}, ed25519.SeedSize)))
	victim := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x78}, ed25519.SeedSize))).ID()
	node, err := p2p.NewNewcomer(t.Context(), p2p.NewcomerOptions{Signer: thief, Code: enroll.Code{Device: thief.ID()}})
	must(t, err)
	defer func() { must(t, node.Close()) }()
	at := fleet.Bootstrap{ID: hub.ID, Addrs: []string{hub.Addr}}
	theirs := token.Claim(victim, hub.ID, "victim")
	renamed := theirs
	renamed.Device = thief.ID()
	elsewhere := token.Claim(thief.ID(), victim, "thief")
	toHere := elsewhere
	toHere.Hub = hub.ID
	for name, c := range map[string]enroll.Claim{"another device's": theirs, "another device's under its own name": renamed,
		"for another hub": elsewhere, "for another hub, changed": toHere} {
		if err := node.ClaimAt(t.Context(), at, c); err == nil {
			t.Errorf("a claim %s was taken", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	awaitAudited(t, hub, "refused-claim", "the proof is wrong")
	if r, err := node.PollApproval(t.Context(), at); err != nil || r.Granted {
		t.Errorf("the thief is granted: %v, %v", r.Granted, err)
	}
	if err := node.ClaimAt(t.Context(), at, token.Claim(thief.ID(), hub.ID, "honest")); err != nil { // else the claims above prove nothing
		t.Errorf("a right claim was refused: %v", err)
	}
}
