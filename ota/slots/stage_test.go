// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
)

// TestUpdate_GoesThrough is an update in which nothing is wrong, and the next one.
func TestUpdate_GoesThrough(t *testing.T) {
	w := newWorld(t)
	for i, v := range []ota.Version{"1.1.0", "2.0.0-rc.1", "2.0.0"} {
		program := programOf(v, uint64(i))
		trial := w.try(v, program)
		w.wantOutcome(ota.Trying, "")
		w.wantRuns("on trial", program)
		check(t, w.slots.Commit(trial))
		w.wantRuns("committed", program)
		if p := w.wantOutcome(ota.Committed, ""); p.Version != v {
			t.Errorf("the outcome names %s", p.Version)
		}
		if left := w.releases(); len(left) != 1 {
			t.Errorf("after the update of %s these are left: %v", v, left)
		}
	}
}

func (w *world) releases() (names []string) {
	all, err := os.ReadDir(filepath.Join(w.root, "releases"))
	check(w.t, err)
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// TestUpdate_PartialBundle_NothingActivated hands over what is not whole: of every kind, nothing is installed, nothing stays on the disk, and the
// program that runs is the one that ran.
func TestUpdate_PartialBundle_NothingActivated(t *testing.T) {
	fresh := programOf("2.0.0", 2)
	box := func(w *world, names ...string) string {
		return filepath.Join(append([]string{w.state, "update", "inbox"}, names...)...)
	}
	for name, c := range map[string]struct {
		spoil  func(*world)
		reason ota.Reason
	}{
		"no program":           {func(w *world) { check(t, os.Remove(box(w, "program"))) }, ota.ReasonProof},
		"half of a program":    {func(w *world) { check(t, os.Truncate(box(w, "program"), 1000)) }, ota.ReasonProof},
		"a byte too many":      {func(w *world) { check(t, os.WriteFile(box(w, "program"), append(fresh, 0), 0o600)) }, ota.ReasonProof},
		"a byte changed":       {func(w *world) { check(t, os.WriteFile(box(w, "program"), changed(fresh), 0o600)) }, ota.ReasonProof},
		"no metadata":          {func(w *world) { check(t, os.RemoveAll(box(w, "metadata"))) }, ota.ReasonProof},
		"metadata of nothing":  {func(w *world) { check(t, os.Remove(box(w, "metadata", "targets.json"))) }, ota.ReasonProof},
		"metadata not proven":  {func(w *world) { w.proven = errors.New("no signature") }, ota.ReasonProof},
		"half of a request":    {func(w *world) { check(t, os.Truncate(box(w, "request.json"), 10)) }, ota.ReasonProof},
		"a link for a program": {func(w *world) { link(t, box(w, "program"), fresh) }, ota.ReasonProof},
		"a pipe for a program": {func(w *world) { pipe(t, box(w, "program")) }, ota.ReasonProof},
		"a program with two names": {func(w *world) {
			check(t, os.Link(box(w, "program"), filepath.Join(w.state, "other")))
		}, ota.ReasonProof},
		"a pipe for a request":    {func(w *world) { pipe(t, box(w, "request.json")) }, ota.ReasonProof},
		"a link for the metadata": {func(w *world) { move(t, box(w, "metadata"), filepath.Join(w.state, "elsewhere")) }, ota.ReasonProof},
		"a link for the inbox":    {func(w *world) { move(t, box(w), filepath.Join(w.state, "elsewhere")) }, ""},
		"metadata without end":    {func(w *world) { check(t, os.Truncate(box(w, "metadata", "targets.json"), 1<<40)) }, ota.ReasonProof},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.handOver(artifact("2.0.0", fresh), fresh)
			c.spoil(w)
			_, err := w.slots.Stage(t.Context(), w.state)
			if c.reason == "" && err == nil {
				t.Error("it was staged")
			} else if c.reason != "" {
				refusedFor(t, err, c.reason)
				w.wantOutcome(ota.Refused, c.reason)
			}
			w.wantRuns("after it", programOf("1.0.0", 1))
			if left := w.releases(); len(left) != 1 {
				t.Errorf("these are left: %v", left)
			}
			if _, err := w.slots.Trial(); !errors.Is(err, slots.ErrNoTrial) {
				t.Errorf("a trial goes on: %v", err)
			}
		})
	}
}

func changed(b []byte) []byte {
	out := bytes.Clone(b)
	out[len(out)/2] ^= 1
	return out
}

func link(t *testing.T, path string, data []byte) {
	to := filepath.Join(t.TempDir(), "target")
	check(t, errors.Join(os.WriteFile(to, data, 0o600), os.Remove(path), os.Symlink(to, path)))
}

func pipe(t *testing.T, path string) {
	check(t, errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)))
}

func move(t *testing.T, path, to string) {
	check(t, errors.Join(os.Rename(path, to), os.Symlink(to, path)))
}

// TestUpdate_RacingInbox has the agent change what it handed over at each moment of the installing: what is installed is what was checked, or nothing.
func TestUpdate_RacingInbox(t *testing.T) {
	old, fresh := programOf("1.0.0", 1), programOf("2.0.0", 2)
	evil, staged := changed(fresh), 0
	for at := 1; staged < 5; at++ {
		w, n := newWorld(t), 0
		w.handOver(artifact("2.0.0", fresh), fresh)
		w.before = func(string, string) error {
			if n++; n != at {
				return nil
			}
			return os.WriteFile(filepath.Join(w.state, "update/inbox/program"), evil, 0o600)
		}
		w.open()
		s, err := w.slots.Stage(t.Context(), w.state)
		if err != nil {
			w.wantRuns("changed before it was read", old)
			continue
		}
		staged++
		check(t, w.slots.Flip(s))
		w.wantRuns("changed after it was read", fresh)
	}
}

// TestUpdate_Refusals wants each program that may not be installed to be refused, with its reason.
func TestUpdate_Refusals(t *testing.T) {
	old := programOf("1.0.0", 1)
	for name, c := range map[string]struct {
		change func(*ota.Artifact)
		reason ota.Reason
	}{
		"TestUpdate_WrongSoftware_OtherArch":  {func(a *ota.Artifact) { a.Arch = "amd64" }, ota.ReasonUnfit},
		"TestUpdate_WrongSoftware_OtherBoard": {func(a *ota.Artifact) { a.Boards = []string{"rpi5"} }, ota.ReasonUnfit},
		"below the floor":                     {func(a *ota.Artifact) { a.Version = "1.4.9" }, ota.ReasonFloor},
		"too large":                           {func(a *ota.Artifact) { a.Size = slots.MaxProgram + 1 }, ota.ReasonProof},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			floor := programOf("1.5.0", 5)
			a := artifact("1.5.0", floor)
			a.Floor = "1.5.0"
			w.handOver(a, floor)
			staged, err := w.slots.Stage(t.Context(), w.state)
			check(t, err)
			check(t, w.slots.Flip(staged))
			trial, err := w.slots.Trial()
			check(t, err)
			check(t, w.slots.Commit(trial))
			fresh := programOf("2.0.0", 2)
			a = artifact("2.0.0", fresh)
			c.change(&a)
			w.handOver(a, fresh)
			_, err = w.slots.Stage(t.Context(), w.state)
			refusedFor(t, err, c.reason)
			w.wantRuns("after it", floor)
		})
	}
	t.Run("what runs", func(t *testing.T) {
		w := newWorld(t)
		_, err := w.stage("1.0.0", old)
		refusedFor(t, err, ota.ReasonSame)
	})
	t.Run("no request", func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.slots.Stage(t.Context(), w.state); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

// TestUpdate_Downgrade_BelowSecurityFloorRefused also when the ledger that held the floor is lost: the release that runs says it too.
func TestUpdate_Downgrade_BelowSecurityFloorRefused(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("ledger lost: ", lost), func(t *testing.T) {
			w := newWorld(t)
			fixed := programOf("2.0.0", 2)
			a := artifact("2.0.0", fixed)
			a.Floor = "1.9.0"
			w.handOver(a, fixed)
			staged, err := w.slots.Stage(t.Context(), w.state)
			check(t, err)
			check(t, w.slots.Flip(staged))
			trial, err := w.slots.Trial()
			check(t, err)
			check(t, w.slots.Commit(trial))
			if lost {
				check(t, os.Remove(filepath.Join(w.root, "ledger.json")))
			}
			_, err = w.stage("1.8.0", programOf("1.8.0", 18))
			refusedFor(t, err, ota.ReasonFloor)
			if _, err = w.stage("1.9.0", programOf("1.9.0", 19)); err != nil {
				t.Errorf("an older version that is not below the floor: %v", err)
			}
		})
	}
}

// TestUpdate_DuringUpdate_Refused wants one update at a time, in one process and in several, and no lock that outlives its holder.
func TestUpdate_DuringUpdate_Refused(t *testing.T) {
	w := newWorld(t)
	w.try("2.0.0", programOf("2.0.0", 2))
	if _, err := w.stage("3.0.0", programOf("3.0.0", 3)); !errors.Is(err, slots.ErrBusy) {
		t.Errorf("during a trial: %v", err)
	}
	w = newWorld(t)
	fresh := programOf("2.0.0", 2)
	w.handOver(artifact("2.0.0", fresh), fresh)
	other := &world{t: t, root: w.root, state: w.state}
	other.open()
	w.before = func(call, path string) error {
		if call == "prepare" {
			if _, err := other.slots.Stage(t.Context(), w.state); !errors.Is(err, slots.ErrBusy) {
				t.Errorf("while another process stages: %v", err)
			}
			return errCut // and dies
		}
		return nil
	}
	w.open()
	if _, err := w.slots.Stage(t.Context(), w.state); !errors.Is(err, errCut) {
		t.Errorf("the one that dies: %v", err)
	}
	if _, err := other.slots.Stage(t.Context(), w.state); err != nil {
		t.Errorf("after the other one's death: %v", err)
	}
}

// TestUpdate_DamagedState_RunsTheGoodProgram spoils each small file, each link and each program, on trial and not: the last good program runs, the reason
// is told, nobody exits, and the next update goes through.
func TestUpdate_DamagedState_RunsTheGoodProgram(t *testing.T) {
	old, fresh := programOf("1.0.0", 1), programOf("2.0.0", 2)
	for name, spoil := range map[string]func(*world){
		"ledger flipped":   func(w *world) { flip(t, filepath.Join(w.root, "ledger.json")) },
		"ledger empty":     func(w *world) { check(t, os.Truncate(filepath.Join(w.root, "ledger.json"), 0)) },
		"ledger gone":      func(w *world) { check(t, os.Remove(filepath.Join(w.root, "ledger.json"))) },
		"current gone":     func(w *world) { check(t, os.Remove(filepath.Join(w.root, "current"))) },
		"current astray":   func(w *world) { relink(t, filepath.Join(w.root, "current"), "releases/none") },
		"current outside":  func(w *world) { relink(t, filepath.Join(w.root, "current"), "/etc") },
		"program flipped":  func(w *world) { flip(t, filepath.Join(w.root, "current", "streembitd")) },
		"program empty":    func(w *world) { check(t, os.Truncate(filepath.Join(w.root, "current", "streembitd"), 0)) },
		"program gone":     func(w *world) { check(t, os.Remove(filepath.Join(w.root, "current", "streembitd"))) },
		"release unknown":  func(w *world) { flip(t, filepath.Join(w.root, "current", "release.json")) },
		"outcome nonsense": func(w *world) { flip(t, filepath.Join(w.root, "outcome.json")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.try("2.0.0", fresh)
			spoil(w)
			w.open()
			if name == "outcome nonsense" {
				w.wantRuns("the outcome decides nothing", fresh)
				return
			}
			w.wantRuns("after the damage", old)
			w.wantOutcome(ota.RolledBack, ota.ReasonDamaged)
			w.wantRuns("and again", old)
			if failed, err := slots.Failed(w.root, fmt.Sprintf("%x", artifact("2.0.0", fresh).Hash)); failed || err != nil {
				t.Errorf("the program is blamed: %v", err)
			}
			check(t, w.slots.Commit(w.try("2.0.0", fresh)))
			w.wantRuns("the next try", fresh)
		})
	}
	t.Run("good gone", func(t *testing.T) {
		w := newWorld(t)
		check(t, os.Remove(filepath.Join(w.root, "good")))
		w.wantRuns("current alone", old)
	})
	t.Run("both gone", func(t *testing.T) {
		w := newWorld(t)
		check(t, errors.Join(os.Remove(filepath.Join(w.root, "good")), os.Remove(filepath.Join(w.root, "current"))))
		w.wantRuns("no link", old)
	})
}

// TestHandOver_FollowsNoLink wants what lies behind a link in the old inbox to stay.
func TestHandOver_FollowsNoLink(t *testing.T) {
	w := newWorld(t)
	fresh := programOf("2.0.0", 2)
	w.handOver(artifact("2.0.0", fresh), fresh)
	elsewhere := scratch(t)
	check(t, os.WriteFile(filepath.Join(elsewhere, "kept"), nil, 0o600))
	check(t, os.Symlink(elsewhere, filepath.Join(w.state, "update/inbox/link")))
	w.handOver(artifact("2.0.0", fresh), fresh)
	if _, err := os.Stat(filepath.Join(elsewhere, "kept")); err != nil {
		t.Error(err)
	}
}

func flip(t *testing.T, path string) {
	data := read(t, path)
	data[len(data)/2] ^= 1
	check(t, os.WriteFile(path, data, 0o755))
}

func relink(t *testing.T, path, to string) {
	check(t, errors.Join(os.Remove(path), os.Symlink(to, path)))
}

// TestUpdate_DiskFull_KeepsRunning fills a real file system, and has every call of the updater fail for want of space in turn: the old program
// goes on, what was begun is taken away again, and with space the update goes through.
func TestUpdate_DiskFull_KeepsRunning(t *testing.T) {
	old, fresh := programOf("1.0.0", 1), programOf("2.0.0", 2)
	t.Run("each call", func(t *testing.T) {
		for at := 1; ; at++ {
			w, n := newWorld(t), 0
			w.handOver(artifact("2.0.0", fresh), fresh)
			w.before = func(call, path string) error {
				if n++; n >= at && call != "remove" { // what removes needs no space
					return &fs.PathError{Op: call, Path: path, Err: syscall.ENOSPC}
				}
				return nil
			}
			w.open()
			staged, err := w.slots.Stage(t.Context(), w.state)
			if err == nil {
				err = w.slots.Flip(staged)
			}
			if err == nil && n < at {
				break
			}
			w.before = nil
			w.open()
			if p, _ := os.Readlink(filepath.Join(w.root, "current")); !strings.Contains(p, "2.0.0") { // the last calls only tell of it
				w.wantRuns(fmt.Sprint("full from call ", at), old)
			}
			if _, err := w.slots.Trial(); err != nil {
				check(t, w.slots.Commit(w.try("2.0.0", fresh)))
			}
			w.wantRuns(fmt.Sprint("with space again after call ", at), fresh)
		}
	})
	t.Run("the check before", func(t *testing.T) {
		if os.Geteuid() != 0 {
			lacking(t, "mounting a small file system needs root")
		}
		dir := t.TempDir()
		if err := command("mount", "-t", "tmpfs", "-o", "size=17m", "tmpfs", dir); err != nil {
			lacking(t, err.Error())
		}
		t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
		w := &world{t: t, root: filepath.Join(dir, "opt"), state: scratch(t)}
		w.open()
		at := filepath.Join(scratch(t), "first")
		check(t, os.WriteFile(at, old, 0o755))
		check(t, w.slots.Install("1.0.0", at))
		large := append(bytes.Clone(fresh), make([]byte, 2<<20)...)
		_, err := w.stage("2.0.0", large)
		refusedFor(t, err, ota.ReasonSpace)
		w.wantRuns("without space", old)
		w.wantOutcome(ota.Refused, ota.ReasonSpace)
		if _, err := w.stage("2.0.0", fresh); err != nil {
			t.Errorf("a smaller one: %v", err)
		}
	})
}

// FuzzChecked holds that a small state file that was changed in any way is damaged, or says the same.
func FuzzChecked(f *testing.F) {
	dir := f.TempDir()
	s, err := slots.Open(slots.Options{Root: dir, Logger: discard()})
	check(f, err)
	program := filepath.Join(dir, "program")
	check(f, os.WriteFile(program, []byte("x"), 0o755))
	check(f, s.Install("1.0.0", program))
	path := filepath.Join(dir, "ledger.json")
	good := read(f, path)
	f.Add(good)
	f.Add([]byte(`{"sha256":"","body":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, os.WriteFile(path, data, 0o600))
		if _, err := s.Boot(); err != nil {
			t.Errorf("no start with ledger %q: %v", data, err)
		}
		var c struct{ Body json.RawMessage }
		if err := json.Unmarshal(read(t, path), &c); err != nil || len(c.Body) == 0 {
			t.Errorf("it is not put right: %q", read(t, path))
		}
	})
}

// TestStage_EndsWithItsContext wants an update that is called off to leave nothing.
func TestStage_EndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	fresh := programOf("2.0.0", 2)
	w.handOver(artifact("2.0.0", fresh), fresh)
	ctx, cancel := context.WithCancel(t.Context())
	w.before = func(call, _ string) error {
		if call == "prepare" {
			cancel()
		}
		return nil
	}
	w.open()
	if _, err := w.slots.Stage(ctx, w.state); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := w.releases(); len(left) != 1 {
		t.Errorf("these are left: %v", left)
	}
}
