// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// The tests of this file show that holes of the original Streembit are closed here, as far as package fleet goes; docs/security.md has all of them.

// TestPredecessor_SignatureCoversAll: the original signed the first 32 bytes of a text that began alike in every message, so that one signature fitted all. Here a
// signature of one entry fits no other one that begins with the same bytes, however many.
func TestPredecessor_SignatureCoversAll(t *testing.T) {
	f := found(t)
	reason := func(last byte) []byte {
		r := fleet.Revocation{Member: id(21), Serial: 1, Reason: string(append(bytes.Repeat([]byte{'x'}, 100), last))}
		return must(journal.Encode([]fleet.Entry{{Revoke: &r}}))(t)
	}
	first, other := reason('a'), reason('b')
	if !bytes.Equal(first[:120], other[:120]) || bytes.Equal(first, other) {
		t.Fatal("the payloads do not begin alike: the test shows nothing")
	}
	seg := fleet.LogEntry(t, f.LogChain(), nil, key(1), first, 1)
	must(f.Merge(fleet.Bundle{Logs: [][][]byte{{seg}}}))(t)
	moved := bytes.Replace(seg, first, other, 1)
	if _, err := f.Merge(fleet.Bundle{Logs: [][][]byte{{moved}}}); !errors.Is(err, journal.ErrTampered) {
		t.Errorf("another payload under the same signature: %v", err)
	}
	for i := range seg {
		bad := bytes.Clone(seg)
		bad[i] ^= 0x40
		if _, err := f.Merge(fleet.Bundle{Logs: [][][]byte{{bad}}}); err == nil {
			t.Fatalf("byte %d of %d does not count", i, len(seg))
		}
	}
}

// TestPredecessor_WhitelistIsEnforced: the original kept a list of the allowed, an administrator's flag and a permission of each device, and asked none of them.
// Here nobody may anything of what the grant does not name, the members of every other role included.
func TestPredecessor_WhitelistIsEnforced(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41, right(t, "command switch.0 on device-21")), hub(11), device(21), device(22), collector(t, 31, "main")))(t)
	allowed := map[string]bool{}
	for _, who := range []byte{11, 21, 22, 31, 41, 99} {
		for _, do := range []fleet.Verb{fleet.Read, fleet.Command, fleet.Enrol, fleet.Update, "", "own"} {
			for _, on := range []byte{11, 21, 22, 99} {
				for _, what := range []string{"main", "switch.0", "switch.01", "switch", "*", "", "device"} {
					if f.May(id(who), do, id(on), what) {
						allowed[string(rune('0'+who/10))+" "+string(do)+" "+what] = true
						if who == 41 && on != 21 {
							t.Errorf("the operator may %s %s on %d", do, what, on)
						}
					}
				}
			}
		}
	}
	if len(allowed) != 2 || !allowed["3 read main"] || !allowed["4 command switch.0"] {
		t.Errorf("allowed: %v", allowed)
	}
}

// TestPredecessor_NothingIsReplayed: the original checked no expiry and no counter; a message could be said again. Here what was said before, by anybody who has kept
// it, undoes nothing that came after, in any order.
func TestPredecessor_NothingIsReplayed(t *testing.T) {
	first := must(found(t).Grant(by(1), now, operator(41), device(21)))(t)
	second := must(first.Revoke(by(41), now, id(21), nil, "stolen"))(t)
	third := must(second.Amend(key(1), now.Add(time.Hour), noHubs))(t)
	want := third.Digest().Hash()
	for _, old := range []*fleet.Fleet{found(t), first, second} {
		if old.ID() != third.ID() {
			if _, err := third.Merge(old.Parts()); !errors.Is(err, fleet.ErrWrongFleet) {
				t.Errorf("another fleet's state: %v", err)
			}
			continue
		}
		got := must(third.Merge(old.Parts()))(t)
		if got.Digest().Hash() != want || got.IsMember(id(21)) {
			t.Error("an old bundle undoes something")
		}
	}
	// the same signed segments in a chain of another order, twice, and without the last
	log := third.Parts().Logs[1]
	for _, segments := range [][][]byte{slices.Repeat(log, 2), log[:len(log)-1], log[:1]} {
		if got, err := third.Merge(fleet.Bundle{Logs: [][][]byte{segments}}); err == nil && got.Digest().Hash() != want {
			t.Error("a part said again changes something")
		}
	}
}

// TestPredecessor_NoWindowOpensByItself: the original let any device join for three minutes after each start and each "allow". Here a newcomer needs a grant, or a
// policy that a person signed with a number of uses and an end.
func TestPredecessor_NoWindowOpensByItself(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41), hub(11)))(t)
	never := fleet.Policy{ID: fleet.TokenID{1}, Executor: id(11), Roles: fleet.Device, Uses: 1, Expires: now.Add(time.Hour).UnixMilli()}
	for name, change := range map[string]func(*fleet.Policy){
		"no end": func(p *fleet.Policy) { p.Expires = 0 }, "no number": func(p *fleet.Policy) { p.Uses = 0 }, "any number": func(p *fleet.Policy) { p.Uses = 1 << 31 },
		"operators": func(p *fleet.Policy) { p.Roles = fleet.Operator }, "readers": func(p *fleet.Policy) { p.Roles = fleet.Collector },
	} {
		p := never
		change(&p)
		if _, err := f.Append(by(41), now, fleet.Entry{Policy: &p}); !errors.Is(err, fleet.ErrBadGrant) {
			t.Errorf("a policy with %s: %v", name, err)
		}
	}
	g := device(21)
	g.Token = never.ID
	for _, author := range []fleet.Author{by(11), by(21)} {
		if _, err := f.Grant(author, now, g); !errors.Is(err, fleet.ErrNotAllowed) {
			t.Errorf("granted without a policy: %v", err)
		}
	}
}
