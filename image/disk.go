// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Disk is what the kernel says of a block device, from /sys and /proc.
type Disk struct {
	Name      string // of the kernel: sdb, mmcblk0
	Number    string // major:minor
	Model     string // as the maker wrote it, printable; "" = unknown
	Serial    string
	Bus       string // usb, sd, emmc, loop, virtual, or other
	Size      int64  // bytes
	Whole     bool   // no partition
	Removable bool   // the kernel says that the medium can be taken out
	ReadOnly  bool
	Sequence  string // of the medium, new each time one is inserted (Linux 5.15); "" = unknown
	Parts     []Part // in the order of their names; the first is the disk itself
}

// Part is the disk itself or one of its partitions.
type Part struct {
	Name    string
	Number  string
	Size    int64
	Mounts  []string // where it is mounted, in this mount namespace
	Swap    bool
	Holders []string // what is built on it: dm-0, md127
}

// maxAttribute is what is read of a file of /sys, maxTable of one of /proc.
const (
	maxAttribute = 4096
	maxTable     = 4 << 20
)

// Find reads what root says of the block device with this number. root is the file system's root, for tests a copy of the parts that count: proc/self/mountinfo,
// proc/swaps, sys/dev/block, sys/class/block. The error wraps a *Refusal if there is no such device.
func Find(root fs.FS, major, minor uint32) (Disk, error) {
	number := fmt.Sprintf("%d:%d", major, minor)
	link, err := fs.ReadLink(root, path.Join("sys/dev/block", number))
	if err != nil {
		return Disk{}, fmt.Errorf("image: finding disk %s: %w", number, &Refusal{NoDisk, number, "the kernel knows no such disk", "lsblk"})
	}
	d := Disk{Name: path.Base(link), Number: number}
	dir := path.Join("sys/class/block", d.Name)
	where, err := fs.ReadLink(root, dir)
	if err != nil {
		return Disk{}, fmt.Errorf("image: finding disk %s: %w", d.Name, err)
	}
	_, notPart := fs.Stat(root, path.Join(dir, "partition"))
	d.Whole = notPart != nil
	d.Bus = busOf(where, attribute(root, dir, "device/type"))
	d.Model = strings.TrimSpace(attribute(root, dir, "device/vendor") + " " + firstOf(attribute(root, dir, "device/model"), attribute(root, dir, "device/name")))
	d.Serial = firstOf(attribute(root, dir, "device/serial"), attribute(root, dir, "serial"), usbSerial(root, where))
	d.Removable = attribute(root, dir, "removable") == "1"
	d.ReadOnly = attribute(root, dir, "ro") == "1"
	d.Sequence = attribute(root, dir, "diskseq")
	use, err := usage(root)
	if err != nil {
		return Disk{}, err
	}
	d.Parts, err = parts(root, dir, d.Name, use)
	if err != nil {
		return Disk{}, err
	}
	d.Size = d.Parts[0].Size
	return d, nil
}

// busOf tells from the device's place below /sys/devices how it is connected. An eMMC stands on the same bus as a card; its type tells.
func busOf(where, kind string) string {
	switch {
	case strings.Contains(where, "/virtual/block/loop"):
		return "loop"
	case strings.Contains(where, "/virtual/block/"):
		return "virtual"
	case strings.Contains(where, "/usb"):
		return "usb"
	case strings.Contains(where, "/mmc_host/") && kind == "SD":
		return "sd"
	case strings.Contains(where, "/mmc_host/"):
		return "emmc"
	}
	return "other"
}

// usbSerial looks for the serial number of the USB device that a disk is part of: the nearest folder above with one.
func usbSerial(root fs.FS, where string) string {
	if !strings.Contains(where, "/usb") {
		return ""
	}
	for dir := path.Join("sys/class/block", path.Dir(where)); strings.Contains(dir, "/usb"); dir = path.Dir(dir) {
		if s := attribute(root, dir, "serial"); s != "" {
			return s
		}
	}
	return ""
}

// parts reads the disk itself and its partitions.
func parts(root fs.FS, dir, name string, use inUse) ([]Part, error) {
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil, fmt.Errorf("image: reading partitions of %s: %w", name, err)
	}
	found := []Part{part(root, dir, name, use)}
	for _, e := range entries {
		sub := path.Join(dir, e.Name())
		if _, err := fs.Stat(root, path.Join(sub, "partition")); err == nil {
			found = append(found, part(root, sub, e.Name(), use))
		}
	}
	return found, nil
}

func part(root fs.FS, dir, name string, use inUse) Part {
	p := Part{Name: name, Number: attribute(root, dir, "dev")}
	sectors, err := strconv.ParseInt(attribute(root, dir, "size"), 10, 64)
	if err == nil && sectors > 0 && sectors < 1<<53 {
		p.Size = sectors * 512 // the kernel counts in these, whatever the disk's sectors are
	}
	for _, key := range []string{p.Number, "/dev/" + name} { // btrfs mounts have a number of their own, and name the device
		for _, at := range use.mounts[key] {
			if key != "" && !slices.Contains(p.Mounts, at) {
				p.Mounts = append(p.Mounts, at)
			}
		}
	}
	p.Swap = use.swaps["/dev/"+name]
	holders, err := fs.ReadDir(root, path.Join(dir, "holders"))
	if err == nil {
		for _, h := range holders {
			p.Holders = append(p.Holders, h.Name())
		}
	}
	return p
}

// inUse is what the kernel's tables of mounts and swap areas say.
type inUse struct {
	mounts map[string][]string // mount points by major:minor and by source
	swaps  map[string]bool     // by path
}

// usage reads both tables. One that cannot be read is an error: a disk of which nobody knows whether it is in use is not written.
func usage(root fs.FS) (inUse, error) {
	use := inUse{mounts: map[string][]string{}, swaps: map[string]bool{}}
	text, err := table(root, "proc/self/mountinfo")
	if err != nil {
		return use, err
	}
	for line := range strings.Lines(text) { // proc(5): id parent major:minor root mount-point options [fields] - type source options
		left, right, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(g) < 2 {
			return use, fmt.Errorf("image: reading proc/self/mountinfo: cannot read the line %q", line)
		}
		at := unescape(f[4])
		use.mounts[f[2]] = append(use.mounts[f[2]], at)
		source := unescape(g[1])
		use.mounts[source] = append(use.mounts[source], at)
	}
	text, err = table(root, "proc/swaps")
	if err != nil {
		return use, err
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 {
			use.swaps[unescape(f[0])] = true
		}
	}
	return use, nil
}

func table(root fs.FS, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", fmt.Errorf("image: finding out what is in use: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTable+1))
	if err == nil && len(text) > maxTable {
		err = fmt.Errorf("%s has more than %d bytes", name, maxTable)
	}
	if err != nil {
		return "", fmt.Errorf("image: finding out what is in use: %w", err)
	}
	return string(text), nil
}

// unescape reads the octal escapes of proc(5) for space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// attribute reads a file of /sys; "" if there is none. What a device's maker wrote into it may be anything, so that only printable characters count.
func attribute(root fs.FS, dir, name string) string {
	f, err := root.Open(path.Join(dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAttribute))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b)))
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
