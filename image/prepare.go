// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// first holds what runs on the board at its first start.
//
//go:embed first
var first embed.FS

// Payload is what a card gets beside the system.
type Payload struct {
	Packages []Package // .deb; at the first start the one of the system's architecture is installed
	Config   []byte    // of streembitd; nil = the package's own
	Token    []byte    // enroll.toml; nil = a person will approve the device
}

// Style is the way in which a system takes what it is to do at its first start.
type Style string

// The styles.
const (
	FirstRun  Style = "firstrun"   // Raspberry Pi OS Bookworm: a script named on the kernel's command line
	CloudInit Style = "cloud-init" // Raspberry Pi OS Trixie, Ubuntu, Armbian with cloud-init: a vendor's script
	Unit      Style = "unit"       // Armbian and other Debians without a FAT partition: a unit of systemd
)

// ErrUnknownSystem is wrapped when an image is none that is known how to prepare.
var ErrUnknownSystem = errors.New("not a system that is known here (Raspberry Pi OS Bookworm or Trixie, Armbian, or a Debian with systemd)")

// ErrPrepared is wrapped when something of the card's own is in the way.
var ErrPrepared = errors.New("it has a first-start script of its own that cannot be kept")

// folder is where the payload lies: of the boot partition, and of the root file system.
const (
	fatFolder = "/streembit/"
	extFolder = "/boot/streembit/"
)

// Prepare adds the payload to the system on a disk or image of size bytes. view is its contents, where the beginning need not have been written yet
// (Writer.Head). What was added is read back and compared. Run again it replaces what it added before.
func Prepare(ctx context.Context, t *Target, view io.ReaderAt, size int64, p Payload) (Style, error) {
	found, err := Extents(view, size)
	if err != nil {
		return "", err
	}
	for _, x := range found {
		if x.Kind != "fat" {
			continue
		}
		v := fat{t.File, x.Start}
		cmdline, ok, err := peek(ctx, v, "/cmdline.txt")
		if err != nil {
			return "", err
		}
		if ok {
			return prepareFAT(ctx, v, t.settle, cmdline, p)
		}
	}
	for _, x := range slices.Backward(found) {
		if x.Kind != "ext" {
			continue
		}
		if err := clean(view, x); err != nil {
			return "", err
		}
		v := ext{t.File, x.Start}
		if _, ok, err := peek(ctx, v, "/usr/lib/systemd/system/multi-user.target"); err != nil {
			return "", err
		} else if ok {
			return Unit, prepareExt(ctx, v, t.settle, p)
		}
	}
	return "", fmt.Errorf("image: preparing: %w", ErrUnknownSystem)
}

// clean returns an error if a file system still has changes in its journal (feature RECOVER, Documentation/filesystems/ext4/super.rst): debugfs would write past
// them, and the next mount would undo it.
func clean(r io.ReaderAt, x Extent) error {
	var incompat [4]byte
	if _, err := r.ReadAt(incompat[:], x.Start+1024+0x60); err != nil {
		return fmt.Errorf("image: preparing: %w", err)
	}
	if incompat[0]&4 != 0 {
		return fmt.Errorf("image: preparing: the system on it was not shut down, so that its journal is not empty: %w", ErrUnknownSystem)
	}
	return nil
}

// prepareFAT prepares a system whose boot partition has a kernel command line. cloud-init is there if its seed is.
func prepareFAT(ctx context.Context, v fat, settle func() error, cmdline []byte, p Payload) (Style, error) {
	files := append(payload(fatFolder, p), script(fatFolder+"setup.sh", "setup.sh"))
	for _, seed := range []string{"/user-data", "/meta-data"} {
		_, ok, err := peek(ctx, v, seed)
		if err != nil {
			return "", err
		}
		if !ok {
			continue
		}
		vendor := script("/vendor-data", "vendor.sh")
		old, ok, err := peek(ctx, v, vendor.name)
		if err != nil {
			return "", err
		}
		if ok && !bytes.Equal(old, vendor.data) {
			return "", fmt.Errorf("image: preparing: vendor-data: %w", ErrPrepared)
		}
		return CloudInit, add(ctx, v, settle, append(files, vendor))
	}
	if err := v.recent(ctx); err != nil {
		return "", err
	}
	old, _, err := peek(ctx, v, "/firstrun.sh")
	if err != nil {
		return "", err
	}
	run, line := firstRun(old, cmdline)
	if line == nil {
		return "", fmt.Errorf("image: preparing: cmdline.txt: %w", ErrPrepared)
	}
	return FirstRun, add(ctx, v, settle, append(files, entry{name: "/firstrun.sh", data: run}, entry{name: "/cmdline.txt", data: line}))
}

// recent returns an error for a Raspberry Pi OS before Bookworm, whose boot partition is mounted elsewhere.
func (f fat) recent(ctx context.Context) error {
	text, ok, err := peek(ctx, f, "/issue.txt")
	if err != nil || !ok {
		return err
	}
	if date := regexp.MustCompile(`20[0-9]{2}-[0-9]{2}-[0-9]{2}`).Find(text); date != nil && string(date) < "2023-10-10" {
		return fmt.Errorf("image: preparing: Raspberry Pi OS of %s is older than Bookworm: %w", date, ErrUnknownSystem)
	}
	return nil
}

// Names on the command line and in the script of the first start.
const (
	runArgument = " systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot systemd.run_failure_action=reboot systemd.unit=kernel-command-line.target"
	setupLine   = "/bin/sh /boot/firmware/streembit/setup.sh # streembit image\n"
)

// firstRun returns firstrun.sh and the kernel's command line. A script of Raspberry Pi Imager (user, Wi-Fi, host name) is kept and gets one line more, after its
// first; it removes itself as it would have. The line is nil if the command line starts another script.
func firstRun(old, cmdline []byte) (run, line []byte) {
	line = bytes.TrimSpace(cmdline)
	if i := bytes.IndexAny(line, "\r\n"); i >= 0 {
		line = bytes.TrimSpace(line[:i])
	}
	starts := regexp.MustCompile(`(^| )systemd\.run=("?)([^ "]*)`).FindSubmatch(line)
	switch {
	case starts == nil:
		own := script("", "run.sh").data
		return own, append(append(slices.Clip(line), runArgument...), '\n')
	case !slices.Contains([]string{"/boot/firstrun.sh", "/boot/firmware/firstrun.sh"}, string(starts[3])) || len(old) == 0:
		return nil, nil
	case bytes.Contains(old, []byte("/streembit/setup.sh")):
		return old, append(slices.Clip(line), '\n')
	}
	shebang, rest, _ := bytes.Cut(old, []byte("\n"))
	return slices.Concat(shebang, []byte("\n"), []byte(setupLine), rest), append(slices.Clip(line), '\n')
}

// prepareExt prepares a root file system.
func prepareExt(ctx context.Context, v ext, settle func() error, p Payload) error {
	const unit = "/etc/systemd/system/streembit-setup.service"
	setup := script(extFolder+"setup.sh", "setup.sh")
	setup.mode = 0o755
	return add(ctx, v, settle, append(payload(extFolder, p), setup, script(unit, "streembit-setup.service"),
		entry{name: "/etc/systemd/system/multi-user.target.wants/streembit-setup.service", link: unit}))
}

// payload lists the files of a payload; those that are secret where there are modes have one.
func payload(dir string, p Payload) []entry {
	var files []entry
	for _, d := range p.Packages {
		files = append(files, entry{name: dir + filepath.Base(fmt.Sprintf("%s_%s_%s.deb", d.Name, version(d.Version), d.Arch)), from: d.Path})
	}
	if p.Config != nil {
		files = append(files, entry{name: dir + "streembitd.toml", data: p.Config})
	}
	if p.Token != nil {
		files = append(files, entry{name: dir + "enroll.toml", data: p.Token, mode: 0o600})
	}
	return files
}

// version makes a package's version fit for the name of a file on FAT.
func version(v string) string {
	return strings.NewReplacer(":", ".", "~", "-", "+", "-").Replace(v)
}

// script is a file of first. They are part of the program, so that one that is missing is a mistake in it.
func script(name, of string) entry {
	data, err := first.ReadFile("first/" + of)
	if err != nil {
		panic(err)
	}
	return entry{name: name, data: data}
}

// add writes the files, and reads them back from the medium. The token comes last: a card that fails half way has not got it.
func add(ctx context.Context, v volume, settle func() error, files []entry) error {
	slices.SortStableFunc(files, func(a, b entry) int { return boolInt(secret(a)) - boolInt(secret(b)) })
	if err := v.write(ctx, files); err != nil {
		return err
	}
	if err := settle(); err != nil {
		return fmt.Errorf("image: preparing: %w", err)
	}
	for _, e := range files {
		if e.link != "" {
			continue
		}
		if err := withCopy(ctx, v, e.name, func(got string, there bool) error { return e.compare(got, there) }); err != nil {
			return err
		}
	}
	return nil
}

// compare returns an error that wraps ErrMismatch unless the copy holds what the entry says.
func (e entry) compare(copied string, there bool) error {
	if !there {
		return ErrMismatch
	}
	want, got := sha256.New(), sha256.New()
	var err error
	if e.from == "" {
		want.Write(e.data)
	} else {
		err = hashFile(want, e.from)
	}
	if err = errors.Join(err, hashFile(got, copied)); err != nil {
		return err
	}
	if !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
		return ErrMismatch
	}
	return nil
}

func hashFile(h io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return err
}

// settle waits until what the tools wrote is on the medium, and drops what the kernel remembers of it.
func (t *Target) settle() error { return errors.Join(t.Sync(), t.Forget()) }

func secret(e entry) bool { return strings.HasSuffix(e.name, "/enroll.toml") }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
