// SPDX-License-Identifier: Apache-2.0

package pinned_test

import (
	"crypto/ed25519"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/pinned"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

// TestProve_BelievesTheFirstRootAlone pins the root of the first update that is proven. What other keys sign proves nothing after that, nor does what was
// signed before, or a program that the metadata do not name.
func TestProve_BelievesTheFirstRootAlone(t *testing.T) {
	ours, foreign, now := newOperator(t), newOperator(t), time.Now()
	own := pinned.Trust{Dir: filepath.Join(t.TempDir(), "trust")}
	empty, first := t.TempDir(), ours.release("1.0.0", now)
	if _, err := own.Prove(t.Context(), empty, path("1.0.0")); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("nothing proves it: %v", err)
	}
	if _, err := own.Prove(t.Context(), first, path("9.9.9")); err == nil {
		t.Error("a program that nobody signed")
	}
	if _, err := os.Stat(own.Dir + "/root.json"); err == nil {
		t.Error("a root is pinned that has proven nothing")
	}
	a, err := own.Prove(t.Context(), first, path("1.0.0"))
	if err != nil || a.Version != "1.0.0" || a.Path != path("1.0.0") {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := own.Prove(t.Context(), foreign.release("2.0.0", now), path("2.0.0")); err == nil {
		t.Error("other keys prove a program")
	}
	if _, err := own.Prove(t.Context(), ours.release("2.0.0", now), path("2.0.0")); err != nil {
		t.Errorf("the next release: %v", err)
	}
	if _, err := own.Prove(t.Context(), first, path("2.0.0")); err == nil {
		t.Error("older metadata prove a program")
	}
	root, err := os.ReadFile(filepath.Join(first, "1.root.json"))
	check(t, err)
	check(t, own.Pin(root)) // it is
	other, err := os.ReadFile(filepath.Join(foreign.repo.Metadata(), "1.root.json"))
	check(t, err)
	if err := own.Pin(other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("pinning another root: %v", err)
	}
	if err := (pinned.Trust{Dir: t.TempDir()}).Pin([]byte("{}")); err == nil {
		t.Error("pinning what is no root")
	}
}

// TestProve_PinnedBefore wants a root that was pinned to be the one that counts, whatever comes first.
func TestProve_PinnedBefore(t *testing.T) {
	ours, foreign := newOperator(t), newOperator(t)
	own := pinned.Trust{Dir: t.TempDir()}
	root, err := ours.repo.Root()
	check(t, err)
	check(t, own.Pin(root))
	if _, err := own.Prove(t.Context(), foreign.release("1.0.0", time.Now()), path("1.0.0")); err == nil {
		t.Error("other keys prove a program")
	}
	if _, err := own.Prove(t.Context(), ours.release("1.0.0", time.Now()), path("1.0.0")); err != nil {
		t.Error(err)
	}
}

func path(version string) string { return "streembitd/" + version + "/linux-amd64" }

// operator has all keys at hand.
type operator struct {
	t    *testing.T
	repo *repo.Repo
	keys []journal.Signer
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{t: t}
	var ids [4]edge.ID
	for i := range ids {
		_, private, err := ed25519.GenerateKey(nil)
		check(t, err)
		k := journal.NewSoftKey(private)
		o.keys, ids[i] = append(o.keys, k), k.ID()
	}
	role := func(i int) repo.Role { return repo.Role{Keys: ids[i : i+1], Threshold: 1} }
	q, err := repo.FirstRoot(repo.Roles{Root: role(0), Targets: role(1), Snapshot: role(2), Timestamp: role(3)}, time.Now())
	check(t, err)
	check(t, q.Sign(o.keys[0]))
	o.repo, err = q.Accept(t.TempDir())
	check(t, err)
	return o
}

// release signs a program and returns a folder with the metadata.
func (o *operator) release(version string, now time.Time) string {
	o.t.Helper()
	program := make([]byte, 64) // the header of an ELF file for amd64, and nothing behind it
	copy(program, []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})
	program[16], program[18], program[20], program[52] = byte(elf.ET_EXEC), byte(elf.EM_X86_64), 1, 64
	file := filepath.Join(o.t.TempDir(), "program")
	check(o.t, os.WriteFile(file, append(program, version...), 0o755))
	_, err := o.repo.Add(repo.Release{Version: ota.Version(version), Channel: "stable"}, file, now)
	check(o.t, err)
	if done, err := o.repo.Sign(now, o.keys[1:]...); err != nil || !done {
		o.t.Fatal(done, err)
	}
	files, err := o.repo.Files()
	check(o.t, err)
	dir := o.t.TempDir()
	for name, data := range files {
		check(o.t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return dir
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
