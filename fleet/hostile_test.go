// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// said is a fleet log as its signer makes it who keeps no rule.
func said(t testing.TB, f *fleet.Fleet, seed byte, life journal.Incarnation, parts ...[]fleet.Entry) [][]byte {
	t.Helper()
	c := f.LogChain()
	c.Device, c.Incarnation = id(seed), life
	var log [][]byte
	for _, part := range parts {
		log = append(log, fleet.LogEntry(t, c, log, key(seed), must(journal.Encode(part))(t), len(part)))
	}
	return log
}

func one(g fleet.Grant, serial uint64) []fleet.Entry {
	g.Serial = serial
	return []fleet.Entry{{Grant: &g}}
}

// offered is the fleet once the logs have arrived.
func offered(t testing.TB, f *fleet.Fleet, logs ...[][]byte) *fleet.Fleet {
	t.Helper()
	return must(f.Merge(fleet.Bundle{Logs: logs}))(t)
}

// An operator for one site takes no member of another one for itself: by no grant, of no serial, in no life of its log.
func TestHostileOperator_TakesNoForeignMember(t *testing.T) {
	limited := right(t, "enrol device on site=lab")
	f := must(found(t).Grant(by(1), now, operator(41, limited), operator(40), operator(60), labelled(21, "site=barn"), hub(11)))(t)
	f = must(f.Grant(by(40), now, labelled(22, "site=barn")))(t)
	f = must(f.Grant(by(60), now, labelled(23, "site=barn")))(t)
	for _, seed := range []byte{21, 22, 23} {
		if _, err := f.Grant(by(41), now, labelled(seed, "site=lab")); !errors.Is(err, fleet.ErrNotAllowed) {
			t.Errorf("device %d is brought over to the operator's own site: %v", seed, err)
		}
		for _, serial := range []uint64{1, 2, math.MaxUint64} {
			for life := range byte(8) {
				a := labelled(seed, "site=lab")
				a.Name = "a" // before any other in the order of bytes
				got := offered(t, f, said(t, f, 41, journal.Incarnation{life}, one(a, serial),
					[]fleet.Entry{{Revoke: &fleet.Revocation{Member: id(seed), Serial: serial}}}))
				if g, ok := got.Member(id(seed)); !ok || g.Labels[0] != "site=barn" {
					t.Fatalf("device %d, serial %d: %+v, a member: %t", seed, serial, g, ok)
				}
			}
		}
	}
	if _, err := f.Grant(by(41), now, func() fleet.Grant { g := labelled(11, "site=lab"); return g }()); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a hub is made a device of the lab: %v", err)
	}
	revoked := must(f.Revoke(by(60), now, id(21), nil, ""))(t)
	if _, err := revoked.Grant(by(41), now, labelled(21, "site=lab")); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a revoked device of another site comes back: %v", err)
	}
	for _, owner := range []byte{1, 2} {
		if _, err := f.Grant(by(60), now, device(owner)); !errors.Is(err, fleet.ErrNotAllowed) {
			t.Errorf("an operator says something of owner %d: %v", owner, err)
		}
	}
}

// A revocation that was right when it was made stays right when somebody else takes the member in later.
func TestRevoke_StaysWhenTheMemberMovedOn(t *testing.T) {
	cut := fleet.Cut{Stream: "main", Incarnation: journal.Incarnation{7}, Seq: 10, Hash: journal.Hash{1}}
	f := must(found(t).Grant(by(1), now, operator(41, right(t, "enrol device on site=lab")), operator(42), labelled(21, "site=lab")))(t)
	f = must(f.Revoke(by(41), now, id(21), []fleet.Cut{cut}, "stolen"))(t)
	f = must(f.Grant(by(42), now, labelled(21, "site=barn")))(t)
	chain := journal.Chain{Fleet: f.ID(), Device: id(21), Stream: "main", Incarnation: journal.Incarnation{7}}
	if f.Ignored() != 0 || !f.IsMember(id(21)) || f.Accepts(chain, 11, journal.Hash{}) == nil {
		t.Errorf("%d ignored, what the thief signed counts: %t", f.Ignored(), f.Accepts(chain, 11, journal.Hash{}) == nil)
	}
}

// No serial puts a member out of reach of a revocation.
func TestHostileOperator_SerialsDoNotRunOut(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41)))(t)
	f = offered(t, f, said(t, f, 41, journal.Incarnation{9}, one(device(21), math.MaxUint64)))
	if !f.IsMember(id(21)) {
		t.Fatal("not a member: the test shows nothing")
	}
	revoked := must(f.Revoke(by(1), now, id(21), nil, ""))(t)
	if revoked.IsMember(id(21)) {
		t.Error("it cannot be revoked")
	}
	if _, err := revoked.Grant(by(1), now, device(21)); !errors.Is(err, fleet.ErrBadGrant) {
		t.Errorf("granted again without a serial: %v", err)
	}
	healed := must(f.Revoke(by(1), now, id(41), nil, "hostile"))(t)
	if healed = must(healed.Grant(by(1), now, device(21)))(t); !healed.IsMember(id(21)) {
		t.Error("the key stays useless when the operator that spoilt it is gone")
	}
}

// A policy with the id of another operator's takes nothing from those who came in under the first.
func TestHostileOperator_TakesNoForeignPolicy(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(40, right(t, "enrol device on site=lab")), operator(41), hub(11)))(t)
	p := fleet.Policy{ID: fleet.TokenID{1}, Executor: id(11), Roles: fleet.Device, Labels: []string{"site=barn"}, Uses: 2, Expires: now.Add(time.Hour).UnixMilli()}
	f = must(f.Append(by(41), now, fleet.Entry{Policy: &p}))(t)
	g := labelled(21, "site=barn")
	g.Token = p.ID
	f = must(f.Grant(by(11), now, g))(t)
	for name, change := range map[string]func(*fleet.Policy){
		"another executor": func(p *fleet.Policy) { p.Executor = id(99) }, "other labels": func(*fleet.Policy) {}, "one use": func(p *fleet.Policy) { p.Uses = 1 },
		"an early end": func(p *fleet.Policy) { p.Expires = 1 },
	} {
		stolen := p
		stolen.Labels = []string{"site=lab"}
		change(&stolen)
		for life := range byte(4) {
			got := offered(t, f, said(t, f, 40, journal.Incarnation{life}, []fleet.Entry{{Policy: &stolen}}))
			if !got.IsMember(id(21)) {
				t.Errorf("%s: the device that came in under the policy is out", name)
			}
			next := labelled(22, "site=barn")
			next.Token = p.ID
			if _, err := got.Grant(by(11), now, next); err != nil {
				t.Errorf("%s: the policy's second use is gone: %v", name, err)
			}
			if q, used, _ := got.Policy(p.ID); !slices.Equal(q.Labels, p.Labels) || q.Expires != p.Expires || used != 1 {
				t.Errorf("%s: the token's policy is %+v", name, q)
			}
			if all := got.PolicyOf(p.ID, id(11)); !slices.ContainsFunc(all, func(q fleet.Policy) bool { return slices.Equal(q.Labels, p.Labels) && q.Expires == p.Expires }) {
				t.Errorf("%s: the executor finds %+v", name, all)
			}
		}
	}
}

// Whoever could sign a policy may end it: the same again with an earlier end. A later end is none.
func TestPolicy_EndsEarly(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41), operator(42), hub(11)))(t)
	p := fleet.Policy{ID: fleet.TokenID{1}, Executor: id(11), Roles: fleet.Device, Uses: 2, Expires: now.Add(time.Hour).UnixMilli()}
	f = must(f.Append(by(41), now, fleet.Entry{Policy: &p}))(t)
	first, second := device(21), device(22)
	first.Token, second.Token = p.ID, p.ID
	f = must(f.Grant(by(11), now, first))(t)
	ended, longer := p, p
	ended.Expires, longer.Expires = now.Add(time.Minute).UnixMilli(), now.Add(100*time.Hour).UnixMilli()
	f = must(f.Append(by(42), now, fleet.Entry{Policy: &ended}))(t)
	f = must(f.Append(by(41), now, fleet.Entry{Policy: &longer}))(t)
	if _, err := f.Grant(by(11), now.Add(2*time.Minute), second); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a token is used after its policy was ended: %v", err)
	}
	if q, used, _ := f.Policy(p.ID); q.Expires != ended.Expires || used != 1 || !f.IsMember(id(21)) || len(f.Policies()) != 1 {
		t.Errorf("ends %d, %d used, %d policies", q.Expires, used, len(f.Policies()))
	}
}

// What one signer can put on everybody's disk has an end: in chains and in bytes.
func TestHostileOperator_FillsNoDisk(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41), operator(42), device(21)))(t)
	f = must(f.Grant(by(42), now, device(22)))(t)
	var logs [][][]byte
	for i := range 100 {
		logs = append(logs, said(t, f, 41, journal.Incarnation(binary.BigEndian.AppendUint64(make([]byte, 8), uint64(i))), one(device(byte(100+i%100)), 1)))
	}
	got := offered(t, f, logs...)
	if n := len(got.Parts().Logs); n > 70 {
		t.Errorf("%d logs are kept", n)
	}
	long := make([]fleet.Entry, 30)
	for i := range long {
		g := hub(30)
		g.Serial = uint64(i + 1)
		for range 16 {
			g.Addrs = append(g.Addrs, strings.Repeat("a", 256))
		}
		long[i].Grant = &g
	}
	var parts [][]fleet.Entry
	for range 45 {
		parts = append(parts, long)
	}
	got = offered(t, got, said(t, f, 41, journal.Incarnation{0: 1}, parts...), said(t, f, 41, journal.Incarnation{0: 2}, parts...))
	enc := must(got.Encoded())(t)
	if len(enc) > 9<<20 {
		t.Errorf("%d bytes are kept", len(enc))
	}
	again := must(fleet.Open(enc, f.ID()))(t)
	if !again.IsMember(id(21)) || !again.IsMember(id(22)) {
		t.Error("others' members are gone")
	}
	// what is left out does not come again and again
	if more := must(again.Merge(fleet.Bundle{Logs: logs}))(t); more.Digest().Hash() != again.Digest().Hash() {
		t.Error("the bound depends on the order")
	}
}

// Somebody who is no member makes no alarm about a fork by contradicting itself.
func TestHostileStranger_RaisesNoForkAlarm(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41), hub(11)))(t)
	f = must(f.Revoke(by(1), now, id(41), nil, "left"))(t)
	for _, seed := range []byte{99, 11, 41} {
		a, b := said(t, f, seed, journal.Incarnation{1}, one(device(21), 1)), said(t, f, seed, journal.Incarnation{1}, one(device(22), 1))
		if got, err := f.Merge(fleet.Bundle{Logs: [][][]byte{a, b}}); err != nil || got.Digest().Hash() != f.Digest().Hash() {
			t.Errorf("key %d: %v", seed, err)
		}
	}
}

// An operator whose appointment has run out says nothing more; what it said before stays.
func TestExpired_Operator(t *testing.T) {
	op := operator(41)
	op.Expires = now.Add(time.Hour).UnixMilli()
	f := must(found(t).Grant(by(1), now, op))(t)
	f = must(f.Grant(by(41), now, device(21)))(t)
	if _, err := f.Grant(by(41), now.Add(2*time.Hour), device(22)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("an expired operator grants: %v", err)
	}
	if !f.AsOf(now.Add(2 * time.Hour)).IsMember(id(21)) {
		t.Error("what it granted before went with it")
	}
}

// Less for an operator from now on takes nothing of what it said before.
func TestOperator_AppointedAnew(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41)))(t)
	f = must(f.Grant(by(41), now, device(21), hub(12)))(t)
	f = must(f.Grant(by(1), now, operator(41, right(t, "enrol device on site=lab"))))(t)
	if !f.IsMember(id(41)) || !f.IsMember(id(21)) || !f.IsMember(id(12)) || f.Ignored() != 0 {
		t.Errorf("%t %t %t, %d ignored", f.IsMember(id(41)), f.IsMember(id(21)), f.IsMember(id(12)), f.Ignored())
	}
	if _, err := f.Grant(by(41), now, labelled(24, "site=lab")); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("it goes on in its old chain: %v", err)
	}
	again := fleet.Author{Key: key(41), Life: journal.Incarnation{78}}
	if _, err := f.Grant(again, now, device(22)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("beyond its new rights: %v", err)
	}
	if f = must(f.Grant(again, now, labelled(22, "site=lab")))(t); !f.IsMember(id(22)) {
		t.Error("what its new rights allow does not count")
	}
	// the owner finds that the key was copied earlier than it had thought
	f = must(f.Grant(again, now, labelled(23, "site=lab")))(t)
	f = must(f.Revoke(by(1), now, id(41), f.Tips(id(41)), "left"))(t)
	if !f.IsMember(id(21)) || !f.IsMember(id(22)) || !f.IsMember(id(23)) {
		t.Error("what it said is gone")
	}
	seg := must(journal.Open(f.Parts().Logs[2][0], f.ID()))(t)
	earlier := fleet.Cut{Stream: seg.Chain.Stream, Incarnation: seg.Chain.Incarnation, Hash: seg.Hash}
	f = must(f.Revoke(by(1), now, id(41), []fleet.Cut{earlier}, "copied earlier"))(t)
	if !f.IsMember(id(21)) || !f.IsMember(id(22)) || f.IsMember(id(23)) {
		t.Error("the end of its chain is not set back")
	}
}

// A device makes chains as it likes; a revocation that names them all is made all the same.
func TestRevoke_OfManyChains(t *testing.T) {
	f := must(found(t).Grant(by(1), now, device(21)))(t)
	cuts := make([]fleet.Cut, 1000)
	for i := range cuts {
		cuts[i] = fleet.Cut{Stream: "main", Incarnation: journal.Incarnation(fmt.Appendf(nil, "%016d", i)[:len(journal.Incarnation{})]), Seq: uint64(i)}
		cuts[i].Incarnation[0] = byte(i)
		cuts[i].Incarnation[1] = byte(i >> 8)
	}
	f = must(f.Revoke(by(1), now, id(21), cuts, "stolen"))(t)
	if f.IsMember(id(21)) {
		t.Error("still a member")
	}
	for _, c := range cuts {
		chain := journal.Chain{Fleet: f.ID(), Device: id(21), Stream: "main", Incarnation: c.Incarnation}
		if f.Accepts(chain, c.Seq, c.Hash) != nil || f.Accepts(chain, c.Seq+1, journal.Hash{}) == nil {
			t.Fatalf("chain %s is not cut at %d", c.Incarnation, c.Seq)
		}
	}
}
