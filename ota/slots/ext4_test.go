// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/minio/selfupdate"
)

// TestUpdate_PowerCut_Ext4Images is TestUpdate_PowerCut_EverySyscall on a real ext4: before each call the backing file of the mounted file system is
// copied as it is, which is what a power cut leaves, and the copy is mounted, its journal replayed, and started from. At every second image
// a bystander has synced a file of its own just before, as an agent's outbox does: that writes out the names of files whose bytes are still in
// memory only. The control is selfupdate.Apply in the same place, which must leave a disk without a program.
func TestUpdate_PowerCut_Ext4Images(t *testing.T) {
	cuts := 0
	for round := range rounds()/2 + rounds()%2 {
		for _, s := range stories() {
			cuts += s.onExt4(t, round)
		}
	}
	t.Logf("%d images", cuts)
}

func (s story) onExt4(t *testing.T, round int) (cuts int) {
	d := newExt4(t)
	w := &world{t: t, root: filepath.Join(d.mount, "opt"), state: scratch(t)}
	w.open()
	tr := &trial{w: w, old: programOf("1.0.0", 1), fresh: programOf("2.0.0", 2)}
	tr.must = tr.old
	at := filepath.Join(scratch(t), "first")
	check(t, os.WriteFile(at, tr.old, 0o755))
	check(t, w.slots.Install("1.0.0", at))
	w.handOver(artifact("2.0.0", tr.fresh), tr.fresh)
	w.before = func(call, path string) error {
		if cuts%2 == round%2 {
			d.bystander()
		}
		cuts++
		d.visit(func(root string) {
			other := &world{t: t, root: filepath.Join(root, "opt"), state: scratch(t)}
			other.open()
			if what := tr.judge(other); what != "" {
				t.Errorf("%s, cut before call %d (%s %s): %s", s.name, cuts, call, filepath.Base(path), what)
			}
		})
		return nil
	}
	w.open()
	for _, act := range s.acts {
		check(t, act(tr))
	}
	return cuts
}

// TestUpdate_PowerCut_Ext4Control is what minio/selfupdate's own Apply leaves when the power goes some time after it.
func TestUpdate_PowerCut_Ext4Control(t *testing.T) {
	d := newExt4(t)
	at, old, fresh := filepath.Join(d.mount, "streembitd"), programOf("1.0.0", 1), programOf("2.0.0", 2)
	check(t, os.WriteFile(at, old, 0o755))
	check(t, command("sync", "--file-system", d.mount))
	sum := sha256.Sum256(fresh)
	check(t, selfupdate.Apply(bytes.NewReader(fresh), selfupdate.Options{TargetPath: at, Checksum: sum[:]}))
	d.bystander()
	d.visit(func(root string) {
		data, err := os.ReadFile(filepath.Join(root, "streembitd"))
		if err == nil && (bytes.Equal(data, old) || bytes.Equal(data, fresh)) {
			t.Error("selfupdate.Apply survives this power cut: these images show nothing")
		}
		t.Logf("after selfupdate.Apply and a power cut the program has %d bytes, %v", len(data), err)
	})
}

// ext4 is a file system of its own on a loop device.
type ext4 struct {
	t          *testing.T
	dir, mount string
	n          int
}

func newExt4(t *testing.T) *ext4 {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "mounting a disk image needs root")
	}
	d := &ext4{t: t, dir: scratch(t)}
	d.mount = filepath.Join(d.dir, "mount")
	check(t, os.Mkdir(d.mount, 0o700))
	f, err := os.Create(d.image())
	check(t, err)
	check(t, errors.Join(f.Truncate(40<<20), f.Close()))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", d.image()}, {"mount", "-o", "loop", d.image(), d.mount}} {
		if err := command(args...); err != nil {
			lacking(t, err.Error())
		}
	}
	t.Cleanup(func() { check(t, syscall.Unmount(d.mount, 0)) })
	return d
}

func (d *ext4) image() string { return filepath.Join(d.dir, "image") }

// bystander syncs another file, and with it the file system's journal.
func (d *ext4) bystander() {
	d.n++
	f, err := os.Create(filepath.Join(d.mount, fmt.Sprint("bystander", d.n%4)))
	check(d.t, err)
	_, err = fmt.Fprintln(f, d.n)
	check(d.t, errors.Join(err, f.Sync(), f.Close()))
}

// visit mounts a copy of what is on the disk now. It is copied again should the kernel write meanwhile.
func (d *ext4) visit(f func(root string)) {
	d.t.Helper()
	copied, at := d.image()+".copy", filepath.Join(d.dir, "visit")
	for range 50 {
		before := read(d.t, d.statistics())
		check(d.t, command("cp", "--sparse=always", d.image(), copied))
		if slices.Equal(read(d.t, d.statistics()), before) {
			break
		}
	}
	check(d.t, errors.Join(os.MkdirAll(at, 0o700), command("mount", "-o", "loop", copied, at)))
	defer func() { check(d.t, errors.Join(syscall.Unmount(at, 0), os.Remove(copied))) }()
	f(at)
}

// statistics is the file in which the kernel counts what it writes to the loop device.
func (d *ext4) statistics() string {
	var st syscall.Stat_t
	check(d.t, syscall.Stat(d.mount, &st))
	return fmt.Sprintf("/sys/dev/block/%d:%d/stat", st.Dev>>8&0xfff, st.Dev&0xff)
}

func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args, err, out)
	}
	return nil
}
