// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// TestRights_HandedOnNeverWiden holds covers against what it means, over all pairs of small rights: whoever may hand on a right may itself all that the right
// allows. Patterns with stars in odd places are among them.
func TestRights_HandedOnNeverWiden(t *testing.T) {
	words := []string{"*", "**", "a", "a*", "ab", "ab*", "*a", "a*b*", "b"}
	things := []string{"a", "ab", "abc", "b", "", "*", "*a", "a*b", "a*bc", "**"}
	ons := []string{"*", "one", "site=lab", "x=1"}
	members := []*fleet.Grant{{Member: id(1), Name: "one"}, {Member: id(2), Name: "two", Site: "lab"}, {Member: id(3), Name: "three", Labels: []string{"site=lab", "x=1"}}}
	var rights []fleet.Right
	for _, on := range ons {
		for _, what := range words {
			rights = append(rights, fleet.Right{Do: fleet.Read, On: []string{on}, What: []string{what}})
		}
	}
	rights = append(rights, fleet.Right{Do: fleet.Read, On: []string{"one", "x=1"}, What: []string{"a", "b"}}, fleet.Right{Do: fleet.Command, On: []string{"*"}, What: []string{"*"}})
	handed := 0
	for _, mine := range rights {
		for _, given := range rights {
			if !fleet.Covers([]fleet.Right{mine}, given) {
				continue
			}
			handed++
			for _, m := range members {
				for _, what := range things {
					if fleet.Allows([]fleet.Right{given}, given.Do, m, what) && !fleet.Allows([]fleet.Right{mine}, given.Do, m, what) {
						t.Fatalf("who has %q hands on %q, which allows %q on %s", mine, given, what, m.Name)
					}
				}
			}
		}
		if !fleet.Covers([]fleet.Right{mine}, mine) || mine.Do == fleet.Read && !fleet.Covers(fleet.Everything(), mine) {
			t.Errorf("%q cannot be handed on by who has it, or everything", mine)
		}
	}
	if handed < len(rights) {
		t.Errorf("only %d pairs", handed)
	}
}

// history makes a fleet in which several signers, that do not hear of each other all the time, do all they can. It returns what each of them knows.
func history(t *testing.T, r *rand.Rand) []*fleet.Fleet {
	t.Helper()
	f := must(found(t).Grant(by(1), now, operator(41), operator(42, right(t, "enrol device on site=lab"), right(t, "enrol collector on site=lab")), operator(43), hub(11),
		labelled(20, "site=lab")))(t)
	p := fleet.Policy{ID: fleet.TokenID{1}, Executor: id(11), Roles: fleet.Device, Labels: []string{"site=lab"}, Uses: 3, Expires: now.Add(time.Hour).UnixMilli()}
	f = must(f.Append(by(43), now, fleet.Entry{Policy: &p}))(t)
	known := []*fleet.Fleet{f, f, f, f, f}
	writers := []byte{1, 41, 42, 43, 11}
	for step := range 40 {
		i := r.IntN(len(writers))
		author := by(writers[i])
		author.Life[2] = byte(r.IntN(2)) // two lives of each
		next, err := act(known[i], author, r, p, step)
		if err == nil {
			known[i] = next
		} else if !errors.Is(err, fleet.ErrNotAllowed) && !errors.Is(err, fleet.ErrNotMember) {
			t.Fatal(err)
		}
		if other := known[r.IntN(len(known))]; r.IntN(3) == 0 {
			known[i] = must(known[i].Merge(other.Delta(known[i].Digest())))(t)
		}
	}
	return known
}

// act is one thing that somebody says.
func act(f *fleet.Fleet, by fleet.Author, r *rand.Rand, p fleet.Policy, step int) (*fleet.Fleet, error) {
	target := byte(20 + r.IntN(8))
	g := labelled(target, []string{"site=lab", "site=barn"}[r.IntN(2)])
	g.Name = fmt.Sprint("d", step)
	switch owner := by.Key.ID() == id(1); {
	case by.Key.ID() == id(11):
		g.Labels, g.Token = p.Labels, p.ID
		return f.Grant(by, now, g)
	case owner && r.IntN(6) == 0:
		return f.Revoke(by, now, id(byte(41+r.IntN(3))), f.Tips(id(41)), "")
	case owner && r.IntN(4) == 0:
		return f.Grant(by, now, operator(byte(41+r.IntN(3))))
	case r.IntN(4) == 0:
		return f.Retain(by, now, keep([]string{"a", "b"}[r.IntN(2)], time.Duration(r.IntN(4))*day, []string{"*", "site=lab", "site=barn"}[r.IntN(3)]))
	case r.IntN(4) == 0:
		return f.Revoke(by, now, id(target), []fleet.Cut{{Stream: "main", Seq: uint64(r.IntN(5))}}, "")
	}
	return f.Grant(by, now, g)
}

// part is a piece of one log, as it may travel alone.
type part [][]byte

// pieces cuts everything that anybody knows into parts.
func pieces(known []*fleet.Fleet, r *rand.Rand) (out []part) {
	for _, f := range known {
		for _, l := range f.Parts().Logs {
			for len(l) > 0 {
				n := 1 + r.IntN(len(l))
				out = append(out, part(l[:n]))
				l = l[n:]
			}
		}
	}
	return out
}

// TestMerge_AnySequenceOfParts: however what everybody knows is cut up and in whatever order it comes, again and again as members compare, it gives one fleet.
func TestMerge_AnySequenceOfParts(t *testing.T) {
	ignored, retentions := 0, 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		known := history(t, r)
		var want *fleet.Fleet
		for round := range 4 {
			got := must(known[r.IntN(len(known))].Merge(fleet.Bundle{}))(t)
			got = settle(t, got, pieces(known, r), r)
			if round == 0 {
				want, ignored, retentions = got, ignored+got.Ignored(), retentions+len(got.Retentions())
				continue
			}
			if got.Digest().Hash() != want.Digest().Hash() || got.Ignored() != want.Ignored() {
				t.Fatalf("history %d: two members know different fleets", seed)
			}
			if !bytes.Equal(must(journal.Encode(got.Retentions()))(t), must(journal.Encode(want.Retentions()))(t)) {
				t.Fatalf("history %d: two members hold for %+v and %+v", seed, got.Retentions(), want.Retentions())
			}
			for i, g := range got.Members() {
				if !bytes.Equal(must(journal.Encode(g))(t), must(journal.Encode(want.Members()[i]))(t)) {
					t.Fatalf("history %d: two members see %+v and %+v", seed, g, want.Members()[i])
				}
			}
		}
		if again := must(fleet.Open(must(want.Encoded())(t), want.ID()))(t); again.Digest().Hash() != want.Digest().Hash() {
			t.Fatalf("history %d: a restart changes it", seed)
		}
	}
	if ignored == 0 || retentions == 0 {
		t.Errorf("%d words that their signers may not say, %d retentions: the test shows little", ignored, retentions)
	}
}

// settle offers the parts in any order until nothing is new. What lacks its beginning is refused and comes again.
func settle(t *testing.T, f *fleet.Fleet, parts []part, r *rand.Rand) *fleet.Fleet {
	t.Helper()
	for {
		before := f.Digest().Hash()
		for _, i := range r.Perm(len(parts)) {
			got, err := f.Merge(fleet.Bundle{Logs: [][][]byte{parts[i]}})
			if err != nil && !errors.Is(err, journal.ErrBadSeq) {
				t.Fatal(err)
			}
			if got != nil {
				f = got
			}
		}
		if f.Digest().Hash() == before {
			return f
		}
	}
}

// FuzzMerge: whatever entries an operator for one site, a hub with a policy, a revoked operator and a stranger sign, the fleet stays whole and what they may not
// touch stays as it was.
func FuzzMerge(f *testing.F) {
	base := must(found(f).Grant(by(1), now, operator(41, right(f, "enrol device on site=lab")), operator(42), hub(11), labelled(21, "site=barn"), labelled(22, "site=lab")))(f)
	p := fleet.Policy{ID: fleet.TokenID{1}, Executor: id(11), Roles: fleet.Device, Labels: []string{"site=lab"}, Uses: 2, Expires: now.Add(time.Hour).UnixMilli()}
	base = must(base.Append(by(42), now, fleet.Entry{Policy: &p}))(f)
	base = must(base.Revoke(by(1), now, id(42), base.Tips(id(42)), "left"))(f)
	foreign := labelled(21, "site=lab")
	token := labelled(23, "site=lab")
	token.Token = p.ID
	for _, g := range []fleet.Grant{hub(12), foreign, token, operator(41), device(1)} {
		f.Add(must(journal.Encode(one(g, 1)))(f), uint8(1))
		f.Add(must(journal.Encode(one(g, 2)))(f), uint8(1))
	}
	f.Add(must(journal.Encode([]fleet.Entry{{Policy: &p}, {Revoke: &fleet.Revocation{Member: id(11), Serial: 9}}}))(f), uint8(2))
	f.Fuzz(func(t *testing.T, payload []byte, count uint8) {
		if len(payload) == 0 || len(payload) > 1<<16 {
			return
		}
		for _, seed := range []byte{41, 42, 11, 99} {
			c := base.LogChain()
			c.Device, c.Incarnation = id(seed), journal.Incarnation{seed, 9}
			part := fleet.Bundle{Logs: [][][]byte{{fleet.LogEntry(t, c, nil, key(seed), payload, int(count)%32)}}}
			got, err := base.Merge(part)
			if err != nil {
				continue // not what an entry is
			}
			untouched(t, base, got)
			if again, err := got.Merge(part); err != nil || again.Digest().Hash() != got.Digest().Hash() {
				t.Fatalf("the same again is something new: %v", err)
			}
			if _, err := fleet.Open(must(got.Encoded())(t), base.ID()); err != nil {
				t.Fatalf("what was merged does not open: %v", err)
			}
		}
	})
}

func untouched(t *testing.T, base, got *fleet.Fleet) {
	t.Helper()
	for _, seed := range []byte{11, 21, 41} {
		g, _ := got.Member(id(seed))
		if old, _ := base.Member(id(seed)); !slices.Equal(g.Labels, old.Labels) || g.Roles != old.Roles || g.Name != old.Name {
			t.Fatalf("member %d is %+v", seed, g)
		}
	}
	for _, owner := range []edge.ID{id(1), id(2)} {
		if _, granted := got.Member(owner); granted || !got.IsMember(owner) {
			t.Fatal("something was said of an owner")
		}
	}
	for _, g := range got.Members() {
		if _, old := base.Member(g.Member); !old && (g.Roles != fleet.Device || len(g.Rights) > 0 || !slices.Contains(g.Labels, "site=lab") && g.Site != "lab") {
			t.Fatalf("a newcomer beyond the rights: %+v", g)
		}
	}
}
