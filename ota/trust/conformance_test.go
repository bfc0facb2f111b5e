// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

// The tests of this file are the scenarios of tuf-conformance (github.com/theupdateframework/tuf-conformance) that attack_test.go does not
// have, without those about delegations and about files by URL, which do not exist here.

// TestConformance_Refresh: one hostile or faulty file at a time, and what it is refused for.
func TestConformance_Refresh(t *testing.T) {
	type files map[string][]byte
	for name, c := range map[string]struct {
		spoil func(w *world) files
		want  error // nil: accepted
	}{
		"test_new_root_same_version": {func(w *world) files {
			return files{"2.root.json": forge(w, "1.root.json", func(*metadata.RootType) {}, key(1), key(2))}
		}, trust.ErrRollback},
		"test_new_root_nonconsecutive_version": {func(w *world) files {
			return files{"2.root.json": forge(w, "1.root.json", func(m *metadata.RootType) { m.Version = 3 }, key(1), key(2))}
		}, trust.ErrRollback},
		"test_root_unsigned": {func(w *world) files {
			return files{"2.root.json": forge(w, "1.root.json", func(m *metadata.RootType) { m.Version = 2 })}
		}, trust.ErrUnsigned},
		"test_root_not_signed_by_itself": {func(w *world) files {
			return files{"2.root.json": forge(w, "1.root.json", func(m *metadata.RootType) {
				m.Version = 2
				other, _ := tufKey(key(50).ID()).ID()
				m.Keys[other], m.Roles["root"] = tufKey(key(50).ID()), &metadata.Role{KeyIDs: []string{other}, Threshold: 1}
			}, key(1), key(2))}
		}, trust.ErrUnsigned},
		"test_final_root_expired": {func(w *world) files {
			return files{"2.root.json": forge(w, "1.root.json", func(m *metadata.RootType) { m.Version, m.Expires = 2, w.now.Add(-time.Hour) }, key(1), key(2))}
		}, trust.ErrExpired},
		"test_root_without_a_role": {func(w *world) files {
			return files{"2.root.json": forge(w, "1.root.json", func(m *metadata.RootType) { m.Version = 2; delete(m.Roles, "snapshot") }, key(1), key(2))}
		}, trust.ErrMalformed},
		"test_root_of_another_type": {func(w *world) files { return files{"2.root.json": w.net.files["2.targets.json"]} }, trust.ErrMalformed},
		"test_key_listed_twice_counts_once": {func(w *world) files {
			return files{"2.root.json": forge(w, "1.root.json", func(m *metadata.RootType) {
				m.Version = 2
				id, _ := tufKey(key(1).ID()).ID()
				m.Roles["root"] = &metadata.Role{KeyIDs: []string{id, id}, Threshold: 2}
			}, key(1), key(2))}
		}, trust.ErrUnsigned},
		"test_timestamp_expired": {func(w *world) files {
			return files{"timestamp.json": forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Expires = w.now.Add(-time.Hour) }, w.timestamp)}
		}, trust.ErrExpired},
		"test_timestamp_content_changes_version_does_not": {func(w *world) files {
			return files{"timestamp.json": forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Version = 1; m.Meta["snapshot.json"].Version = 9 }, w.timestamp)}
		}, nil}, // the device keeps the one that it has
		"test_snapshot_expired": {func(w *world) files {
			return w.below(func(m *metadata.SnapshotType) { m.Expires = w.now.Add(-time.Hour) }, nil)
		}, trust.ErrExpired},
		"test_snapshot_version_mismatch": {func(w *world) files {
			return w.below(func(m *metadata.SnapshotType) { m.Version = 3 }, nil)
		}, trust.ErrRollback},
		"test_snapshot_without_targets": {func(w *world) files {
			return w.below(func(m *metadata.SnapshotType) {
				delete(m.Meta, "targets.json")
				m.Meta["other.json"] = metadata.MetaFile(1)
			}, nil)
		}, trust.ErrMalformed},
		"test_snapshot_hash_mismatch": {func(w *world) files {
			return files{"2.snapshot.json": forge(w, "2.snapshot.json", func(m *metadata.SnapshotType) { m.Expires = m.Expires.Add(time.Second) }, w.snapshot)}
		}, trust.ErrMismatch},
		"test_targets_expired": {func(w *world) files {
			return w.below(nil, func(m *metadata.TargetsType) { m.Expires = w.now.Add(-time.Hour) })
		}, trust.ErrExpired},
		"test_targets_version_mismatch": {func(w *world) files {
			return w.below(nil, func(m *metadata.TargetsType) { m.Version = 7 })
		}, trust.ErrRollback},
		"test_targets_hash_mismatch": {func(w *world) files {
			return files{"2.targets.json": forge(w, "2.targets.json", func(m *metadata.TargetsType) { m.Expires = m.Expires.Add(time.Second) }, w.targets)}
		}, trust.ErrMismatch},
		"test_targets_null": {func(w *world) files {
			return w.below(nil, func(m *metadata.TargetsType) { m.UnrecognizedFields = map[string]any{"x": nil} })
		}, trust.ErrMalformed},
		"test_unrecognized_fields": {func(w *world) files {
			return w.below(func(m *metadata.SnapshotType) { m.UnrecognizedFields = map[string]any{"x-new": "field"} },
				func(m *metadata.TargetsType) { m.UnrecognizedFields = map[string]any{"x-new": []any{"field", true}} })
		}, nil},
		"test_spec_version_of_tomorrow": {func(w *world) files {
			return w.below(nil, func(m *metadata.TargetsType) { m.SpecVersion = "1.1.0" })
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.device()
			w.release("1.1.0", "arm64")
			w.publish()
			maps.Copy(w.net.files, c.spoil(w))
			err := s.Refresh(t.Context(), &w.net)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if got := w.versionsShown(s); c.want != nil && !slices.Equal(got, []ota.Version{"1.0.0"}) {
				t.Errorf("the store names %v", got)
			}
		})
	}
}

// below changes snapshot and targets of release 2 and lets the files above name them.
func (w *world) below(snap func(*metadata.SnapshotType), targets func(*metadata.TargetsType)) map[string][]byte {
	if snap == nil {
		snap = func(*metadata.SnapshotType) {}
	}
	files := map[string][]byte{"2.targets.json": w.net.files["2.targets.json"]}
	if targets != nil {
		files["2.targets.json"] = forge(w, "2.targets.json", targets, w.targets)
	}
	files["2.snapshot.json"] = forge(w, "2.snapshot.json", func(m *metadata.SnapshotType) {
		m.Meta["targets.json"] = describe(2, files["2.targets.json"])
		snap(m)
	}, w.snapshot)
	files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Meta["snapshot.json"] = describe(2, files["2.snapshot.json"]) }, w.timestamp)
	return files
}

// versionsShown is versions of what may have expired.
func (w *world) versionsShown(s *trust.Store) (all []ota.Version) {
	list, err := s.Artifacts()
	if err != nil && !errors.Is(err, trust.ErrExpired) {
		w.t.Error(err)
	}
	for _, a := range list {
		all = append(all, a.Version)
	}
	return all
}

// TestConformance_KeyRotations: which signatures a new root needs, for other keys and thresholds of the role root.
func TestConformance_KeyRotations(t *testing.T) {
	type root struct {
		keys      []byte
		threshold int
		sigs      []byte
		refused   bool
	}
	for name, chain := range map[string][]root{
		"1-of-1":                 {{[]byte{1}, 1, []byte{1}, false}, {[]byte{2}, 1, []byte{2, 1}, false}, {[]byte{2}, 1, []byte{2}, false}},
		"1-of-1, not by the old": {{[]byte{1}, 1, []byte{1}, false}, {[]byte{2}, 1, []byte{2, 3, 4}, true}},
		"1-of-1, not by the new": {{[]byte{1}, 1, []byte{1}, false}, {[]byte{2}, 1, []byte{1, 3, 4}, true}},
		"1-of-1, signatures that nobody asked for": {{[]byte{1}, 1, []byte{4, 5, 1}, false}, {[]byte{2}, 1, []byte{4, 2, 1}, false}},
		"3-of-5":                               {{[]byte{1, 2, 3, 4, 5}, 3, []byte{1, 3, 5}, false}, {[]byte{1, 2, 3, 4, 6}, 3, []byte{1, 3, 4}, false}},
		"3-of-5, one of three by who goes":     {{[]byte{1, 2, 3, 4, 5}, 3, []byte{1, 3, 5}, false}, {[]byte{1, 2, 3, 4, 6}, 3, []byte{1, 3, 5}, true}},
		"3-of-5, one of three by who comes":    {{[]byte{1, 2, 3, 4, 5}, 3, []byte{1, 3, 5}, false}, {[]byte{1, 2, 3, 4, 6}, 3, []byte{1, 3, 6}, true}},
		"3-of-5, both":                         {{[]byte{1, 2, 3, 4, 5}, 3, []byte{1, 3, 5}, false}, {[]byte{1, 2, 3, 4, 6}, 3, []byte{1, 3, 5, 6}, false}},
		"threshold grows too fast":             {{[]byte{1, 2, 3}, 2, []byte{1, 2}, false}, {[]byte{1, 2, 3}, 3, []byte{1, 2}, true}},
		"threshold falls, by the old rule":     {{[]byte{1, 2, 3}, 2, []byte{1, 2}, false}, {[]byte{1, 2, 3}, 1, []byte{3}, true}},
		"2-of-2 to 2-of-2":                     {{[]byte{1, 2}, 2, []byte{1, 2}, false}, {[]byte{3, 4}, 2, []byte{1, 2, 3, 4}, false}},
		"2-of-2 to 2-of-2, one old is missing": {{[]byte{1, 2}, 2, []byte{1, 2}, false}, {[]byte{3, 4}, 2, []byte{2, 3, 4}, true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var roots [][]byte
			for i, r := range chain {
				text := forge(w, "1.root.json", func(m *metadata.RootType) {
					m.Version = int64(i + 1)
					m.Roles["root"] = &metadata.Role{Threshold: r.threshold}
					for _, n := range r.keys {
						id, _ := tufKey(key(n).ID()).ID()
						m.Keys[id] = tufKey(key(n).ID())
						m.Roles["root"].KeyIDs = append(m.Roles["root"].KeyIDs, id)
					}
				}, signers(r.sigs)...)
				roots = append(roots, text)
				if err := trust.CheckRoots(roots...); errors.Is(err, trust.ErrUnsigned) != r.refused || err != nil && !r.refused {
					t.Errorf("root %d: %v, want refused %v", i+1, err, r.refused)
				}
			}
		})
	}
}

func signers(ns []byte) (all []journal.SoftKey) {
	for _, n := range ns {
		all = append(all, key(n))
	}
	return all
}

// TestConformance_ExpiredStillGuards: what has expired is still newer than what came before.
func TestConformance_ExpiredStillGuards(t *testing.T) {
	w := newWorld(t)
	old := maps.Clone(w.net.files)
	w.release("1.1.0", "arm64")
	w.publish()
	dir := t.TempDir()
	w.must(w.open(dir).Refresh(t.Context(), &w.net))
	w.now = w.now.Add(repo.SnapshotLife + time.Hour) // timestamp and snapshot have expired
	s := w.open(dir)
	w.net.files = maps.Clone(old)
	older := forge(w, "1.snapshot.json", func(m *metadata.SnapshotType) { m.Version, m.Expires = 3, w.now.AddDate(0, 1, 0) }, w.snapshot)
	w.net.files["3.snapshot.json"] = older
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) {
		m.Version, m.Expires, m.Meta["snapshot.json"] = 9, w.now.AddDate(0, 1, 0), describe(3, older)
	}, w.timestamp)
	if err := s.Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("an old snapshot in new clothes: %v", err)
	}
	w.net.files["timestamp.json"] = old["timestamp.json"]
	if err := s.Refresh(t.Context(), &w.net); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("an old timestamp: %v", err)
	}
}

// TestConformance_SameVersionOtherContent: two operators signed one version. The device keeps to one of them and is not stuck: a later
// version brings it on.
func TestConformance_SameVersionOtherContent(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	w.must(w.open(dir).Refresh(t.Context(), &w.net))
	// The other's snapshot 1 has other bytes; a newer timestamp names it.
	other := forge(w, "1.snapshot.json", func(m *metadata.SnapshotType) { m.Expires = m.Expires.Add(time.Hour) }, w.snapshot)
	w.net.files["1.snapshot.json"] = other
	w.net.files["timestamp.json"] = forge(w, "timestamp.json", func(m *metadata.TimestampType) { m.Version, m.Meta["snapshot.json"] = 2, describe(1, other) }, w.timestamp)
	s := w.open(dir)
	w.must(s.Refresh(t.Context(), &w.net))
	s = w.open(dir)
	files, err := s.Files()
	w.must(err)
	if !bytes.Equal(files["1.snapshot.json"], other) {
		t.Error("timestamp and snapshot do not fit together")
	}
	if got := w.versions(s); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestStore_Half: a release of which the last part does not arrive changes nothing but what may not be rolled back.
func TestStore_Half(t *testing.T) {
	w := newWorld(t)
	old := maps.Clone(w.net.files)
	dir := t.TempDir()
	s := w.open(dir)
	w.must(s.Refresh(t.Context(), &w.net))
	w.release("1.1.0", "arm64")
	w.publish()
	whole := maps.Clone(w.net.files)
	for _, missing := range []string{"2.snapshot.json", "2.targets.json"} {
		w.net.files = maps.Clone(whole)
		delete(w.net.files, missing)
		w.refused(s, trust.ErrNotFound)
		s = w.open(dir)
		files, err := s.Files()
		w.must(err)
		if !bytes.Equal(files["timestamp.json"], old["timestamp.json"]) {
			t.Errorf("without %s the proof is not of one piece", missing)
		}
		w.net.files = old
		w.refused(s, trust.ErrRollback)
	}
	w.net.files = whole
	w.must(s.Refresh(t.Context(), &w.net))
	if got := w.versions(s); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// TestStore_Pins: an owner pins another root. Of the chain nothing is lost, of another fleet's root everything.
func TestStore_Pins(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	w.must(w.open(dir).Refresh(t.Context(), &w.net))
	old := maps.Clone(w.net.files)
	w.rotate(func(r *repo.Roles) { r.Root.Keys[2] = key(33).ID() }, w.roots[0], w.roots[1])
	w.release("1.1.0", "arm64")
	w.publish()
	first := w.pinned
	w.pinned, _ = w.repo.Root()
	s := w.open(dir) // pinned before the device heard of it
	if got := w.versions(s); len(got) != 1 {
		t.Errorf("with a root that is newer than what it has: %v", got)
	}
	w.must(s.Refresh(t.Context(), &w.net))
	w.pinned = first
	s = w.open(dir) // back to the first, which it does not keep any more
	newest := w.net.files
	w.net.files = old
	w.refused(s, trust.ErrRollback)
	w.net.files = newest
	w.must(s.Refresh(t.Context(), &w.net))

	foreign := newWorld(t)
	foreign.roots = [3]journal.SoftKey{key(71), key(72), key(73)}
	foreign.targets, foreign.snapshot, foreign.timestamp = key(74), key(75), key(76)
	q, err := repo.FirstRoot(foreign.roles(), w.now)
	w.must(err)
	foreign.accept(q, t.TempDir(), foreign.roots[0], foreign.roots[1])
	w.pinned, _ = foreign.repo.Root()
	s = w.open(dir)
	if _, err := s.Artifacts(); !errors.Is(err, trust.ErrNone) {
		t.Errorf("of another fleet's root: %v", err)
	}
	if _, err := trust.Open(dir, []byte("{}"), nil); !errors.Is(err, trust.ErrMalformed) {
		t.Errorf("no root: %v", err)
	}
	if _, err := trust.Open(dir, forge(w, "1.root.json", func(*metadata.RootType) {}, key(1)), nil); !errors.Is(err, trust.ErrUnsigned) {
		t.Errorf("a root below its threshold: %v", err)
	}
}
