// SPDX-License-Identifier: Apache-2.0

package repo_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

func key(n byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

func role(threshold int, keys ...byte) repo.Role {
	r := repo.Role{Threshold: threshold}
	for _, n := range keys {
		r.Keys = append(r.Keys, key(n).ID())
	}
	return r
}

// roles has two operators with keys of their own for snapshot and timestamp, and targets that two of two sign.
func roles() repo.Roles {
	return repo.Roles{Root: role(2, 1, 2, 3), Targets: role(2, 4, 5), Snapshot: role(1, 6, 16), Timestamp: role(1, 7, 17)}
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// found makes a release folder.
func found(t *testing.T) (string, *repo.Repo) {
	t.Helper()
	dir := t.TempDir()
	q, err := repo.FirstRoot(roles(), now)
	must(t, err)
	must(t, q.Sign(key(2)))
	must(t, q.Sign(key(3)))
	r, err := q.Accept(dir)
	must(t, err)
	return dir, r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program writes the least that is a program for arm64, which differs by its text.
func program(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "program")
	must(t, os.WriteFile(path, append(header(2, 1, 2, elf.EM_AARCH64), text...), 0o755))
	return path
}

// release drafts and signs; online are the operator's own keys.
func release(t *testing.T, r *repo.Repo, v ota.Version, online ...journal.Signer) {
	t.Helper()
	_, err := r.Add(repo.Release{Version: v, Channel: "stable"}, program(t, string(v)), now)
	must(t, err)
	sign(t, r, online...)
}

func sign(t *testing.T, r *repo.Repo, online ...journal.Signer) {
	t.Helper()
	if done, err := r.Sign(now, append([]journal.Signer{key(4), key(5)}, online...)...); err != nil || !done {
		t.Fatal(done, err)
	}
}

// copyOf is the release folder on another operator's machine.
func copyOf(t *testing.T, dir string) *repo.Repo {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(dir)))
	r, err := repo.Open(to)
	must(t, err)
	return r
}

// files is a Fetcher: the fleet.
type files map[string][]byte

func (f files) Fetch(_ context.Context, name string, _ int64) ([]byte, error) {
	if data, ok := f[name]; ok {
		return data, nil
	}
	return nil, trust.ErrNotFound
}

func (f files) publish(t *testing.T, r *repo.Repo) {
	t.Helper()
	all, err := r.Files()
	must(t, err)
	maps.Copy(f, all)
}

func versions(t *testing.T, r *repo.Repo) (all []ota.Version) {
	t.Helper()
	list, err := r.Verify(t.Context(), nil, now)
	must(t, err)
	for _, a := range list {
		all = append(all, a.Version)
	}
	return all
}

// TestTwoOperators: both release at once. Who comes second is told so, takes over what the first published, and loses nothing of his own.
func TestTwoOperators(t *testing.T) {
	dir, ann := found(t)
	release(t, ann, "1.0.0", key(6), key(7))
	fleet := files{}
	if newer, err := ann.Compare(t.Context(), fleet, now); err != nil || !newer {
		t.Fatalf("to an empty fleet: %v, %v", newer, err)
	}
	fleet.publish(t, ann)
	if newer, err := ann.Compare(t.Context(), fleet, now); err != nil || newer {
		t.Errorf("the very same: %v, %v", newer, err)
	}
	bob := copyOf(t, dir)
	release(t, ann, "1.1.0", key(6), key(7))
	release(t, bob, "1.2.0", key(16), key(17))
	if newer, err := ann.Compare(t.Context(), fleet, now); err != nil || !newer {
		t.Errorf("the first: %v, %v", newer, err)
	}
	fleet.publish(t, ann)
	if _, err := bob.Compare(t.Context(), fleet, now); !errors.Is(err, repo.ErrNotNewer) {
		t.Errorf("the second: %v", err)
	}
	must(t, bob.Resign(now, key(16), key(17))) // a higher timestamp over other content does not help
	must(t, bob.Resign(now, key(16), key(17)))
	if _, err := bob.Compare(t.Context(), fleet, now); !errors.Is(err, repo.ErrNotNewer) {
		t.Errorf("the second with a higher timestamp: %v", err)
	}
	further := copyOf(t, filepath.Dir(bob.Metadata())) // nor does a further release on top, whose files all have other names
	release(t, further, "1.3.0", key(16), key(17))
	if _, err := further.Compare(t.Context(), fleet, now); !errors.Is(err, repo.ErrNotNewer) {
		t.Errorf("the second with one more release: %v", err)
	}
	must(t, further.Adopt(t.Context(), fleet, now))
	if paths, _, err := further.Draft(); err != nil || len(paths) != 4 {
		t.Errorf("both of the second's releases stay in his draft: %q, %v", paths, err)
	}
	must(t, bob.Adopt(t.Context(), fleet, now))
	if paths, _, err := bob.Draft(); err != nil || !slices.Equal(paths, []string{"streembitd/1.0.0/linux-arm64", "streembitd/1.1.0/linux-arm64", "streembitd/1.2.0/linux-arm64"}) {
		t.Fatalf("the draft after adopting: %q, %v", paths, err)
	}
	sign(t, bob, key(16), key(17))
	if newer, err := bob.Compare(t.Context(), fleet, now); err != nil || !newer {
		t.Errorf("after adopting: %v, %v", newer, err)
	}
	fleet.publish(t, bob)
	if _, err := ann.Compare(t.Context(), fleet, now); !errors.Is(err, repo.ErrNotNewer) {
		t.Errorf("the first, who is behind now: %v", err)
	}
	must(t, ann.Adopt(t.Context(), fleet, now))
	if _, _, err := ann.Draft(); !errors.Is(err, repo.ErrNoDraft) {
		t.Errorf("a draft of nothing new: %v", err)
	}
	must(t, ann.Resign(now, key(6), key(7)))
	if newer, err := ann.Compare(t.Context(), fleet, now); err != nil || !newer {
		t.Errorf("a new timestamp: %v, %v", newer, err)
	}
}

// TestAdopt_WithdrawnStaysWithdrawn: what the other operator took out is not brought back by who adopts.
func TestAdopt_WithdrawnStaysWithdrawn(t *testing.T) {
	dir, ann := found(t)
	release(t, ann, "1.0.0", key(6), key(7))
	release(t, ann, "1.1.0", key(6), key(7))
	bob := copyOf(t, dir)
	if n, err := ann.Withdraw("stable", "1.1.0", now); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	sign(t, ann, key(6), key(7))
	fleet := files{}
	fleet.publish(t, ann)
	before := files{}
	before.publish(t, bob)
	if newer, err := bob.Compare(t.Context(), before, now); err != nil || newer { // the fleet had both when bob last asked
		t.Fatal(newer, err)
	}
	_, err := bob.Add(repo.Release{Version: "1.2.0", Channel: "stable"}, program(t, "1.2.0"), now)
	must(t, err)
	must(t, bob.Adopt(t.Context(), fleet, now))
	if paths, _, err := bob.Draft(); err != nil || !slices.Equal(paths, []string{"streembitd/1.0.0/linux-arm64", "streembitd/1.2.0/linux-arm64"}) {
		t.Errorf("%q, %v", paths, err)
	}
	if err := bob.Adopt(t.Context(), files{"timestamp.json": []byte("{}")}, now); !errors.Is(err, trust.ErrMalformed) {
		t.Errorf("rubbish: %v", err)
	}
}

// TestSign_Threshold: targets that two of two sign, on two machines.
func TestSign_Threshold(t *testing.T) {
	dir, r := found(t)
	if _, err := r.Sign(now, key(4)); !errors.Is(err, repo.ErrNoDraft) {
		t.Errorf("no draft: %v", err)
	}
	_, err := r.Add(repo.Release{Version: "1.0.0", Channel: "stable"}, program(t, "a"), now)
	must(t, err)
	if _, err := r.Sign(now, key(6), key(7)); !errors.Is(err, repo.ErrForeignKey) {
		t.Errorf("keys without a part: %v", err)
	}
	if done, err := r.Sign(now, key(4), key(6), key(7)); done || err != nil {
		t.Errorf("one of two: %v, %v", done, err)
	}
	_, s, err := r.Draft()
	must(t, err)
	if s.Missing != 1 || !slices.Equal(s.Open, []edge.ID{key(5).ID()}) {
		t.Errorf("standing %+v", s)
	}
	there := copyOf(t, dir)
	if _, err := there.Sign(now, key(5)); !errors.Is(err, repo.ErrTooFew) { // the targets are whole, the keys on line are elsewhere
		t.Errorf("without the keys on line: %v", err)
	}
	back := copyOf(t, filepath.Dir(there.Metadata()))
	if done, err := back.Sign(now, key(6), key(7)); !done || err != nil {
		t.Fatal(done, err)
	}
	if got := versions(t, back); len(got) != 1 {
		t.Errorf("%v", got)
	}
	// A change of the draft takes its signatures away.
	_, err = back.Add(repo.Release{Version: "1.1.0", Channel: "stable"}, program(t, "b"), now)
	must(t, err)
	_, err = back.Sign(now, key(4))
	must(t, err)
	_, err = back.Add(repo.Release{Version: "1.2.0", Channel: "stable"}, program(t, "c"), now)
	must(t, err)
	if _, s, _ := back.Draft(); s.Missing != 2 {
		t.Errorf("after a change: %+v", s)
	}
}

// TestResign keeps a fleet fresh for a year with the keys on line alone.
func TestResign(t *testing.T) {
	_, r := found(t)
	if err := r.Resign(now, key(6), key(7)); !errors.Is(err, repo.ErrNoRelease) {
		t.Errorf("nothing to sign: %v", err)
	}
	release(t, r, "1.0.0", key(6), key(7))
	if err := r.Resign(now, key(6)); !errors.Is(err, repo.ErrTooFew) {
		t.Errorf("without the timestamp key: %v", err)
	}
	at := now
	for at.Before(now.Add(repo.TargetsLife - 24*time.Hour)) {
		at = at.Add(10 * 24 * time.Hour)
		must(t, r.Resign(at, key(6), key(7)))
		if _, err := r.Verify(t.Context(), nil, at.Add(9*24*time.Hour)); err != nil && at.Before(now.Add(repo.TargetsLife-10*24*time.Hour)) {
			t.Fatalf("%v days on: %v", at.Sub(now).Hours()/24, err)
		}
	}
	late := now.Add(repo.TargetsLife + time.Hour)
	must(t, r.Resign(late, key(6), key(7)))
	if _, err := r.Verify(t.Context(), nil, late); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("targets that are a year old: %v", err)
	}
	must(t, r.Renew(late))
	if done, err := r.Sign(late, key(4), key(5), key(6), key(7)); !done || err != nil {
		t.Fatal(done, err)
	}
	_, err := r.Verify(t.Context(), nil, late)
	must(t, err)
}

// TestRotate_Targets: programs that a key has signed which counts no more are signed again before anything else is.
func TestRotate_Targets(t *testing.T) {
	dir, r := found(t)
	release(t, r, "1.0.0", key(6), key(7))
	q, err := r.NextRoot(now, func(roles *repo.Roles) error { roles.Targets = role(1, 44); return nil })
	must(t, err)
	must(t, q.Sign(key(1)))
	must(t, q.Sign(key(3)))
	r, err = q.Accept(dir)
	must(t, err)
	if err := r.Resign(now, key(6), key(7)); !errors.Is(err, repo.ErrRenew) {
		t.Errorf("a new timestamp over them: %v", err)
	}
	must(t, r.Renew(now))
	if done, err := r.Sign(now, key(44), key(6), key(7)); !done || err != nil {
		t.Fatal(done, err)
	}
	if got := versions(t, r); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestRelease_Keeps: the newest versions of each channel, whole releases, never what is below the floor.
func TestRelease_Keeps(t *testing.T) {
	_, r := found(t)
	for _, v := range []ota.Version{"1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0-rc.1"} {
		release(t, r, v, key(6), key(7))
	}
	_, err := r.Add(repo.Release{Version: "0.1.0", Channel: "beta"}, program(t, "beta"), now)
	must(t, err)
	sign(t, r, key(6), key(7))
	if got := versions(t, r); !slices.Equal(got, []ota.Version{"0.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0-rc.1"}) {
		t.Errorf("%v", got)
	}
	if _, err := r.Add(repo.Release{Version: "1.0.5", Channel: "stable"}, program(t, "x"), now); !errors.Is(err, ota.ErrBelowFloor) {
		t.Errorf("older than all that is kept: %v", err)
	}
	if _, err := r.Add(repo.Release{Version: "1.4.0", Channel: "stable"}, program(t, "another"), now); !errors.Is(err, repo.ErrExists) {
		t.Errorf("a release that changes: %v", err)
	}
	a, err := r.Add(repo.Release{Version: "1.5.0", Channel: "stable", Floor: "1.4.0"}, program(t, "y"), now)
	must(t, err)
	b, err := r.Add(repo.Release{Version: "1.6.0", Channel: "stable"}, program(t, "z"), now)
	must(t, err)
	if a.Floor != "1.4.0" || b.Floor != "1.4.0" {
		t.Errorf("floors %q, %q: want the channel's to stay", a.Floor, b.Floor)
	}
	sign(t, r, key(6), key(7))
	if got := versions(t, r); !slices.Equal(got, []ota.Version{"0.1.0", "1.4.0", "1.5.0-rc.1", "1.5.0", "1.6.0"}) {
		t.Errorf("%v", got)
	}
	list, err := r.Verify(t.Context(), nil, now)
	must(t, err)
	must(t, os.WriteFile(r.Program(list[0].Tree), []byte("another"), 0o644))
	if _, err := r.Verify(t.Context(), nil, now); !errors.Is(err, trust.ErrMismatch) {
		t.Errorf("a program that was changed in the folder: %v", err)
	}
	must(t, os.Remove(r.Program(list[0].Tree)))
	if _, err := r.Verify(t.Context(), nil, now); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is gone: %v", err)
	}
	_, err = r.Add(repo.Release{Version: "0.1.0", Channel: "beta"}, program(t, "beta"), now) // as from the operator's own build
	must(t, err)
	_, err = r.Verify(t.Context(), nil, now)
	must(t, err)
	if _, _, err := r.Draft(); !errors.Is(err, repo.ErrNoDraft) {
		t.Errorf("the same again made a draft: %v", err)
	}
}

// TestRequest_Tampered: what holders are shown is what they sign, and what was changed on the way is nobody's signature.
func TestRequest_Tampered(t *testing.T) {
	dir, r := found(t)
	q, err := r.NextRoot(now, func(roles *repo.Roles) error { roles.Root.Keys[0] = key(9).ID(); return nil })
	must(t, err)
	must(t, q.Sign(key(2)))
	must(t, q.Sign(key(3)))
	text, err := q.Encode()
	must(t, err)
	read, err := repo.ParseRequest(text)
	must(t, err)
	if again, err := read.Encode(); err != nil || !bytes.Equal(again, text) {
		t.Errorf("%s\n%v", again, err)
	}
	other, err := r.NextRoot(now, func(roles *repo.Roles) error { roles.Root.Threshold = 1; return nil })
	must(t, err)
	if err := q.Take(other); !errors.Is(err, trust.ErrMismatch) {
		t.Errorf("another request's signatures: %v", err)
	}
	if err := q.Sign(key(40)); !errors.Is(err, repo.ErrForeignKey) {
		t.Errorf("a stranger: %v", err)
	}
	for i := len(text) - 1; i >= 0; i -= 23 { // no change that is still a request counts as signed
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if q, err := repo.ParseRequest(bad); err == nil {
			if _, err := q.Accept(t.TempDir()); err == nil {
				t.Errorf("byte %d, %q as %q: accepted", i, text[i], bad[i])
			}
			if _, err := q.Accept(dir); err == nil {
				t.Fatalf("byte %d, %q as %q: accepted", i, text[i], bad[i])
			}
		}
	}
	_, err = read.Accept(dir)
	must(t, err)
	if _, err := read.Accept(dir); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("twice: %v", err)
	}
	must(t, os.Remove(filepath.Join(r.Metadata(), "1.root.json")))
	if _, err := repo.Open(dir); err != nil {
		t.Errorf("a chain that begins later: %v", err)
	}
	must(t, os.Rename(filepath.Join(r.Metadata(), "2.root.json"), filepath.Join(r.Metadata(), "3.root.json")))
	must(t, os.WriteFile(filepath.Join(r.Metadata(), "1.root.json"), nil, 0o600))
	if _, err := repo.Open(dir); err == nil {
		t.Error("a chain with a hole")
	}
}

// TestArch reads a program that the compiler made, and headers of others.
func TestArch(t *testing.T) {
	own, err := os.Executable()
	must(t, err)
	if got, err := repo.Arch(own); err != nil || got != runtime.GOARCH {
		t.Errorf("this test: %q, %v", got, err)
	}
	for _, c := range []struct {
		class, order byte
		kind         uint16
		machine      elf.Machine
		want         string
	}{
		{2, 1, 2, elf.EM_AARCH64, "arm64"}, {1, 1, 2, elf.EM_ARM, "arm"}, {2, 1, 3, elf.EM_X86_64, "amd64"}, {2, 1, 2, elf.EM_RISCV, "riscv64"},
		{1, 1, 2, elf.EM_386, ""}, {1, 1, 2, elf.EM_RISCV, ""}, {2, 1, 1, elf.EM_AARCH64, ""}, {2, 1, 2, elf.EM_PPC64, ""}, {1, 1, 2, elf.EM_X86_64, ""},
	} {
		path := filepath.Join(t.TempDir(), "program")
		must(t, os.WriteFile(path, header(c.class, c.order, c.kind, c.machine), 0o600))
		got, err := repo.Arch(path)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, repo.ErrWrongArch) {
			t.Errorf("%v: %q, %v", c, got, err)
		}
	}
	if _, err := repo.Arch(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// header is the least of an ELF file.
func header(class, order byte, kind uint16, machine elf.Machine) []byte {
	size := map[byte]int{1: 52, 2: 64}[class]
	h := make([]byte, size)
	copy(h, []byte{0x7f, 'E', 'L', 'F', class, order, 1})
	binary.LittleEndian.PutUint16(h[16:], kind)
	binary.LittleEndian.PutUint16(h[18:], uint16(machine))
	binary.LittleEndian.PutUint32(h[20:], 1)
	binary.LittleEndian.PutUint16(h[size-12:], uint16(size))
	return h
}

func Example() {
	dir, _ := os.MkdirTemp("", "ota")
	defer os.RemoveAll(dir)
	q, _ := repo.FirstRoot(roles(), now)
	_ = q.Sign(key(1)) // on one machine
	_, err := q.Accept(dir)
	fmt.Println(err)
	_ = q.Sign(key(2)) // on another
	_, err = q.Accept(dir)
	fmt.Println(err)
	// Output:
	// ota/repo: root 1: role root has 1 of 2 signatures: not signed by enough keys
	// <nil>
}
