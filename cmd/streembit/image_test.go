// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/streembit/edge/image"
)

// piCard makes an image like Raspberry Pi OS, and the package arm64.deb: picard FILE.
func piCard(ts *testscript.TestScript, _ bool, args []string) {
	fat := ts.MkAbs("fat.tmp")
	ts.Check(os.WriteFile(ts.MkAbs("cmdline.txt"), []byte("console=tty1 root=PARTUUID=1-02 rootwait\n"), 0o600))
	ts.Check(os.WriteFile(fat, nil, 0o600))
	ts.Check(os.Truncate(fat, 60<<20))
	mkfs := "mkfs.vfat"
	if _, err := exec.LookPath(mkfs); err != nil {
		mkfs = "/usr/sbin/mkfs.vfat"
	}
	ts.Check(ts.Exec(mkfs, "-F", "32", fat))
	ts.Check(ts.Exec("mcopy", "-i", fat, "cmdline.txt", "::"))
	data, err := os.ReadFile(fat)
	ts.Check(err)
	img := make([]byte, 4<<20, 4<<20+len(data))
	img[446+4], img[510], img[511] = 0x0c, 0x55, 0xaa
	binary.LittleEndian.PutUint32(img[446+8:], 8192)
	binary.LittleEndian.PutUint32(img[446+12:], uint32(len(data)/512))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(img, data...), 0o600))
	ts.Check(os.MkdirAll(ts.MkAbs("deb/DEBIAN"), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs("deb/DEBIAN/control"), []byte("Package: streembit\nVersion: 0.2.0\nArchitecture: arm64\nMaintainer: me\nDescription: test\n"), 0o644))
	ts.Check(ts.Exec("dpkg-deb", "--root-owner-group", "--build", "deb", "arm64.deb"))
}

// On a real block device: what is shown, the name that must be typed, what is written.
func TestImageFlash_ToADisk(t *testing.T) {
	img := make([]byte, 3<<20)
	img[446+4], img[510], img[511] = 0x83, 0x55, 0xaa
	binary.LittleEndian.PutUint32(img[446+8:], 2048)
	binary.LittleEndian.PutUint32(img[446+12:], 2048)
	copy(img[2<<20:], "contents")
	path := filepath.Join(t.TempDir(), "a.img")
	if err := os.WriteFile(path, img, 0o600); err != nil {
		t.Fatal(err)
	}
	dev := loop(t, 16<<20)
	name := filepath.Base(dev)
	for _, c := range []struct {
		i    imaging
		want image.Reason
	}{
		{imaging{confirm: name}, image.Fixed},
		{imaging{confirm: "sdx", allow: image.Allow{Fixed: true}}, image.Changed},
		{imaging{confirm: name, allow: image.Allow{Fixed: true}, dry: true}, ""},
		{imaging{confirm: name, allow: image.Allow{Fixed: true}}, ""},
	} {
		out, shown := &bytes.Buffer{}, tempFile(t)
		c.i.app, c.i.unproven = &app{out: out, err: shown}, true
		err := c.i.flash(t.Context(), path, dev)
		r, _ := errors.AsType[*image.Refusal](err)
		if c.want == "" && err != nil || c.want != "" && (r == nil || r.Reason != c.want) {
			t.Fatalf("%+v: got %v, want %q", c.i, err, c.want)
		}
		if text := read(t, shown.Name()); !strings.Contains(text, "disk    "+name+", 16.8 MB, loop\n") {
			t.Errorf("shown: %s", text)
		}
		got := make([]byte, len(img))
		f, err := os.Open(dev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if written := bytes.Equal(got, img); written != strings.Contains(out.String(), "read back and compared") {
			t.Errorf("written: %t, and it says %q", written, out)
		}
	}
}

func tempFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// loop attaches a new file to a loop device; without root or loop devices the test is skipped, in CI as root it fails.
func loop(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "medium")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatalf("losetup: %v %s", err, out)
		}
		t.Skipf("no loop device (root and the kernel's loop driver are needed): %v %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v %s", dev, err, out)
		}
	})
	return dev
}

func TestMeterText(t *testing.T) {
	for want, got := range map[string]string{
		"[############............]  50 %  1.0 GB of 2.0 GB  20.0 MB/s  50s left": meterText(1e9, 2e9, 50*time.Second),
		"[........................]   0 %  0 bytes of 2.0 GB  0 bytes/s  ? left":  meterText(0, 2e9, 0),
		"[########################] 100 %  2.0 GB of 2.0 GB  2.0 GB/s  0s left":   meterText(2e9, 2e9, time.Second),
		"1.0 GB  100.0 MB/s": meterText(1e9, 0, 10*time.Second),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
