// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
)

// world is a releases folder with a first program, and an agent's state folder beside it. What is proven here is what a file says: that metadata are
// to be believed is for package trust.
type world struct {
	t           testing.TB
	root, state string
	before      func(call, path string) error
	slots       *slots.Slots
	proven      error // what Prove returns, if not nil
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := scratch(t)
	w := &world{t: t, root: filepath.Join(dir, "opt"), state: filepath.Join(dir, "state")}
	check(t, os.Mkdir(w.state, 0o700))
	w.open()
	w.install("1.0.0", programOf("1.0.0", 1))
	return w
}

// open opens the folder as a new process does.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.slots, err = slots.Open(slots.Options{Root: w.root, Machine: ota.Machine{Arch: "arm64", Board: "rpi4"}, Prove: w.prove,
		Logger: discard(), Before: w.before})
	check(w.t, err)
}

func (w *world) prove(_ context.Context, folder, path string) (a ota.Artifact, err error) {
	data, err := os.ReadFile(filepath.Join(folder, "targets.json"))
	if err != nil {
		return a, err
	}
	var all map[string]ota.Artifact
	if err := json.Unmarshal(data, &all); err != nil {
		return a, err
	}
	a, is := all[path]
	if !is {
		return a, errors.New("no such target")
	}
	return a, w.proven // with the program, which must not be used then
}

func (w *world) install(version ota.Version, program []byte) {
	w.t.Helper()
	at := filepath.Join(filepath.Dir(w.root), "first")
	check(w.t, os.WriteFile(at, program, 0o755))
	check(w.t, w.slots.Install(version, at))
}

// artifact describes a program for this world's machine.
func artifact(version ota.Version, program []byte) ota.Artifact {
	return ota.Artifact{Path: "streembitd/" + string(version) + "/linux-arm64", Version: version, Channel: "stable", Arch: "arm64",
		Size: int64(len(program)), Hash: sha256.Sum256(program)}
}

// handOver is the agent's part of an update.
func (w *world) handOver(a ota.Artifact, program []byte) {
	w.t.Helper()
	targets, err := json.Marshal(map[string]ota.Artifact{a.Path: a})
	check(w.t, err)
	check(w.t, slots.HandOver(w.state, slots.Request{Path: a.Path, Wanted: a.Version, Baseline: slots.Baseline{ID: "d1", Sensors: []string{"s1"}, Hub: true}},
		map[string][]byte{"targets.json": targets}, bytes.NewReader(program)))
}

// stage does it all until the program lies ready.
func (w *world) stage(version ota.Version, program []byte) (*slots.Staged, error) {
	w.t.Helper()
	w.handOver(artifact(version, program), program)
	return w.slots.Stage(w.t.Context(), w.state)
}

// try has a new program on trial.
func (w *world) try(version ota.Version, program []byte) slots.Trial {
	w.t.Helper()
	staged, err := w.stage(version, program)
	check(w.t, err)
	check(w.t, w.slots.Flip(staged))
	t, err := w.slots.Trial()
	check(w.t, err)
	return t
}

// runs returns what is started when the agent starts now.
func (w *world) runs() []byte {
	w.t.Helper()
	path, err := w.slots.Boot()
	check(w.t, err)
	data, err := os.ReadFile(path)
	check(w.t, err)
	return data
}

func (w *world) wantRuns(what string, want []byte) {
	w.t.Helper()
	if got := w.runs(); !bytes.Equal(got, want) {
		w.t.Errorf("%s: %.20q of %d bytes runs, want %.20q of %d", what, got, len(got), want, len(want))
	}
}

func (w *world) wantOutcome(stage ota.Stage, reason ota.Reason) ota.Progress {
	w.t.Helper()
	p, err := w.slots.Outcome()
	check(w.t, err)
	if p.Stage != stage || p.Reason != reason {
		w.t.Errorf("the outcome is %s %s (%s), want %s %s", p.Stage, p.Reason, p.Detail, stage, reason)
	}
	return p
}

// programOf returns different bytes for different seeds, a few blocks of a disk long.
func programOf(version ota.Version, seed uint64) []byte {
	out := fmt.Appendf(nil, "program %s ", version)
	rng := rand.New(rand.NewPCG(seed, seed))
	for len(out) < 20_000 {
		out = append(out, byte(rng.Uint32()))
	}
	return out
}

func refusedFor(t *testing.T, err error, reason ota.Reason) {
	t.Helper()
	r, ok := errors.AsType[*slots.Refusal](err)
	if !ok || r.Reason != reason {
		t.Errorf("got %v, want a refusal for %s", err, reason)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scratch is a folder of the test's own, in memory if it can be: thousands of files are synced there.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "streembit-slots-*") //nolint:usetesting // t.TempDir may be on a slow disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return dir
}

// lacking skips a test that this machine cannot run, which is a failure in CI.
func lacking(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("not run: " + why)
	}
	t.Skip("SKIPPED: " + why)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
