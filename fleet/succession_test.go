// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

func succession(t testing.TB, f *fleet.Fleet, old, next byte) fleet.Succession {
	t.Helper()
	return must(fleet.OpenSuccession(f.ID(), must(fleet.SignSuccession(f.ID(), key(old), key(next)))(t)))(t)
}

// TestSuccession: the new key gets all that the old one has, both are members until the old one is revoked at its last segments, and what it signed until then counts.
func TestSuccession(t *testing.T) {
	old := device(21)
	old.Site, old.Labels, old.Addrs, old.Expires = "barn", []string{"floor=2", "site=barn"}, []string{"/ip4/203.0.113.21/tcp/4"}, now.UnixMilli()+1e9
	old.Rights = []fleet.Right{right(t, "command relay/switch on device-22")}
	f := must(found(t).Grant(by(1), now, old, device(22)))(t)
	s := succession(t, f, 21, 23)
	next := must(f.Succeed(by(1), now, s))(t)
	got, is := next.Member(id(23))
	want, _ := next.Member(id(21))
	want.Member, want.Serial = id(23), 1
	if a, b := must(journal.Encode(got))(t), must(journal.Encode(want))(t); !is || !bytes.Equal(a, b) {
		t.Errorf("the new key has %+v, want %+v", got, want)
	}
	for _, c := range []struct {
		f        *fleet.Fleet
		who, key byte
		same     bool
	}{{next, 23, 21, true}, {next, 21, 23, true}, {next, 23, 23, true}, {next, 22, 21, false}, {f, 23, 21, false}, {f, 21, 99, false}} {
		if c.f.SameDevice(id(c.who), id(c.key)) != c.same {
			t.Errorf("%d and %d are one device: %t", c.who, c.key, !c.same)
		}
	}
	if !next.Succeeds(s) || !next.May(id(23), fleet.Command, id(22), "relay/switch") || f.Succeeds(s) {
		t.Error("the new key is not in the old one's place, or was before")
	}
	if again := must(next.Succeed(by(1), now, s))(t); again != next {
		t.Error("the same succession once more changed the fleet")
	}
	chain := journal.Chain{Fleet: f.ID(), Device: id(21), Stream: "main", Incarnation: journal.Incarnation{1}}
	cut := fleet.Cut{Stream: "main", Incarnation: chain.Incarnation, Seq: 7, Hash: journal.Hash{7}}
	done := must(next.Revoke(by(1), now, id(21), []fleet.Cut{cut}, "rotated"))(t)
	if err := errors.Join(done.Accepts(chain, 6, journal.Hash{6}), done.Accepts(chain, 7, cut.Hash)); err != nil {
		t.Errorf("what was published before: %v", err)
	}
	if err := done.Accepts(chain, 8, journal.Hash{8}); !errors.Is(err, fleet.ErrRevoked) {
		t.Errorf("what the old key signs later: %v", err)
	}
	if !done.SameDevice(id(23), id(21)) || done.SameDevice(id(21), id(23)) {
		t.Error("after the revocation the new key speaks for the old one, and not the other way round")
	}
	if !done.Succeeds(s) {
		t.Error("the new key is not in the old one's place after all")
	}
}

// TestSuccession_Refused: an old proof, one for another's key, one that another made up, and one in another fleet change nothing.
func TestSuccession_Refused(t *testing.T) {
	f := must(found(t).Grant(by(1), now, device(21), device(22), hub(11), operator(41)))(t)
	s := succession(t, f, 21, 23)
	done := must(must(f.Succeed(by(1), now, s))(t).Revoke(by(1), now, id(21), nil, ""))(t)
	for name, c := range map[string]struct {
		in   *fleet.Fleet
		s    fleet.Succession
		want error
	}{
		"the old one again":           {done, s, fleet.ErrNotMember},
		"back to the old key":         {done, succession(t, f, 23, 21), fleet.ErrBadGrant},
		"another's key":               {f, succession(t, f, 21, 22), fleet.ErrBadGrant},
		"the owner's key":             {f, succession(t, f, 21, 1), fleet.ErrBadGrant},
		"the spare key":               {f, succession(t, f, 21, 2), fleet.ErrBadGrant},
		"of no member":                {f, succession(t, f, 77, 23), fleet.ErrNotMember},
		"of a hub":                    {f, succession(t, f, 11, 23), fleet.ErrBadGrant},
		"of an operator":              {f, succession(t, f, 41, 23), fleet.ErrBadGrant},
		"after it had another member": {must(f.Revoke(by(1), now, id(22), nil, ""))(t), succession(t, f, 21, 22), fleet.ErrBadGrant},
	} {
		if got, err := c.in.Succeed(by(1), now, c.s); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	limited := must(f.Grant(by(1), now, operator(42, right(t, "enrol device on site=barn"), right(t, "command * on *"))))(t)
	if _, err := limited.Succeed(by(42), now, s); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("by an operator without the right to enrol it: %v", err)
	}
	raw := must(fleet.SignSuccession(f.ID(), key(21), key(23)))(t)
	if _, err := fleet.OpenSuccession(journal.FleetID{1}, raw); !errors.Is(err, fleet.ErrWrongFleet) {
		t.Errorf("in another fleet: %v", err)
	}
	// The signatures of two honest successions do not make a third one.
	other := must(fleet.SignSuccession(f.ID(), key(22), key(24)))(t)
	type signed struct {
		_        struct{} `cbor:",toarray"`
		Says     fleet.Succession
		Old, New []byte
	}
	var a, b signed
	if err := errors.Join(journal.Decode(raw, &a), journal.Decode(other, &b)); err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]signed{
		"without the new key's":   {Says: a.Says, Old: a.Old, New: a.Old},
		"without the old key's":   {Says: a.Says, Old: a.New, New: a.New},
		"with another's":          {Says: fleet.Succession{Fleet: f.ID(), Old: id(21), New: id(24)}, Old: a.Old, New: b.New},
		"to itself":               {Says: fleet.Succession{Fleet: f.ID(), Old: id(21), New: id(21)}, Old: a.Old, New: a.Old},
		"with no signature":       {Says: a.Says},
		"with a longer signature": {Says: a.Says, Old: a.Old, New: append(bytes.Clone(a.New), 0)},
	} {
		if got, err := fleet.OpenSuccession(f.ID(), must(journal.Encode(forged))(t)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x20
		if got, err := fleet.OpenSuccession(f.ID(), bad); err == nil {
			t.Fatalf("byte %d of %d does not count: %+v", i, len(raw), got)
		}
	}
}

// FuzzSuccession: what opens is in its one form, and names two keys that are not one.
func FuzzSuccession(f *testing.F) {
	in := journal.FleetID{3}
	for _, next := range []byte{22, 23} {
		raw, err := fleet.SignSuccession(in, key(21), key(next))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := fleet.OpenSuccession(in, raw)
		if err != nil {
			return
		}
		if s.Fleet != in || s.Old == s.New || s.Old != id(21) || !slices.Contains([]edge.ID{id(22), id(23)}, s.New) {
			t.Errorf("%+v, which nobody signed", s)
		}
	})
}

// TestNextKey: the next key lies as the present one lies, is made once, and takes its place in one step.
func TestNextKey(t *testing.T) {
	for _, origin := range []fleet.KeyOrigin{fleet.FromFile, fleet.FromTPM} {
		s := fleet.KeySource{Dir: t.TempDir(), TPM: flip{}}
		newKey(t, filepath.Join(s.Dir, fleet.KeyFile), 0o600)
		if _, err := s.OpenNext(fleet.FromFile); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: none was made: %v", origin, err)
		}
		if origin == fleet.FromTPM {
			check(t, s.SealKey())
		}
		present, from, err := fleet.OpenKey(s)
		check(t, err)
		next := must(s.NextKey(from))(t)
		if again := must(s.NextKey(from))(t); again.ID() != next.ID() || next.ID() == present.ID() || from != origin {
			t.Errorf("%s: the next key is %s, then %s, of one from %s", origin, next.ID(), again.ID(), from)
		}
		if key, _, err := fleet.OpenKey(s); err != nil || key.ID() != present.ID() {
			t.Errorf("%s: before it is adopted: %s, %v", origin, key.ID(), err)
		}
		for _, name := range names(t, s.Dir) {
			info, err := os.Stat(filepath.Join(s.Dir, name))
			check(t, err)
			if info.Mode().Perm() != 0o600 || origin == fleet.FromTPM && filepath.Ext(name) != ".tpm" {
				t.Errorf("%s: %s has mode %s", origin, name, info.Mode())
			}
		}
		check(t, s.AdoptNext(from))
		if key, at, err := fleet.OpenKey(s); err != nil || key.ID() != next.ID() || at != origin || len(names(t, s.Dir)) != 1 {
			t.Errorf("%s: adopted: %s from %s, %v; files %v", origin, key.ID(), at, err, names(t, s.Dir))
		}
		if err := s.AdoptNext(from); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: twice: %v", origin, err)
		}
	}
}

// TestNextKey_SealedMeanwhile: a member whose key is sealed after it made the next one has that sealed, too, and no key is left in a file.
func TestNextKey_SealedMeanwhile(t *testing.T) {
	s := fleet.KeySource{Dir: t.TempDir(), TPM: flip{}}
	newKey(t, filepath.Join(s.Dir, fleet.KeyFile), 0o600)
	next := must(s.NextKey(fleet.FromFile))(t)
	check(t, s.SealKey())
	if got := must(s.NextKey(fleet.FromTPM))(t); got.ID() != next.ID() {
		t.Errorf("the next key is %s, was %s", got.ID(), next.ID())
	}
	check(t, s.AdoptNext(fleet.FromTPM))
	if key, from, err := fleet.OpenKey(s); err != nil || key.ID() != next.ID() || from != fleet.FromTPM || !slices.Equal(names(t, s.Dir), []string{fleet.SealedKeyFile}) {
		t.Errorf("%s from %s, %v; files %v", key.ID(), from, err, names(t, s.Dir))
	}
	for _, do := range []func() error{
		func() error { _, err := s.NextKey(fleet.FromCredential); return err }, func() error { return s.AdoptNext(fleet.FromCredential) },
	} {
		if err := do(); !errors.Is(err, fleet.ErrNotReplaceable) {
			t.Errorf("a credential: %v", err)
		}
	}
	s.TPM = flip{forgets: true}
	if _, err := s.NextKey(fleet.FromTPM); !errors.Is(err, fleet.ErrNoTPM) {
		t.Errorf("a TPM that forgets: %v", err)
	}
}

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
