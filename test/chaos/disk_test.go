// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// disk is an ext4 file system of its own on a loop device, of which images can be taken as a power cut would leave it: what the kernel has in
// memory only is not in them. The image lies on a tmpfs, so fsync is fast, and the loss of a disk without fsync is smaller than on a card.
type disk struct {
	t     testing.TB
	dir   string // of the images
	mount string
	lax   bool // fsync returns at once and does nothing: an overlay that is mounted as volatile, which can be done once
	image int  // number of the present one
	up    bool
	laid  bool // the overlay
}

// newDisk makes an empty disk of so many MiB.
func newDisk(t *testing.T, mib int, lax bool) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "mounting a disk image needs root")
	}
	dir, err := os.MkdirTemp("/dev/shm", "streembit-chaos-*") //nolint:usetesting // t.TempDir may be on a slow disk
	if err != nil {
		dir = t.TempDir()
	}
	d := &disk{t: t, dir: dir, mount: filepath.Join(dir, "mount"), lax: lax}
	t.Cleanup(func() {
		d.umount()
		check(t, os.RemoveAll(dir))
	})
	check(t, errors.Join(os.Mkdir(d.mount, 0o700), os.Mkdir(d.overlay(), 0o700)))
	f, err := os.Create(d.file(0))
	check(t, err)
	check(t, errors.Join(f.Truncate(int64(mib)<<20), f.Close()))
	if err := command("mkfs.ext4", "-q", "-F", d.file(0)); err != nil {
		skip(t, err.Error())
	}
	if err := d.mountImage(); err != nil {
		skip(t, err.Error())
	}
	if lax {
		check(t, d.forget())
	}
	return d
}

func (d *disk) file(n int) string { return filepath.Join(d.dir, fmt.Sprintf("image%d", n)) }

func (d *disk) overlay() string { return filepath.Join(d.dir, "overlay") }

// folder is where the disk's user keeps files.
func (d *disk) folder() string {
	if d.lax {
		return d.overlay()
	}
	return filepath.Join(d.mount, "files")
}

func (d *disk) mountImage() error {
	if err := command("mount", "-o", "loop", d.file(d.image), d.mount); err != nil {
		return err
	}
	d.up = true
	return os.MkdirAll(filepath.Join(d.mount, "files"), 0o700)
}

// forget lays the overlay over the disk.
func (d *disk) forget() error {
	files, work, empty := filepath.Join(d.mount, "files"), filepath.Join(d.mount, "work"), filepath.Join(d.mount, "empty")
	err := errors.Join(os.Mkdir(work, 0o700), os.Mkdir(empty, 0o700), command("mount", "-t", "overlay", "overlay",
		"-o", fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,volatile", empty, files, work), d.overlay()))
	d.laid = err == nil
	return err
}

// umount takes the disk away. What was not synced by then does not matter any more.
func (d *disk) umount() {
	if !d.up {
		return
	}
	if d.laid {
		check(d.t, syscall.Unmount(d.overlay(), 0))
	}
	check(d.t, syscall.Unmount(d.mount, 0))
	d.up = false
}

// settle writes everything to the disk, as a disk that has been in use for long.
func (d *disk) settle() {
	d.t.Helper()
	f, err := os.Open(d.mount)
	check(d.t, err)
	check(d.t, errors.Join(command("sync", "--file-system", d.mount), f.Close()))
}

// cut returns an image of what is on the disk at this moment. Whoever writes to it must be stopped. Should the kernel write while the image is
// copied, it is copied again: so it is one that the disk had at one time.
func (d *disk) cut() string {
	d.t.Helper()
	to := d.file(d.image + 1)
	for range 50 {
		before := d.writes()
		check(d.t, command("cp", "--sparse=always", d.file(d.image), to))
		if d.writes() == before {
			return to
		}
	}
	d.t.Fatal("the kernel never left the disk alone long enough for a copy")
	return ""
}

// writes tells the loop device's completed writes and discards, and what is under way.
func (d *disk) writes() string {
	d.t.Helper()
	var st syscall.Stat_t
	check(d.t, syscall.Stat(d.mount, &st))
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", st.Dev>>8&0xfff, st.Dev&0xff))
	check(d.t, err)
	f := strings.Fields(string(text))
	if len(f) < 15 {
		d.t.Fatalf("statistics of the disk: %q", text)
	}
	return strings.Join([]string{f[4], f[8], f[11], f[15-1]}, " ")
}

// swap makes the image that cut took the disk. Nobody may use it.
func (d *disk) swap() {
	d.t.Helper()
	d.umount()
	check(d.t, os.Remove(d.file(d.image)))
	d.image++
	check(d.t, d.mountImage())
}

// visit mounts an image elsewhere, its journal being replayed as after a power cut, and calls f with its files.
func (d *disk) visit(image string, f func(folder string)) {
	d.t.Helper()
	copied, at := image+".visit", filepath.Join(d.dir, "visit")
	check(d.t, errors.Join(command("cp", "--sparse=always", image, copied), os.MkdirAll(at, 0o700)))
	check(d.t, command("mount", "-o", "loop", copied, at))
	defer func() {
		check(d.t, errors.Join(syscall.Unmount(at, 0), os.Remove(copied)))
	}()
	f(filepath.Join(at, "files"))
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
