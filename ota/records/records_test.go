// SPDX-License-Identifier: Apache-2.0

package records_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/records"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func key(seed byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)))
}

const at = 1_700_000_000_000

// newFleet has an owner (1), an operator for channel stable (2), one who may update nothing (3), and a device (4).
func newFleet(t testing.TB) *fleet.Fleet {
	t.Helper()
	recovery, err := journal.GenerateReaderKey()
	ok(t, err)
	f, err := fleet.Found(fleet.Founding{Name: "test", Owner: key(1), Spare: key(9).ID(), Recovery: recovery.Public()}, time.UnixMilli(at))
	ok(t, err)
	f, err = f.Grant(fleet.Author{Key: key(1)}, time.UnixMilli(at+1),
		fleet.Grant{Member: key(2).ID(), Name: "ann", Roles: fleet.Operator, Rights: []fleet.Right{{Do: fleet.Update, On: []string{"site=lab"}, What: []string{"stable"}}}},
		fleet.Grant{Member: key(3).ID(), Name: "bob", Roles: fleet.Operator, Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"*"}}}},
		fleet.Grant{Member: key(4).ID(), Name: "device", Roles: fleet.Device})
	ok(t, err)
	return f
}

func sign(t testing.TB, f *fleet.Fleet, seed byte, name string, version uint64, body string) []byte {
	t.Helper()
	raw, err := records.Sign(key(seed), f.ID(), name, version, []byte(body))
	ok(t, err)
	return raw
}

// TestWhoMaySignWhat: TUF files who may update anything, a rollout who may update that channel, progress the device itself; nobody else, and nothing elsewhere.
func TestWhoMaySignWhat(t *testing.T) {
	f := newFleet(t)
	tuf, roll, beta := records.Key(records.Metadata, "timestamp.json"), records.Key(records.Rollout, "stable"), records.Key(records.Rollout, "beta")
	own := records.Key(records.Progress, key(4).ID().String())
	may := map[string][]byte{tuf: {1, 2}, roll: {1, 2}, beta: {1}, own: {4}}
	for name, who := range may {
		for seed := byte(1); seed <= 5; seed++ {
			_, err := records.Open(f, name, sign(t, f, seed, name, 3, "body"))
			if allowed := bytes.IndexByte(who, seed) >= 0; allowed != (err == nil) || err != nil && !errors.Is(err, fleet.ErrNotAllowed) {
				t.Errorf("%s by %d: %v", name, seed, err)
			}
		}
	}
	other := newFleet(t)
	for what, raw := range map[string][]byte{"another fleet's": sign(t, other, 1, roll, 3, "body"), "another key's": sign(t, f, 1, beta, 3, "body"),
		"nothing": nil, "cut off": sign(t, f, 1, roll, 3, "body")[:40]} {
		if _, err := records.Open(f, roll, raw); err == nil {
			t.Errorf("%s record was taken", what)
		}
	}
	raw := sign(t, f, 1, roll, 3, "body")
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if _, err := records.Open(f, roll, changed); err == nil {
			t.Fatalf("with byte %d changed it was taken", i)
		}
	}
}

// TestKeys: one form of each, and bodies within bounds.
func TestKeys(t *testing.T) {
	f := newFleet(t)
	for _, bad := range []string{"", "tuf/timestamp.json", "/tuf/", "/tuf/0.root.json", "/tuf/01.root.json", "/tuf/1.timestamp.json", "/tuf/x.json", "/tuf/../1.root.json", "/rollout/",
		"/rollout/Two", "/rollout/a/b", "/progress/x", "/head/x", "/rollout/" + string(make([]byte, 99))} {
		if _, err := records.Sign(key(1), f.ID(), bad, 1, nil); !errors.Is(err, records.ErrBadRecord) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for name, version := range map[string]uint64{"/tuf/3.root.json": 4, "/rollout/stable": 0} {
		if _, err := records.Sign(key(1), f.ID(), name, version, nil); !errors.Is(err, records.ErrBadRecord) {
			t.Errorf("%s with version %d: %v", name, version, err)
		}
	}
	if _, err := records.Sign(key(1), f.ID(), "/rollout/stable", 1, make([]byte, records.MaxRollout+1)); !errors.Is(err, records.ErrBadRecord) {
		t.Errorf("too large: %v", err)
	}
	if _, err := records.Sign(key(1), f.ID(), "/tuf/3.targets.json", 3, make([]byte, records.MaxMetadata)); err != nil {
		t.Errorf("as large as may be: %v", err)
	}
}

// TestShelfKeepsTheNewest: across a restart; older ones are refused, of two with one version all choose the same, and a signer who may no more does not stand in the way.
func TestShelfKeepsTheNewest(t *testing.T) {
	f := newFleet(t)
	now := func() *fleet.Fleet { return f }
	dir := t.TempDir()
	roll := records.Key(records.Rollout, "stable")
	s, err := records.OpenShelf(dir, now)
	ok(t, err)
	put := func(s *records.Shelf, raw []byte) (bool, error) {
		_, fresh, err := s.Put(roll, raw)
		return fresh, err
	}
	a, b := sign(t, f, 2, roll, 5, "a"), sign(t, f, 1, roll, 5, "b")
	if fresh, err := put(s, a); !fresh || err != nil {
		t.Fatalf("the first: %v, %v", fresh, err)
	}
	if fresh, err := put(s, a); fresh || err != nil {
		t.Errorf("the same again: %v, %v", fresh, err)
	}
	_, err = put(s, b)
	mem, merr := records.OpenShelf("", now)
	ok(t, merr)
	_, _ = put(mem, b)
	_, _ = put(mem, a)
	x, _ := s.Get(roll)
	y, _ := mem.Get(roll)
	if string(x.Body) != string(y.Body) || (string(x.Body) == "a") != errors.Is(err, records.ErrOlder) {
		t.Errorf("of two with one version %q and %q count: %v", x.Body, y.Body, err)
	}
	if _, err := put(s, sign(t, f, 1, roll, 4, "old")); !errors.Is(err, records.ErrOlder) {
		t.Errorf("an older one: %v", err)
	}
	_, err = put(s, sign(t, f, 2, roll, 1<<60, "far ahead"))
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "rollout-beta"), []byte("torn"), 0o600))
	s, err = records.OpenShelf(dir, now)
	ok(t, err)
	if r, there := s.Get(roll); !there || r.Version != 1<<60 || r.Signer != key(2).ID() {
		t.Errorf("after a restart: %+v", r)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	f, err = f.Revoke(fleet.Author{Key: key(1)}, time.UnixMilli(at+2), key(2).ID(), nil, "ran ahead")
	ok(t, err)
	if _, there := s.Get(roll); there {
		t.Error("what a revoked operator signed still counts")
	}
	if fresh, err := put(s, sign(t, f, 1, roll, 6, "again")); !fresh || err != nil {
		t.Errorf("after it: %v, %v", fresh, err)
	}
}

// TestShelfIsBounded: of snapshots and targets the newest stay, of roots all.
func TestShelfIsBounded(t *testing.T) {
	f := newFleet(t)
	s, err := records.OpenShelf(t.TempDir(), func() *fleet.Fleet { return f })
	ok(t, err)
	for v := uint64(1); v <= 20; v++ {
		for _, role := range []string{"root", "snapshot", "targets"} {
			name := records.Key(records.Metadata, fmt.Sprintf("%d.%s.json", v, role))
			_, _, err := s.Put(name, sign(t, f, 1, name, v, "{}"))
			ok(t, err)
		}
	}
	if n := len(s.All(records.Metadata)); n != 20+8+8 {
		t.Errorf("%d files are kept", n)
	}
	if _, there := s.Get("/tuf/20.targets.json"); !there {
		t.Error("the newest is gone")
	}
	if _, there := s.Get("/tuf/12.targets.json"); there {
		t.Error("an old one is kept")
	}
}

// FuzzOpen: nothing that was not signed for its key is taken, and what is taken has the bounds.
func FuzzOpen(f *testing.F) {
	fl := newFleet(f)
	roll := records.Key(records.Rollout, "stable")
	f.Add(roll, sign(f, fl, 1, roll, 1, "body"))
	f.Add("/tuf/1.root.json", sign(f, fl, 2, "/tuf/1.root.json", 1, "{}"))
	f.Add("/progress/x", []byte{0xd2, 0x84})
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		r, err := records.Open(fl, name, raw)
		if err != nil {
			return
		}
		again, err := records.Sign(map[bool]journal.SoftKey{true: key(1), false: key(2)}[r.Signer == key(1).ID()], fl.ID(), name, r.Version, r.Body)
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%s: %x is not what its signer signs: %v", name, raw, err)
		}
		if i := records.Select(fl, name, [][]byte{{1}, raw}); i != 1 {
			t.Fatalf("selected %d", i)
		}
	})
}
