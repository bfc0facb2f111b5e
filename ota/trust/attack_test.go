// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

// The tests of this file are the attacks of the TUF specification (§1.5.2) against a device's store. docs/updates.md says what each of them
// proves, and that each fails once its check is taken out.

// refused wants a refresh to fail in one way, and the store to name afterwards what it named before.
func (w *world) refused(s *trust.Store, want error) {
	w.t.Helper()
	before := w.versions(s)
	if err := s.Refresh(w.t.Context(), &w.net); !errors.Is(err, want) {
		w.t.Errorf("refresh: %v, want %v", err, want)
	}
	if after := w.versions(s); !slices.Equal(before, after) {
		w.t.Errorf("the store names %v, before %v", after, before)
	}
}

func TestUpdate_ArbitraryInstall_UnsignedOrForeignKeyRefused(t *testing.T) {
	for name, by := range map[string][]journal.SoftKey{"unsigned": nil, "foreign key": {key(99)}, "key of another role": {key(6)}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.device()
			w.release("1.1.0", "arm64")
			w.publish()
			evil := forge(w, "2.targets.json", func(m *metadata.TargetsType) {
				m.Targets["streembitd/1.1.0/linux-arm64"].Hashes["sha256"] = bytes.Repeat([]byte{6}, 32)
			}, by...)
			// Even one who has the keys on line cannot name a program.
			w.net.files["2.targets.json"] = evil
			snap := forge(w, "2.snapshot.json", func(m *metadata.SnapshotType) { m.Meta["targets.json"] = describe(2, evil) }, w.snapshot)
			w.net.files["2.snapshot.json"] = snap
			w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Meta["snapshot.json"] = describe(2, snap) }, w.timestamp)
			w.refused(s, trust.ErrUnsigned)
		})
	}
	for role, file := range map[string]string{"timestamp": "timestamp.json", "snapshot": "2.snapshot.json"} {
		t.Run("foreign "+role, func(t *testing.T) {
			w := newWorld(t)
			s := w.device()
			w.release("1.1.0", "arm64")
			w.publish()
			w.net.files[file] = resigned(w, file, key(99))
			if role == "snapshot" {
				w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Meta["snapshot.json"] = describe(2, w.net.files[file]) }, w.timestamp)
			}
			w.refused(s, trust.ErrUnsigned)
		})
	}
	t.Run("program", func(t *testing.T) {
		w := newWorld(t)
		a := w.release("1.1.0", "arm64")
		evil := program("1.1.0", "arm64")
		evil[len(evil)-1] ^= 1
		if err := trust.CheckProgram(a, bytes.NewReader(evil)); !errors.Is(err, trust.ErrMismatch) {
			t.Errorf("another program: %v", err)
		}
		if err := trust.CheckProgram(a, bytes.NewReader(program("1.1.0", "arm64"))); err != nil {
			t.Error(err)
		}
	})
}

// resigned is the file, signed by others.
func resigned(w *world, file string, by ...journal.SoftKey) []byte {
	switch {
	case strings.HasPrefix(file, "timestamp"):
		return forge(w, file, func(*metadata.TimestampType) {}, by...)
	case strings.Contains(file, "snapshot"):
		return forge(w, file, func(*metadata.SnapshotType) {}, by...)
	case strings.Contains(file, "targets"):
		return forge(w, file, func(*metadata.TargetsType) {}, by...)
	}
	return forge(w, file, func(*metadata.RootType) {}, by...)
}

// endless yields bytes for ever and counts them.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.n += int64(len(p))
	return len(p), nil
}

func TestUpdate_EndlessData_StopsAtSignedLength(t *testing.T) {
	t.Run("metadata", func(t *testing.T) {
		w := newWorld(t)
		s := w.device()
		w.release("1.1.0", "arm64")
		w.publish()
		signed := map[string]int64{"timestamp.json": trust.MaxTimestamp, "2.root.json": trust.MaxRoot,
			"2.snapshot.json": int64(len(w.net.files["2.snapshot.json"])), "2.targets.json": int64(len(w.net.files["2.targets.json"]))}
		clear(w.net.asked)
		w.must(s.Refresh(t.Context(), &w.net))
		if !maps.Equal(w.net.asked, signed) {
			t.Errorf("asked for %v, want what was signed and the limits: %v", w.net.asked, signed)
		}
		for name, limit := range signed { // a source that does not keep to it
			w := newWorld(t)
			s := w.device()
			w.release("1.1.0", "arm64")
			w.publish()
			w.net.files[name] = append(bytes.Clone(w.net.files[name]), bytes.Repeat([]byte(" "), int(limit)+1)...)
			w.refused(s, trust.ErrTooLarge)
		}
	})
	t.Run("program", func(t *testing.T) {
		w := newWorld(t)
		a := w.release("1.1.0", "arm64")
		var e endless
		if err := trust.CheckProgram(a, &e); !errors.Is(err, trust.ErrMismatch) {
			t.Errorf("endless: %v", err)
		}
		if e.n > a.Size+64<<10 {
			t.Errorf("read %d bytes of a program of %d", e.n, a.Size)
		}
		short := program("1.1.0", "arm64")[:a.Size-1]
		if err := trust.CheckProgram(a, bytes.NewReader(short)); !errors.Is(err, trust.ErrMismatch) {
			t.Errorf("cut off: %v", err)
		}
	})
}

func TestUpdate_ExtraneousDeps_UnlistedTargetNeverFetched(t *testing.T) {
	w := newWorld(t)
	w.net.files["2.delegated.json"] = []byte("{}")
	s := w.device()
	want := []string{"1.snapshot.json", "1.targets.json", "2.root.json", "timestamp.json"}
	if asked := slices.Sorted(maps.Keys(w.net.asked)); !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	list, err := s.Artifacts()
	w.must(err)
	if len(list) != 1 || list[0].Path != "streembitd/1.0.0/linux-arm64" {
		t.Errorf("programs %v", list)
	}
	// Targets that let other keys name more are refused, though they are signed well.
	w.release("1.1.0", "arm64")
	w.publish()
	more := forge(w, "2.targets.json", func(m *metadata.TargetsType) {
		k := tufKey(key(77).ID())
		id, _ := k.ID()
		m.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{id: k},
			Roles: []metadata.DelegatedRole{{Name: "delegated", KeyIDs: []string{id}, Threshold: 1, Paths: []string{"*"}}}}
	}, w.targets)
	w.lift(2, more)
	w.refused(s, trust.ErrDelegation)
	if _, asked := w.net.asked["2.delegated.json"]; asked {
		t.Error("the delegated role was fetched")
	}
}

// lift makes snapshot and timestamp name targets that were changed.
func (w *world) lift(version int64, targets []byte) {
	w.net.files[fmt.Sprintf("%d.targets.json", version)] = targets
	name := fmt.Sprintf("%d.snapshot.json", version)
	snap := forge(w, name, func(m *metadata.SnapshotType) { m.Meta["targets.json"] = describe(version, targets) }, w.snapshot)
	w.net.files[name] = snap
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Meta["snapshot.json"] = describe(version, snap) }, w.timestamp)
}

// TestUpdate_FastForward_RecoversByRootRotation: a thief of the keys on line signs versions and a time far ahead. New keys bring the device
// back to the operators' versions and time.
func TestUpdate_FastForward_RecoversByRootRotation(t *testing.T) {
	w := newWorld(t)
	w.right = false
	dir := t.TempDir()
	s := w.open(dir)
	w.must(s.Refresh(t.Context(), &w.net))
	honest := maps.Clone(w.net.files)
	snap := forge(w, "1.snapshot.json", func(m *metadata.SnapshotType) { m.Version, m.Expires = 1e6, w.now.AddDate(20, 0, 0) }, w.snapshot)
	w.net.files["1000000.snapshot.json"] = snap
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) {
		m.Version, m.Expires = 1e6, w.now.AddDate(20, 0, 0)
		m.Meta["snapshot.json"] = describe(1e6, snap)
		m.UnrecognizedFields["x-streembit-time"] = w.now.AddDate(19, 0, 0).Format(time.RFC3339)
	}, w.timestamp)
	_ = s.Refresh(t.Context(), &w.net) // the thief has won: the keys are his
	if ahead := s.Time().Sub(w.now); ahead <= 300*24*time.Hour || ahead > repo.RootLife {
		t.Errorf("the thief moved the time by %v, want no further than the root's expiry %v", ahead, repo.RootLife)
	}
	w.net.files = honest
	w.release("1.1.0", "arm64")
	w.publish()
	if err := s.Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrRollback) {
		t.Fatalf("after the theft, before the rotation: %v", err)
	}
	w.snapshot, w.timestamp = key(15), key(16)
	w.rotate(func(r *repo.Roles) { r.Snapshot.Keys, r.Timestamp.Keys = ids(w.snapshot), ids(w.timestamp) }, w.roots[1], w.roots[2])
	w.must(w.repo.Resign(w.now, w.snapshot, w.timestamp))
	w.publish()
	for range 2 { // as it runs, and after a restart
		w.must(s.Refresh(t.Context(), &w.net))
		if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.0.0", "1.1.0"}) {
			t.Errorf("after the rotation: %v", got)
		}
		if !s.Time().Equal(w.now) {
			t.Errorf("the time is %v, want what the new key signed: %v", s.Time(), w.now)
		}
		s = w.open(dir)
	}
}

// TestUpdate_FastForward_OneKeyOfTwo: the thief had both keys on line, and only one is replaced. What the other signed is forgotten too
// (TUF 5.3.11), or the versions that it ran ahead to would keep the device from all that follows.
func TestUpdate_FastForward_OneKeyOfTwo(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t)
			s := w.device()
			honest := maps.Clone(w.net.files)
			snap := forge(w, "1.snapshot.json", func(m *metadata.SnapshotType) { m.Version, m.Meta["targets.json"].Version = 1e6, 1e6 }, w.snapshot)
			w.net.files["1000000.snapshot.json"] = snap
			w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) {
				m.Version, m.Meta["snapshot.json"] = 1e6, describe(1e6, snap)
			}, w.timestamp)
			w.refused(s, trust.ErrNotFound) // the targets that the snapshot names; it counts all the same
			w.net.files = honest
			w.refused(s, trust.ErrRollback)
			if role == "timestamp" {
				w.timestamp = key(16)
			} else {
				w.snapshot = key(15)
			}
			w.rotate(func(r *repo.Roles) { r.Timestamp.Keys, r.Snapshot.Keys = ids(w.timestamp), ids(w.snapshot) }, w.roots[0], w.roots[2])
			w.release("1.1.0", "arm64")
			w.publish()
			w.must(s.Refresh(t.Context(), &w.net))
			if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.0.0", "1.1.0"}) {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestUpdate_Freeze_StaleTimestampReported(t *testing.T) {
	w := newWorld(t)
	s := w.device()
	w.now = w.now.Add(repo.TimestampLife - time.Minute)
	w.must(s.Refresh(t.Context(), &w.net))
	w.now = w.now.Add(2 * time.Minute)
	if err := s.Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("refresh: %v", err)
	}
	list, err := s.Artifacts()
	if !errors.Is(err, trust.ErrExpired) || len(list) != 1 {
		t.Errorf("programs %v, %v: want them shown, and the error", list, err)
	}
	if !s.Expires().Before(w.now) {
		t.Errorf("expires %v", s.Expires())
	}
	for _, what := range []string{"targets", "root"} { // a fresh timestamp does not make up for the others
		w := newWorld(t)
		s := w.device()
		w.now = w.now.Add(map[string]time.Duration{"targets": repo.TargetsLife, "root": repo.RootLife}[what] + time.Hour)
		if what == "root" {
			w.must(w.repo.Renew(w.now))
			w.sign()
		}
		w.must(w.repo.Resign(w.now, w.snapshot, w.timestamp))
		w.publish()
		if err := s.Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrExpired) {
			t.Errorf("old %s: %v", what, err)
		}
	}
}

// TestUpdate_Freeze_ClockAtEpoch: a device whose clock stands at 1970 judges expiry by what was signed.
func TestUpdate_Freeze_ClockAtEpoch(t *testing.T) {
	w := newWorld(t)
	w.right = false
	old := maps.Clone(w.net.files)
	dir := t.TempDir()
	s := w.open(dir)
	w.must(s.Refresh(t.Context(), &w.net))
	if !s.Time().Equal(w.now) {
		t.Errorf("the time is %v, want when the timestamp was signed: %v", s.Time(), w.now)
	}
	w.now = w.now.Add(repo.TimestampLife + time.Hour)
	// Nothing that was signed says that it is later, so that old metadata still stand.
	w.must(s.Refresh(t.Context(), &w.net))
	// The program was built after they expired, or the owner signed the fleet's state after that: they are stale.
	s.NotBefore(w.now)
	if err := s.Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("replayed to a program that was built later: %v", err)
	}
	if _, err := s.Artifacts(); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("programs: %v", err)
	}
	s.NotBefore(time.Time{}) // an owner takes a wrong time back
	w.must(s.Refresh(t.Context(), &w.net))
	w.must(w.repo.Resign(w.now, w.snapshot, w.timestamp))
	w.publish()
	w.must(s.Refresh(t.Context(), &w.net))
	s = w.open(dir) // what was signed is remembered, the clock is still wrong
	if !s.Time().Equal(w.now) {
		t.Errorf("after a restart the time is %v, want %v", s.Time(), w.now)
	}
	w.net.files = old
	w.refused(s, trust.ErrRollback)
}

// TestUpdate_TimeNeverFromUnsigned: neither a clock that is not right nor a timestamp that is refused moves the floor.
func TestUpdate_TimeNeverFromUnsigned(t *testing.T) {
	w := newWorld(t)
	s := w.device()
	w.right = false
	far := w.now.AddDate(1, 0, 0).Format(time.RFC3339)
	claim := func(m *metadata.TimestampType) { m.Version++; m.UnrecognizedFields["x-streembit-time"] = far }
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", claim, key(99))
	w.refused(s, trust.ErrUnsigned)
	if !s.Time().Equal(w.now) {
		t.Errorf("an unsigned time counts: %v", s.Time())
	}
	// A signed one that a right clock contradicts, or that lies after its own end, is not believed.
	w.right = true
	late := func(m *metadata.TimestampType) { claim(m); m.Expires = w.now.AddDate(2, 0, 0) }
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", late, w.timestamp)
	w.must(s.Refresh(t.Context(), &w.net))
	if !s.Time().Equal(w.now) {
		t.Errorf("a time a year ahead of a right clock counts: %v", s.Time())
	}
	w = newWorld(t)
	w.right = false
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", claim, w.timestamp)
	s = w.device()
	if !s.Time().IsZero() {
		t.Errorf("a time after its own expiry counts: %v", s.Time())
	}
}

func TestUpdate_MixAndMatch_SnapshotFromOtherReleaseRefused(t *testing.T) {
	w := newWorld(t)
	first := maps.Clone(w.net.files)
	w.release("1.1.0", "arm64")
	w.publish()
	second := maps.Clone(w.net.files)
	w.release("1.2.0", "arm64")
	w.publish()
	for name, mix := range map[string]map[string][]byte{
		"snapshot of 1.0.0": {"3.snapshot.json": first["1.snapshot.json"]}, "snapshot of 1.1.0": {"3.snapshot.json": second["2.snapshot.json"]},
		"targets of 1.1.0": {"3.targets.json": second["2.targets.json"]},
	} {
		t.Run(name, func(t *testing.T) {
			w, third := *w, w.net.files
			w.t, w.net.files = t, first
			s := w.device()
			w.net.files = maps.Clone(third)
			maps.Copy(w.net.files, mix)
			if err := s.Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrMismatch) {
				t.Errorf("refresh: %v", err)
			}
			if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.0.0"}) {
				t.Errorf("the store names %v", got)
			}
			w.net.files = third
			w.must(s.Refresh(t.Context(), &w.net))
		})
	}
}

func TestUpdate_Rollback_OlderMetadataRefused(t *testing.T) {
	w := newWorld(t)
	old := maps.Clone(w.net.files)
	dir := t.TempDir()
	s := w.open(dir)
	w.release("1.1.0", "arm64")
	w.publish()
	w.must(s.Refresh(t.Context(), &w.net))
	newest := w.net.files
	for range 2 { // as it runs, and after a restart
		w.net.files = old
		w.refused(s, trust.ErrRollback)
		s = w.open(dir)
	}
	// A new timestamp that names an older snapshot, a new snapshot that names older targets: those who have the keys on line cannot either.
	w.net.files = maps.Clone(newest)
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) {
		m.Version, m.Meta["snapshot.json"] = 9, describe(1, old["1.snapshot.json"])
	}, w.timestamp)
	w.refused(s, trust.ErrRollback)
	snap := forge(w, "2.snapshot.json", func(m *metadata.SnapshotType) {
		m.Version, m.Meta["targets.json"] = 3, describe(1, old["1.targets.json"])
	}, w.snapshot)
	w.net.files["3.snapshot.json"] = snap
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Version, m.Meta["snapshot.json"] = 10, describe(3, snap) }, w.timestamp)
	w.refused(s, trust.ErrRollback)
}

// TestUpdate_Rollback_SameTargets: a timestamp and a snapshot that are older, though what they end in is the newest.
func TestUpdate_Rollback_SameTargets(t *testing.T) {
	w := newWorld(t)
	first := maps.Clone(w.net.files)
	w.now = w.now.Add(repo.SnapshotLife/2 + time.Hour)
	w.must(w.repo.Resign(w.now, w.snapshot, w.timestamp)) // snapshot 2 of targets 1
	w.publish()
	s := w.device()
	newest := maps.Clone(w.net.files)
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) {
		m.Version, m.Meta["snapshot.json"] = 3, describe(1, first["1.snapshot.json"])
	}, w.timestamp)
	w.refused(s, trust.ErrRollback)
	w.net.files = newest
	older := newest["timestamp.json"]
	w.must(w.repo.Resign(w.now, w.snapshot, w.timestamp)) // timestamp 3 of snapshot 2
	w.publish()
	w.must(s.Refresh(t.Context(), &w.net))
	w.net.files["timestamp.json"] = older
	w.refused(s, trust.ErrRollback)
}

func TestUpdate_Downgrade_BelowSecurityFloorRefused(t *testing.T) {
	w := newWorld(t)
	w.release("1.4.0", "arm64")
	w.publish()
	s := w.device()
	if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.0.0", "1.4.0"}) {
		t.Fatalf("%v", got)
	}
	// Metadata of tomorrow name what must not come back: the device leaves it out and says why.
	w.release("1.5.0", "arm64", func(r *repo.Release) { r.Floor = "1.4.0" })
	w.publish()
	old := w.net.files["2.targets.json"]
	var before struct {
		Signed metadata.TargetsType `json:"signed"`
	}
	w.must(json.Unmarshal(old, &before))
	w.lift(3, forge(w, "3.targets.json", func(m *metadata.TargetsType) {
		m.Targets["streembitd/1.0.0/linux-arm64"] = before.Signed.Targets["streembitd/1.0.0/linux-arm64"]
	}, w.targets))
	w.must(s.Refresh(t.Context(), &w.net))
	if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.4.0", "1.5.0"}) {
		t.Errorf("the store names %v", got)
	}
	if skipped := s.Skipped(); len(skipped) != 1 || !errors.Is(skipped[0], ota.ErrBelowFloor) || !strings.Contains(skipped[0].Error(), "1.0.0") {
		t.Errorf("skipped: %v", skipped)
	}
	list, _ := s.Artifacts()
	if err := list[0].Above("1.4.0"); err != nil {
		t.Errorf("the floor itself: %v", err)
	}
	if err := list[0].Above("1.4.1"); !errors.Is(err, ota.ErrBelowFloor) {
		t.Errorf("below the floor of what ran once: %v", err)
	}
}

// TestUpdate_KeyCompromise_BelowThresholdRefused: a thief has one of three root keys, or an old one.
func TestUpdate_KeyCompromise_BelowThresholdRefused(t *testing.T) {
	thief := key(66)
	takeover := func(m *metadata.RootType) {
		m.Version++
		id, _ := tufKey(thief.ID()).ID()
		m.Keys[id] = tufKey(thief.ID())
		m.Roles["targets"].KeyIDs = []string{id}
	}
	for name, by := range map[string][]journal.SoftKey{
		"one of three": {key(1)}, "one of three and a stranger": {key(1), thief}, "all keys but those of root": {key(4), key(5), key(6)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.device()
			w.net.files["2.root.json"] = forge(w, "1.root.json", takeover, by...)
			w.refused(s, trust.ErrUnsigned)
		})
	}
	t.Run("a root of his own", func(t *testing.T) {
		w := newWorld(t)
		s := w.device()
		w.net.files["2.root.json"] = forge(w, "1.root.json", func(m *metadata.RootType) {
			takeover(m)
			m.Roles["root"] = &metadata.Role{KeyIDs: m.Roles["targets"].KeyIDs, Threshold: 1}
		}, key(1), thief)
		w.refused(s, trust.ErrUnsigned)
	})
	t.Run("one key twice", func(t *testing.T) {
		w := newWorld(t)
		s := w.device()
		root := forge(w, "1.root.json", takeover, key(1), key(1))
		w.net.files["2.root.json"] = root
		w.refused(s, trust.ErrMalformed)
	})
	t.Run("a key that a rotation took away", func(t *testing.T) {
		w := newWorld(t)
		s := w.device()
		w.rotate(func(r *repo.Roles) { r.Root.Keys[0] = key(11).ID() }, w.roots[1], w.roots[2])
		w.must(w.repo.Resign(w.now, w.snapshot, w.timestamp))
		w.publish()
		w.must(s.Refresh(t.Context(), &w.net))
		w.net.files["3.root.json"] = forge(w, "2.root.json", takeover, key(1), key(2))
		w.refused(s, trust.ErrUnsigned)
		w.net.files["3.root.json"] = forge(w, "2.root.json", takeover, key(11), key(2)) // the control: two that count
		w.must(w.refresh(s, trust.ErrUnsigned))                                         // the targets are another's now
	})
}

// refresh wants a refresh to fail in one way, and nothing else.
func (w *world) refresh(s *trust.Store, want error) error {
	if err := s.Refresh(w.t.Context(), &w.net); !errors.Is(err, want) {
		return fmt.Errorf("refresh: %w, want %w", err, want)
	}
	return nil
}

// TestUpdate_RootRotation_Chain1to5: a device that slept through four rotations follows them; one link that is missing or forged stops it.
func TestUpdate_RootRotation_Chain1to5(t *testing.T) {
	w := newWorld(t)
	asleep := t.TempDir()
	w.must(w.open(asleep).Refresh(t.Context(), &w.net))
	for i := range byte(4) { // one holder after the other is replaced; the first roots have expired when the last is made
		w.now = w.now.AddDate(0, 9, 0)
		fresh := key(20 + i)
		leaves := int(i) % 3
		w.rotate(func(r *repo.Roles) { r.Root.Keys[leaves] = fresh.ID() }, w.roots[(leaves+1)%3], w.roots[(leaves+2)%3])
		w.roots[leaves] = fresh
	}
	w.release("1.1.0", "arm64")
	w.publish()
	whole := maps.Clone(w.net.files)
	delete(w.net.files, "3.root.json")
	if err := w.open(t.TempDir()).Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("without 3.root.json: %v", err)
	}
	w.net.files["3.root.json"] = whole["4.root.json"]
	if err := w.open(t.TempDir()).Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrUnsigned) && !errors.Is(err, trust.ErrRollback) {
		t.Errorf("with 4.root.json as 3.root.json: %v", err)
	}
	w.net.files = maps.Clone(whole)
	w.net.files["6.root.json"] = whole["5.root.json"]
	if err := w.open(t.TempDir()).Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("with 5.root.json again as 6.root.json: %v", err)
	}
	w.net.files = whole
	s := w.open(asleep)
	w.must(s.Refresh(t.Context(), &w.net))
	if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.0.0", "1.1.0"}) {
		t.Errorf("%v", got)
	}
	files, err := s.Files()
	w.must(err)
	for i := 1; i <= 5; i++ {
		if files[fmt.Sprintf("%d.root.json", i)] == nil {
			t.Errorf("the proof has no root %d", i)
		}
	}
	if _, one := files["6.root.json"]; one {
		t.Error("the proof has a root 6")
	}
	// What it hands over proves the same to another who has the first root alone: the helper.
	helper := w.open(t.TempDir())
	w.must(helper.Refresh(t.Context(), &network{files, map[string]int64{}}))
	a, _ := s.Artifacts()
	b, _ := helper.Artifacts()
	if fmt.Sprint(a) != fmt.Sprint(b) || len(b) != 2 {
		t.Errorf("the helper names %v", b)
	}
}

func TestUpdate_WrongSoftware_OtherArchOrBoardRefused(t *testing.T) {
	w := newWorld(t)
	w.release("1.1.0", "arm")
	w.release("1.1.0", "arm64", func(r *repo.Release) { r.Boards = []string{"rpi-4", "rpi-5"} })
	w.publish()
	s := w.device()
	list, err := s.Artifacts()
	w.must(err)
	for m, want := range map[ota.Machine][]string{
		{Arch: "arm64", Board: "rpi-4"}: {"streembitd/1.0.0/linux-arm64", "streembitd/1.1.0/linux-arm64-rpi-4"},
		{Arch: "arm64", Board: "rpi-3"}: {"streembitd/1.0.0/linux-arm64"},
		{Arch: "arm", Board: "rpi-4"}:   {"streembitd/1.1.0/linux-arm"}, {Arch: "amd64"}: nil,
	} {
		var fit []string
		for _, a := range list {
			if err := a.Fits(m); err == nil {
				fit = append(fit, a.Path)
			} else if !errors.Is(err, ota.ErrUnfit) {
				t.Error(err)
			}
		}
		if !slices.Equal(fit, want) {
			t.Errorf("%v: %q, want %q", m, fit, want)
		}
	}
	// A target whose name and description differ is not taken for either.
	w.lift(3, forge(w, "3.targets.json", func(m *metadata.TargetsType) {
		m.Targets["streembitd/1.1.0/linux-riscv64"] = m.Targets["streembitd/1.1.0/linux-arm"]
	}, w.targets))
	s = w.device()
	if list, err := s.Artifacts(); err != nil || len(list) != 3 {
		t.Errorf("%v, %v", list, err)
	}
	if skipped := s.Skipped(); len(skipped) != 1 || !strings.Contains(skipped[0].Error(), "linux-riscv64") {
		t.Errorf("skipped: %v", skipped)
	}
}

var _ trust.Fetcher = (*network)(nil)
