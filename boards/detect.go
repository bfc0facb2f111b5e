// SPDX-License-Identifier: Apache-2.0

package boards

import (
	"bytes"
	"encoding/binary"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// What is read of a file and shown of a name. The longest compatible property of the boards here has 92 bytes.
const (
	maxFile = 4096
	maxName = 128
)

// Detect says which board has the root file system, by proc/device-tree or, on a PC, by sys/class/dmi/id. false means that the board is
// not in the tables: the Board is then a generic one, which has a name and no pins.
func Detect(root fs.FS) (Board, bool) {
	model := printable(read(root, "proc/device-tree/model"))
	compatible := strings.Split(string(read(root, "proc/device-tree/compatible")), "\x00")
	revision := piRevision(root)
	for _, c := range compatible { // the device tree's order: the most exact first
		for _, b := range All() {
			if c != "" && slices.Contains(b.Compatible, c) && (b.Revisions == nil || slices.Contains(b.Revisions, revision)) {
				b.Name = first(model, b.Name)
				return b, true
			}
		}
	}
	if name := dmi(root); name != "" && model == "" {
		b := pc()
		b.Name = name
		return b, true
	}
	b := generic()
	b.Name = first(model, b.Name)
	return b, false
}

// dmi reads what a PC calls itself. Makers that leave the fields as they got them are known by their words.
func dmi(root fs.FS) string {
	for _, fields := range [][2]string{{"sys_vendor", "product_name"}, {"board_vendor", "board_name"}} {
		maker := printable(read(root, "sys/class/dmi/id/"+fields[0]))
		name := printable(read(root, "sys/class/dmi/id/"+fields[1]))
		unset := []string{"", "To Be Filled By O.E.M.", "To be filled by O.E.M.", "System Product Name", "Default string"}
		if !slices.Contains(unset, name) {
			return printable([]byte(maker + " " + name))
		}
	}
	return ""
}

// piRevision returns the revision code of a Raspberry Pi if it is an old one (below 0x16): such boards share their compatible string.
// New codes have bit 23 set; bit 24 of an old code says that the board was overvolted. 0 = there is none.
func piRevision(root fs.FS) uint32 {
	code := uint32(0)
	if b := read(root, "proc/device-tree/system/linux,revision"); len(b) == 4 {
		code = binary.BigEndian.Uint32(b)
	} else {
		for line := range strings.Lines(string(read(root, "proc/cpuinfo"))) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "Revision" {
				n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 32)
				if err == nil {
					code = uint32(n)
				}
			}
		}
	}
	return code &^ (1 << 24)
}

// Find returns the number of the adapter, for /dev/i2c-N; false if the board has none that fits now.
func (b Bus) Find(root fs.FS) (int, bool) {
	entries, err := fs.ReadDir(root, "sys/bus/i2c/devices")
	if err != nil {
		return 0, false
	}
	for _, e := range entries {
		n, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "i2c-"))
		if err == nil && strings.HasPrefix(e.Name(), "i2c-") && b.Is(root, n) {
			return n, true
		}
	}
	return 0, false
}

// Is reports whether /dev/i2c-N is this bus. The node is the one that the kernel writes into the adapter's uevent (drivers/of/device.c,
// of_device_uevent); an adapter without node is known by its number or its name.
func (b Bus) Is(root fs.FS, n int) bool {
	dir := path.Join("sys/bus/i2c/devices", "i2c-"+strconv.Itoa(n))
	if node := nodeOf(root, dir); node != "" && len(b.Nodes) > 0 {
		return slices.ContainsFunc(b.Nodes, func(end string) bool { return strings.HasSuffix(node, "/"+end) })
	}
	if b.Name != "" {
		return strings.HasPrefix(string(read(root, path.Join(dir, "name"))), b.Name)
	}
	_, err := fs.Stat(root, dir)
	return err == nil && n == b.Number
}

// Forbidden says why an address on /dev/i2c-N must not be touched; false if nothing speaks against it.
func (b Board) Forbidden(root fs.FS, n int, addr uint16) (why string, yes bool) {
	for _, r := range b.Reserved {
		if r.First <= addr && addr <= r.Last && r.Bus.Is(root, n) {
			return r.Why, true
		}
	}
	return "", false
}

// ChipOf finds the gpiochip that has the node of a Pin, for example "gpiochip1"; false if there is none or the Pin has a Label instead.
func ChipOf(root fs.FS, p Pin) (string, bool) {
	entries, err := fs.ReadDir(root, "sys/bus/gpio/devices")
	if err != nil || p.Node == "" {
		return "", false
	}
	for _, e := range entries {
		if strings.HasSuffix(nodeOf(root, path.Join("sys/bus/gpio/devices", e.Name())), "/"+p.Node) {
			return e.Name(), true
		}
	}
	return "", false
}

func nodeOf(root fs.FS, dir string) string {
	for line := range strings.Lines(string(read(root, path.Join(dir, "uevent")))) {
		if node, ok := strings.CutPrefix(line, "OF_FULLNAME="); ok {
			return strings.TrimRight(node, "\n")
		}
	}
	return ""
}

// read returns the beginning of a file, or nothing.
func read(root fs.FS, name string) []byte {
	f, err := root.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil
	}
	return b
}

// printable makes a name of a file's bytes: up to the first NUL, every character that cannot be shown as "?".
func printable(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	runes := []rune(strings.TrimSpace(string(b)))
	for i, r := range runes {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			runes[i] = '?'
		}
	}
	return strings.TrimSpace(string(runes[:min(len(runes), maxName)]))
}

func first(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}
