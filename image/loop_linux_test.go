// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/streembit/edge/image"
)

// loopDevice attaches a file of size bytes to a loop device; without root or loop devices the test is skipped, in CI it fails.
func loopDevice(t *testing.T, size int64) (dev, backing string) {
	t.Helper()
	backing = filepath.Join(t.TempDir(), "medium")
	f := must(os.Create(backing))
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := exec.Command("losetup", "--find", "--show", "--partscan", backing).CombinedOutput()
	if err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatalf("losetup: %v %s", err, out)
		}
		t.Skipf("no loop device (root and the kernel's loop driver are needed): %v %s", err, out)
	}
	dev = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v %s", dev, err, out)
		}
	})
	return dev, backing
}

// A real block device of the running kernel: written, prepared, read back; refused while it is mounted or in use.
func TestLoopDevice(t *testing.T) {
	dev, backing := loopDevice(t, 80<<20)
	tools(t, "mcopy", "mkfs.vfat", "fsck.vfat", "mke2fs", "e2fsck", "debugfs")
	root := os.DirFS("/")
	d, err := image.FindDisk(root, dev)
	if err != nil || d.Bus != "loop" || d.Size != 80<<20 || !d.Whole {
		t.Fatalf("%+v, %v", d, err)
	}
	if r, ok := errors.AsType[*image.Refusal](d.Refuse(0, image.Allow{})); !ok || r.Reason != image.Fixed {
		t.Errorf("got %v, want a refusal: it is built in", r)
	}
	allow := image.Allow{Fixed: true}
	img := card(t, "32", map[string]string{"cmdline.txt": cmdline}, map[string]string{"/x": "y"})
	want := must(os.ReadFile(img))
	target, err := image.OpenDisk(root, dev, d, int64(len(want)), allow)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := image.OpenDisk(root, dev, d, 0, allow); refusal(err) != image.InUse {
		t.Errorf("opened twice: %v", err)
	}
	w := image.Writer{Device: target, Size: d.Size}
	if err := w.Write(t.Context(), bytes.NewReader(want), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	style, err := image.Prepare(t.Context(), target, w.Head(), w.Length(), payload(t))
	if err != nil || style != image.FirstRun {
		t.Fatalf("%s, %v", style, err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	intact(t, backing)
	if got := boot(t, dev, "streembit/enroll.toml"); got != "secret = 1\n" {
		t.Errorf("token %q", got)
	}
	mounted(t, dev, allow)
}

func refusal(err error) image.Reason {
	if r, ok := errors.AsType[*image.Refusal](err); ok {
		return r.Reason
	}
	return ""
}

// mounted mounts a partition of the device where the kernel lets us, and wants refusals by the tables and by the kernel itself.
func mounted(t *testing.T, dev string, allow image.Allow) {
	t.Helper()
	root := os.DirFS("/")
	d := must(image.FindDisk(root, dev))
	if len(d.Parts) == 1 { // a kernel without the parser of such tables; what it would have found is told to it
		run(t, "addpart", dev, "1", "8192", "90112")
		run(t, "addpart", dev, "2", "98304", "32768")
		d = must(image.FindDisk(root, dev))
	}
	if len(d.Parts) != 3 || d.Parts[2].Size != 16<<20 {
		t.Fatalf("the kernel sees %+v", d.Parts)
	}
	if p := must(image.FindDisk(root, dev+"p1")); refusal(p.Refuse(0, allow)) != image.Partition {
		t.Errorf("%+v is not refused", p)
	}
	at := t.TempDir()
	if err := syscall.Mount(dev+"p2", at, "ext4", syscall.MS_RDONLY, ""); err != nil {
		t.Fatalf("mounting %sp2: %v", dev, err)
	}
	defer func() {
		if err := syscall.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	}()
	used := must(image.FindDisk(root, dev))
	if got := refusal(used.Refuse(0, allow)); got != image.Mounted {
		t.Errorf("mounted: %q", got)
	}
	if _, err := image.OpenDisk(root, dev, d, 0, allow); refusal(err) != image.InUse {
		t.Errorf("opened while mounted: %v", err)
	}
}

// What is shown and what is open must be one: another disk under the same path is refused.
func TestOpenDisk_ChangedSinceShown(t *testing.T) {
	dev, _ := loopDevice(t, 16<<20)
	shown := must(image.FindDisk(os.DirFS("/"), dev))
	shown.Serial = "another"
	if _, err := image.OpenDisk(os.DirFS("/"), dev, shown, 0, image.Allow{Fixed: true}); refusal(err) != image.Changed {
		t.Errorf("got %v", err)
	}
	if _, err := image.FindDisk(os.DirFS("/"), "/dev/null"); refusal(err) != image.NoDisk {
		t.Errorf("/dev/null: %v", err)
	}
}
