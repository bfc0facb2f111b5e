// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// The log's incarnation is random, so the golden bundle is opened and encoded again, not made again.
func TestGolden_Bundle(t *testing.T) {
	if *update {
		f := must(found(t).Grant(by(1), now, hub(11), device(21), collector(t, 31, "main")))(t)
		f = must(f.Amend(key(2), now, func(s *fleet.State) { s.Hubs = nil }))(t)
		record(t, "bundle", must(f.Encoded())(t))
		record(t, "state", f.Parts().States[1])
	}
	raw := golden(t, "bundle")
	f := must(fleet.Open(raw, journal.FleetID{}))(t)
	if again := must(f.Encoded())(t); !bytes.Equal(again, raw) {
		t.Errorf("encoded again: %x", again)
	}
	if s := golden(t, "state"); !bytes.Equal(f.Parts().States[1], s) || !bytes.Equal(fleet.SignAny(t, key(2), f.State()), s) {
		t.Error("the second state is not state.golden, or is not made again with the same bytes")
	}
	s := f.State()
	if s.Name != "orchard" || s.Version != 2 || s.Owners != [2]edge.ID{id(1), id(2)} || len(s.Hubs) != 0 || s.Time != now.UnixMilli() {
		t.Errorf("state %+v", s)
	}
	var names []string
	for _, g := range f.Members() {
		names = append(names, g.Name+"="+g.Roles.String())
	}
	if got, want := strings.Join(names, " "), "collector-31=collector device-21=device hub-11=hub"; got != want {
		t.Errorf("members %q, want %q", got, want)
	}
}

func TestOpen_RefusesEveryChangedByteAndEveryTruncation(t *testing.T) {
	raw := golden(t, "bundle")
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if f, err := fleet.Open(changed, journal.FleetID{}); err == nil || f != nil {
			t.Fatalf("byte %d changed: opened as %v, %v", i, f, err)
		}
		if _, err := fleet.Open(raw[:i], journal.FleetID{}); err == nil {
			t.Fatalf("cut to %d bytes: opened", i)
		}
	}
	if _, err := fleet.Open(append(bytes.Clone(raw), 0), journal.FleetID{}); err == nil {
		t.Error("opened with a byte after it")
	}
}

func TestOpen_Pinned(t *testing.T) {
	a, b := found(t), found(t)
	raw := must(a.Encoded())(t)
	if _, err := fleet.Open(raw, a.ID()); err != nil {
		t.Error(err)
	}
	if _, err := fleet.Open(raw, b.ID()); !errors.Is(err, fleet.ErrWrongFleet) {
		t.Errorf("wrong fleet: %v", err)
	}
}

// Each state is signed by an owner that the state before it names: the spare too, and nobody else.
func TestOpen_StatesAreSignedByAnOwnerOfTheStateBefore(t *testing.T) {
	f := found(t)
	first := f.Parts().States
	next := func(change func(*fleet.State)) fleet.State {
		s := f.Next(t)
		change(&s)
		return s
	}
	same := func(*fleet.State) {}
	rotated := next(func(s *fleet.State) { s.Owners, s.LogWriter = [2]edge.ID{id(2), id(3)}, id(2) })
	for _, c := range []struct {
		name   string
		signed []byte
		want   error
	}{
		{"by the active owner", fleet.SignAny(t, key(1), next(same)), nil},
		{"by the spare", fleet.SignAny(t, key(2), next(same)), nil},
		{"rotation by the spare", fleet.SignAny(t, key(2), rotated), nil},
		{"rotation by the new owner itself", fleet.SignAny(t, key(3), rotated), fleet.ErrNotOwner},
		{"by a stranger", fleet.SignAny(t, key(4), next(same)), fleet.ErrNotOwner},
		{"skipped version", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Version++ })), fleet.ErrRollback},
		{"same version", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Version-- })), fleet.ErrWrongFleet},
		{"other predecessor", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Prev[0]++ })), fleet.ErrRollback},
		{"unknown format", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Format = 2 })), fleet.ErrBadState},
		{"no name", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Name = "" })), fleet.ErrBadState},
		{"no recovery key", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Recovery = nil })), fleet.ErrBadState},
		{"no spare", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Owners[1] = edge.ID{} })), fleet.ErrBadState},
		{"no active", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Owners[0] = edge.ID{1} })), fleet.ErrBadState},
		{"active and spare in one", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Owners[1] = id(1) })), fleet.ErrBadState},
		{"log by a non-owner", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.LogWriter = id(4) })), fleet.ErrBadState},
		{"hub without key", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Hubs = []fleet.Bootstrap{{Addrs: []string{"/dns/hub"}}} })), fleet.ErrBadState},
		{"hub that moves the cursor", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.Hubs = []fleet.Bootstrap{{ID: id(11), Site: "\x1b[2J"}} })), fleet.ErrBadState},
		{"larger than 4096 bytes", fleet.SignAny(t, key(1), next(func(s *fleet.State) { s.UpdateRoot = make([]byte, fleet.MaxState) })), fleet.ErrTooLarge},
		{"nonsense", fleet.SignPayload(t, key(1), []byte{0x80}), journal.ErrMalformed},
		{"null for an empty list", fleet.SignPayload(t, key(1), nullHubs(t, next(func(s *fleet.State) { s.Hubs = nil }))), journal.ErrNotCanonical},
	} {
		got, err := open(t, append(slices.Clone(first), c.signed), nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if (got == nil) == (err == nil) {
			t.Errorf("%s: a fleet and an error at once", c.name)
		}
	}
	if _, err := open(t, nil, nil); !errors.Is(err, fleet.ErrNotOwner) {
		t.Errorf("no state: %v", err)
	}
	s := f.State()
	if _, err := open(t, [][]byte{fleet.SignAny(t, key(2), s)}, nil); !errors.Is(err, fleet.ErrNotOwner) {
		t.Errorf("the first state signed by its spare: %v", err)
	}
}

// entries are grants with the serial that a first one has.
func entries(grants ...fleet.Grant) []fleet.Entry {
	out := make([]fleet.Entry, len(grants))
	for i, g := range grants {
		g.Serial = 1
		out[i].Grant = &g
	}
	return out
}

// nullHubs writes the state with null where its empty lists of hubs and update root stand (the last 0x80 0x40).
func nullHubs(t *testing.T, s fleet.State) []byte {
	t.Helper()
	payload := must(journal.Encode(s))(t)
	at := bytes.LastIndex(payload, []byte{0x80, 0x40})
	if at < 0 {
		t.Fatal("the state has no empty lists")
	}
	payload[at], payload[at+1] = 0xf6, 0xf6
	return payload
}

func TestOpen_LogIsTheOwnersAlone(t *testing.T) {
	f := must(found(t).Grant(by(1), now, hub(11)))(t)
	states, log := f.Parts().States, f.Parts().Logs[0]
	chain := f.LogChain()
	byDevice, other, elsewhere := chain, chain, chain
	byDevice.Device, other.Incarnation, elsewhere.Stream = id(21), journal.Incarnation{1}, "main"
	grant := must(journal.Encode(entries(device(21))))(t)
	second := fleet.LogEntry(t, chain, log, key(1), grant, 1)
	all := []string{"*"}
	bad := func(change func(*fleet.Grant)) []byte {
		g := device(21)
		g.Serial = 1
		change(&g)
		return fleet.LogEntry(t, chain, log, key(1), must(journal.Encode([]fleet.Entry{{Grant: &g}}))(t), 1)
	}
	for _, c := range []struct {
		name string
		log  [][]byte
		want error
	}{
		{"next entry", [][]byte{log[0], second}, nil},
		{"log by a non-owner", [][]byte{fleet.LogEntry(t, byDevice, nil, key(21), grant, 1)}, fleet.ErrBadState},
		{"entry by a non-owner", [][]byte{log[0], fleet.LogEntry(t, byDevice, log, key(21), grant, 1)}, fleet.ErrBadGrant},
		{"other life of the log", [][]byte{fleet.LogEntry(t, other, nil, key(1), grant, 1)}, fleet.ErrBadState},
		{"other stream", [][]byte{fleet.LogEntry(t, elsewhere, nil, key(1), grant, 1)}, fleet.ErrBadGrant},
		{"without its beginning", [][]byte{second}, journal.ErrBadSeq},
		{"twice", [][]byte{log[0], log[0]}, fleet.ErrBadState},
		{"forked", [][]byte{fleet.LogEntry(t, chain, nil, key(1), grant, 1), second}, journal.ErrFork},
		{"another count", [][]byte{log[0], fleet.LogEntry(t, chain, log, key(1), grant, 2)}, fleet.ErrBadGrant},
		{"nonsense", [][]byte{log[0], fleet.LogEntry(t, chain, log, key(1), []byte{0xa0}, 0)}, journal.ErrMalformed},
		{"grant to nobody", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Member = edge.ID{} })}, fleet.ErrBadGrant},
		{"no role", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Roles = 0 })}, fleet.ErrBadGrant},
		{"unknown role", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Roles = 16 })}, fleet.ErrBadGrant},
		{"no name", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Name = "" })}, fleet.ErrBadGrant},
		{"collector without key", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Roles |= fleet.Collector })}, fleet.ErrBadGrant},
		{"bad reader key", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Reader = []byte{1} })}, fleet.ErrBadGrant},
		{"unknown right", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Rights = []fleet.Right{{Do: "own", On: all, What: all}} })}, fleet.ErrBadGrant},
		{"right to nothing", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Rights = []fleet.Right{{Do: fleet.Read, On: all}} })}, fleet.ErrBadGrant},
		{"labels out of order", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Labels = []string{"b=1", "a=1"} })}, fleet.ErrBadGrant},
		{"one label twice", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Labels = []string{"a=1", "a=2"} })}, fleet.ErrBadGrant},
		{"label without value", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Labels = []string{"a"} })}, fleet.ErrBadGrant},
		{"a label of another site", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Site, g.Labels = "barn", []string{"site=lab"} })}, fleet.ErrBadGrant},
		{"serial 0", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Serial = 0 })}, fleet.ErrBadGrant},
		{"two contents in one entry", [][]byte{log[0], fleet.LogEntry(t, chain, log, key(1), must(journal.Encode(
			[]fleet.Entry{{Grant: &fleet.Grant{}, Revoke: &fleet.Revocation{}}}))(t), 1)}, fleet.ErrBadGrant},
		{"site that moves the cursor", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Site = "a\nb" })}, fleet.ErrBadGrant},
		{"too many addresses", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Addrs = make([]string, 17) })}, fleet.ErrBadGrant},
		{"too long an address", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Addrs = []string{strings.Repeat("a", 257)} })}, fleet.ErrBadGrant},
		{"too many rights", [][]byte{log[0], bad(func(g *fleet.Grant) { g.Rights = make([]fleet.Right, 17) })}, fleet.ErrBadGrant},
	} {
		if got, err := open(t, states, c.log); !errors.Is(err, c.want) || (got == nil) == (err == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	sealed := found(t)
	if _, err := open(t, sealed.Parts().States, log); !errors.Is(err, journal.ErrWrongFleet) {
		t.Errorf("another fleet's log: %v", err)
	}
}

func noHubs(s *fleet.State) { s.Hubs = nil }

func TestNewer_RefusesRollbackAndFork(t *testing.T) {
	first := found(t)
	second := must(first.Amend(key(1), now, noHubs))(t)
	otherSecond := must(first.Amend(key(2), now, func(s *fleet.State) { s.Hubs = []fleet.Bootstrap{{ID: id(12)}} }))(t)
	third := must(otherSecond.Amend(key(1), now, noHubs))(t)
	granted := must(first.Grant(by(1), now, hub(11)))(t)
	otherGranted := must(first.Grant(by(1), now, hub(12)))(t)
	more := must(granted.Grant(by(1), now, hub(12)))(t)
	rotated := must(granted.Rotate(key(2), [2]edge.ID{id(2), id(3)}, -1, now))(t)
	for _, c := range []struct {
		name       string
		now, known *fleet.Fleet
		want       error
		fork       bool
	}{
		{"first contact", first, nil, nil, false},
		{"known", first, first, nil, false},
		{"newer state", second, first, nil, false},
		{"newer log", more, granted, nil, false},
		{"rotation begins another log", rotated, granted, nil, false},
		{"older state", first, second, fleet.ErrRollback, false},
		{"older log", granted, more, fleet.ErrRollback, false},
		{"newer state without the log", second, granted, fleet.ErrRollback, false},
		{"before the rotation", more, rotated, fleet.ErrRollback, false},
		{"same version, other hash", otherSecond, second, fleet.ErrRollback, true},
		{"higher version on another fork", third, second, fleet.ErrRollback, true},
		{"forked log", otherGranted, granted, fleet.ErrRollback, true},
		{"another fleet", found(t), first, fleet.ErrWrongFleet, false},
	} {
		err := c.now.Newer(c.known)
		if !errors.Is(err, c.want) || errors.Is(err, fleet.ErrFork) != c.fork {
			t.Errorf("%s: %v, want %v, fork %v", c.name, err, c.want, c.fork)
		}
	}
}
