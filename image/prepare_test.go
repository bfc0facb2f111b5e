// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/streembit/edge/image"
)

// tools skips the test if programs are missing; in CI that is a failure.
func tools(t *testing.T, names ...string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: apt-get install mtools dosfstools e2fsprogs", name)
			}
			t.Skipf("%s is missing: apt-get install mtools dosfstools e2fsprogs", name)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// card makes an image with a FAT partition at 4 MiB that has the files, and an ext4 partition at 48 MiB.
func card(t *testing.T, bits string, boot, system map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	img := filepath.Join(dir, "card.img")
	if err := os.WriteFile(img, mbr(512, part{0x0c, 8192, 90112}, part{0x83, 98304, 32768}), 0o600); err != nil {
		t.Fatal(err)
	}
	fat, ext := filepath.Join(dir, "fat"), filepath.Join(dir, "ext")
	run(t, "truncate", "-s", "44M", fat)
	run(t, "mkfs.vfat", "-F", bits, "-n", "BOOTFS", fat)
	for name, text := range boot {
		run(t, "mcopy", "-i", fat, save(t, "f", []byte(text)), "::"+name)
	}
	tree := filepath.Join(dir, "tree")
	for name, text := range system {
		at := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, ext, "16M")
	run(t, "dd", "if="+fat, "of="+img, "bs=1M", "seek=4", "conv=notrunc", "status=none")
	run(t, "dd", "if="+ext, "of="+img, "bs=1M", "seek=48", "conv=notrunc", "status=none")
	return img
}

// deb makes a Debian package with random data.
func deb(t testing.TB, name, version, arch string) string {
	t.Helper()
	var control bytes.Buffer
	w := tar.NewWriter(&control)
	text := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nDescription: test\n more\n", name, version, arch)
	_ = w.WriteHeader(&tar.Header{Name: "./control", Size: int64(len(text)), Mode: 0o644})
	_, _ = w.Write([]byte(text))
	w.Close()
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", control.Bytes()}, {"data.tar", mbr(300 << 10)}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return save(t, filepath.Base(name)+".deb", out.Bytes())
}

func payload(t *testing.T) image.Payload {
	t.Helper()
	p := image.Payload{Config: []byte("state = \"/var/lib/streembit\"\n"), Token: []byte("secret = 1\n")}
	for _, arch := range []string{"arm64", "armhf"} {
		d, err := image.OpenPackage(deb(t, "streembit", "0.2.0~rc1+3", arch))
		if err != nil {
			t.Fatal(err)
		}
		p.Packages = append(p.Packages, d)
	}
	return p
}

func prepare(t *testing.T, img string, p image.Payload) (image.Style, error) {
	t.Helper()
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return image.Prepare(t.Context(), &image.Target{File: f}, f, info.Size(), p)
}

// boot returns a file of the FAT partition, checking the file system on the way.
func boot(t *testing.T, img, name string) string {
	t.Helper()
	out, err := exec.Command("mcopy", "-i", img+"@@4M", "::"+name, "-").Output()
	if err != nil {
		t.Fatalf("mcopy %s: %v", name, err)
	}
	return string(out)
}

func intact(t *testing.T, img string) {
	t.Helper()
	dir := t.TempDir()
	run(t, "dd", "if="+img, "of="+dir+"/fat", "bs=1M", "skip=4", "count=44", "status=none")
	run(t, "dd", "if="+img, "of="+dir+"/ext", "bs=1M", "skip=48", "status=none")
	run(t, "fsck.vfat", "-n", dir+"/fat")
	run(t, "e2fsck", "-fn", dir+"/ext")
}

const (
	cmdline = "console=serial0,115200 root=PARTUUID=1234-02 rootwait init=/usr/lib/raspberrypi-sys-mods/firstboot\n"
	imager  = "#!/bin/bash\n\nset +e\n\nraspi-config nonint do_hostname pi-7\nrm -f /boot/firstrun.sh\nsed -i 's| systemd.run.*||g' /boot/cmdline.txt\nexit 0\n"
	systemd = "/usr/lib/systemd/system/multi-user.target"
)

func TestPrepare(t *testing.T) {
	tools(t, "mcopy", "mkfs.vfat", "fsck.vfat", "mke2fs", "e2fsck", "debugfs")
	for name, c := range map[string]struct {
		bits         string
		boot, system map[string]string
		style        image.Style
		holds        map[string]string // in these files of the boot partition these words
	}{
		"Raspberry Pi OS Bookworm": {"32", map[string]string{"cmdline.txt": cmdline, "issue.txt": "Raspberry Pi reference 2024-11-19\n"}, nil, image.FirstRun,
			map[string]string{"cmdline.txt": " rootwait init=/usr/lib/raspberrypi-sys-mods/firstboot systemd.run=/boot/firmware/firstrun.sh ", "firstrun.sh": "/boot/firmware/streembit/setup.sh"}},
		"customised by Raspberry Pi Imager": {"32", map[string]string{"cmdline.txt": "rootwait systemd.run=/boot/firstrun.sh systemd.unit=kernel-command-line.target", "firstrun.sh": imager},
			nil, image.FirstRun, map[string]string{"cmdline.txt": "rootwait systemd.run=/boot/firstrun.sh systemd.unit=kernel-command-line.target\n",
				"firstrun.sh": "#!/bin/bash\n/bin/sh /boot/firmware/streembit/setup.sh # streembit image\n\nset +e\n\nraspi-config nonint do_hostname pi-7\n"}},
		"Raspberry Pi OS Trixie": {"32", map[string]string{"cmdline.txt": cmdline, "user-data": "#cloud-config\n", "meta-data": "instance-id: x\n"}, nil, image.CloudInit,
			map[string]string{"cmdline.txt": cmdline, "user-data": "#cloud-config\n", "vendor-data": "#!/bin/sh\n"}},
		"FAT16": {"16", map[string]string{"cmdline.txt": cmdline}, nil, image.FirstRun, nil},
		"Armbian": {"32", map[string]string{"boot.scr": "x"}, map[string]string{systemd: "[Unit]\n", "/etc/systemd/system/multi-user.target.wants/x": "",
			"/boot/armbianEnv.txt": "x"}, image.Unit, nil},
	} {
		t.Run(name, func(t *testing.T) {
			img, p := card(t, c.bits, c.boot, c.system), payload(t)
			for range 2 { // the second time everything is there already
				style, err := prepare(t, img, p)
				if err != nil || style != c.style {
					t.Fatalf("%s, %v, want %s", style, err, c.style)
				}
				intact(t, img)
			}
			for file, words := range c.holds {
				if got := boot(t, img, file); !strings.Contains(got, words) || strings.Count(got, "# streembit image\n") > 1 {
					t.Errorf("%s holds %q, want %q", file, got, words)
				}
			}
			if c.style == image.Unit {
				checkUnit(t, img)
				return
			}
			if got := boot(t, img, "streembit/enroll.toml"); got != "secret = 1\n" {
				t.Errorf("token %q", got)
			}
			if want, got := must(os.ReadFile(p.Packages[1].Path)), boot(t, img, "streembit/streembit_0.2.0-rc1-3_armhf.deb"); got != string(want) {
				t.Errorf("the package has %d bytes, want %d", len(got), len(want))
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// checkUnit looks at a root file system: the token is root's alone, the unit is started.
func checkUnit(t *testing.T, img string) {
	t.Helper()
	at := img + "?offset=50331648"
	if got := run(t, "debugfs", "-R", "stat /boot/streembit/enroll.toml", at); !strings.Contains(got, "Mode:  0600") || !strings.Contains(got, "User:     0") {
		t.Errorf("token:\n%s", got)
	}
	if got := run(t, "debugfs", "-R", "stat /etc/systemd/system/multi-user.target.wants/streembit-setup.service", at); !strings.Contains(got, `"/etc/systemd/system/streembit-setup.service"`) {
		t.Errorf("link:\n%s", got)
	}
	if got := run(t, "debugfs", "-R", "cat /etc/systemd/system/streembit-setup.service", at); !strings.Contains(got, "ExecStart=/bin/sh /boot/streembit/setup.sh") {
		t.Errorf("unit:\n%s", got)
	}
}

func TestPrepare_Refuses(t *testing.T) {
	tools(t, "mcopy", "mkfs.vfat", "mke2fs", "debugfs")
	dirty := card(t, "32", nil, map[string]string{systemd: "x"})
	f := must(os.OpenFile(dirty, os.O_RDWR, 0))
	_, _ = f.WriteAt([]byte{4}, 48<<20+1024+0x60)
	f.Close()
	full := payload(t)
	full.Config = nil
	full.Packages[0].Path = save(t, "big", make([]byte, 60<<20))
	for name, c := range map[string]struct {
		img  string
		p    image.Payload
		want error
		says string
	}{
		"unknown system":     {card(t, "32", nil, nil), payload(t), image.ErrUnknownSystem, ""},
		"not shut down":      {dirty, payload(t), image.ErrUnknownSystem, "not shut down"},
		"old":                {card(t, "32", map[string]string{"cmdline.txt": cmdline, "issue.txt": "Raspberry Pi reference 2023-05-03\n"}, nil), payload(t), image.ErrUnknownSystem, "2023-05-03"},
		"other first start":  {card(t, "32", map[string]string{"cmdline.txt": "x systemd.run=/usr/bin/own"}, nil), payload(t), image.ErrPrepared, "cmdline"},
		"own vendor's data":  {card(t, "32", map[string]string{"cmdline.txt": cmdline, "user-data": "", "vendor-data": "own"}, nil), payload(t), image.ErrPrepared, "vendor-data"},
		"no table":           {save(t, "zeros", make([]byte, 4096)), payload(t), image.ErrNoTable, ""},
		"partition is full":  {card(t, "32", map[string]string{"cmdline.txt": cmdline}, nil), full, nil, "Disk full"},
		"package disappears": {card(t, "32", map[string]string{"cmdline.txt": cmdline}, nil), image.Payload{Packages: []image.Package{{Path: "/nowhere", Name: "a", Version: "1", Arch: "arm64"}}}, nil, "No such file"},
	} {
		t.Run(name, func(t *testing.T) {
			style, err := prepare(t, c.img, c.p)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %v, want %v and %q", style, err, c.want, c.says)
			}
		})
	}
}

// Without the tools there is an error that names them.
func TestPrepare_NamesTheToolThatIsMissing(t *testing.T) {
	tools(t, "mcopy", "mkfs.vfat", "mke2fs")
	img := card(t, "32", map[string]string{"cmdline.txt": cmdline}, nil)
	t.Setenv("PATH", t.TempDir())
	if _, err := prepare(t, img, payload(t)); !errors.Is(err, image.ErrNoTool) || !strings.Contains(err.Error(), "mcopy") {
		t.Errorf("got %v", err)
	}
}

func TestOpenPackage(t *testing.T) {
	got, err := image.OpenPackage(deb(t, "streembit", "1.2.3-1", "arm64"))
	if err != nil || got.Name != "streembit" || got.Version != "1.2.3-1" || got.Arch != "arm64" || got.Size == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, data := range map[string][]byte{"text": []byte("x"), "empty": nil, "cut": must(os.ReadFile(got.Path))[:100]} {
		if p, err := image.OpenPackage(save(t, name, data)); !errors.Is(err, image.ErrNotPackage) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if p, err := image.OpenPackage(deb(t, "../../etc/passwd", "1", "arm64")); !errors.Is(err, image.ErrNotPackage) {
		t.Errorf("%+v, %v", p, err)
	}
}

// FuzzPackage: a package's words are fit for the name of a file.
func FuzzPackage(f *testing.F) {
	f.Add(must(os.ReadFile(deb(f, "streembit", "1.2.3-1", "arm64")))[:4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := image.ReadPackage(bytes.NewReader(b))
		if err != nil && !errors.Is(err, image.ErrNotPackage) || err == nil && strings.ContainsAny(p.Name+p.Version+p.Arch, "/ \x00\n") {
			t.Errorf("%+v, %v", p, err)
		}
	})
}
