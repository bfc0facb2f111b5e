// SPDX-License-Identifier: Apache-2.0

package boards_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
	"unicode/utf8"

	"github.com/streembit/edge/boards"
)

// The folders in testdata have the root nodes of the device trees that Linux 6.12 is delivered with (Debian's linux-image packages), with
// the model as the firmware of a Raspberry Pi writes it, and uevent files in the form of drivers/of/device.c. None is a copy of a board's own files.
func fixture(name string) fs.FS { return os.DirFS(path.Join("testdata", name)) }

func TestDetect(t *testing.T) {
	tested := make(map[string]bool)
	for _, c := range []struct {
		folder, id, name string
		i2c              int // number of the usual bus in the folder; -1 = there is none
		pin, line, chip  string
		offset           int
	}{
		{"rpi-1-rev1", "", "Raspberry Pi Model B Rev 1", 0, "P1-3", "GPIO0", "pinctrl-bcm2835", 0},
		{"rpi-1", "", "Raspberry Pi Model B Rev 2", -1, "P1-13", "GPIO27", "pinctrl-bcm2835", 27},
		{"rpi-1-plus", "", "Raspberry Pi Zero W Rev 1.1", -1, "P1-40", "GPIO21", "pinctrl-bcm2835", 21},
		{"rpi-2", "", "Raspberry Pi 2 Model B Rev 1.1", -1, "P1-11", "GPIO17", "pinctrl-bcm2835", 17},
		{"rpi-zero-2", "", "Raspberry Pi Zero 2 W Rev 1.0", -1, "GPIO17", "GPIO17", "pinctrl-bcm2835", 17},
		{"rpi-3", "", "Raspberry Pi 3 Model B Plus Rev 1.3", 1, "P1-7", "GPIO4", "pinctrl-bcm2835", 4},
		{"rpi-4", "", "Raspberry Pi 4 Model B Rev 1.4", 1, "P1-11", "GPIO17", "pinctrl-bcm2711", 17},
		{"rpi-5", "", "Raspberry Pi 5 Model B Rev 1.0", 1, "P1-11", "GPIO17", "pinctrl-rp1", 17},
		{"beaglebone-black", "", "TI AM335x BeagleBone Black Wireless", 2, "P9_12", "GPIO1_28", "gpiochip0", 28},
		{"beaglebone-green", "", "TI AM335x BeagleBone Green", 2, "P9_11", "GPIO0_30", "gpiochip3", 30},
		{"orangepi-zero", "", "Xunlong Orange Pi Zero", 0, "P1-8", "PG6", "1c20800.pinctrl", 198},
		{"orangepi-zero3", "", "OrangePi Zero3", -1, "P1-3", "PH5", "300b000.pinctrl", 229},
		{"orangepi-3", "", "OrangePi 3", 1, "P1-26", "PL8", "7022000.pinctrl", 8},
		{"orangepi-5", "", "Xunlong Orange Pi 5", -1, "P1-8", "GPIO4_A3", "gpio4", 3},
		{"nanopi-neo", "", "FriendlyARM NanoPi NEO", -1, "", "", "", 0},
		{"nanopi-r4s", "", "FriendlyElec NanoPi R4S", -1, "", "", "", 0},
		{"rock-3", "", "Radxa ROCK 3A", -1, "", "", "", 0},
		{"rock-4", "", "Radxa ROCK Pi 4B", -1, "P1-3", "GPIO2_A7", "gpio2", 7},
		{"rock-4se", "", "Radxa ROCK 4C+", -1, "", "", "", 0},
		{"rock-5", "", "Radxa ROCK 5B", -1, "P1-18", "GPIO4_C4", "gpio4", 20},
		{"odroid-c4", "", "Hardkernel ODROID-C4", -1, "P1-36", "PIN_36", "periphs-banks", 21},
		{"odroid-n2", "", "Hardkernel ODROID-N2Plus", 0, "P1-7", "PIN_7", "periphs-banks", 62},
		{"pc", "", "Intel(R) Client Systems NUC8i3BEH", -1, "", "", "", 0},
		{"pc-unset", "pc", "ASRock J3455-ITX", -1, "", "", "", 0},
		{"unknown", "generic", "Pine64 Star64", -1, "", "", "", 0},
	} {
		t.Run(c.folder, func(t *testing.T) {
			root := fixture(c.folder)
			if c.id == "" {
				c.id = c.folder
			}
			b, ok := boards.Detect(root)
			tested[b.ID] = true
			if ok != (c.id != "generic") || b.ID != c.id || b.Name != c.name {
				t.Fatalf("got %q, %q, %v", b.ID, b.Name, ok)
			}
			if n, found := b.I2C.Find(root); found != (c.i2c >= 0) || found && n != c.i2c {
				t.Errorf("the usual bus is %d, %v; want %d", n, found, c.i2c)
			}
			p, found := b.Pin(c.pin)
			chip := p.Label
			if chip == "" {
				chip, _ = boards.ChipOf(root, p)
			}
			if found != (c.pin != "") || p.Line != c.line || chip != c.chip || p.Offset != c.offset {
				t.Errorf("pin %s: %+v on %q, %v", c.pin, p, chip, found)
			}
		})
	}
	for _, b := range boards.All() {
		if !tested[b.ID] {
			t.Errorf("no folder in testdata is a %s", b.ID)
		}
	}
}

// What is missing or damaged makes a generic board, never a wrong one.
func TestDamaged(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const compatible, model = "proc/device-tree/compatible", "proc/device-tree/model"
	for name, c := range map[string]struct {
		root     fstest.MapFS
		id, want string
	}{
		"empty":          {fstest.MapFS{}, "generic", "unknown board"},
		"model only":     {fstest.MapFS{model: file("Raspberry Pi 4 Model B\x00")}, "generic", "Raspberry Pi 4 Model B"},
		"no model":       {fstest.MapFS{compatible: file("raspberrypi,4-model-b\x00brcm,bcm2711\x00")}, "rpi-4", "Raspberry Pi 4, 400, CM4"},
		"cut":            {fstest.MapFS{compatible: file("raspberrypi,4-mod")}, "generic", "unknown board"},
		"no NULs":        {fstest.MapFS{compatible: file("raspberrypi,4-model-b"), model: file("Pi")}, "rpi-4", "Pi"},
		"folder":         {fstest.MapFS{compatible + "/x": file("")}, "generic", "unknown board"},
		"binary":         {fstest.MapFS{model: file("Board\x01\x1b[31m\xff\x00rest")}, "generic", "Board??[31m?"},
		"long":           {fstest.MapFS{model: file(strings.Repeat("ä", 3000))}, "generic", strings.Repeat("ä", 128)},
		"new Pi":         {fstest.MapFS{compatible: file("raspberrypi,5-future\x00brcm,bcm2712\x00"), model: file("Raspberry Pi 5.1\x00")}, "rpi-5", "Raspberry Pi 5.1"},
		"rev 2 cut code": {fstest.MapFS{compatible: file("raspberrypi,model-b\x00"), "proc/device-tree/system/linux,revision": file("\x00\x02")}, "rpi-1", "Raspberry Pi 1 Model A, B"},
		"PC and tree":    {fstest.MapFS{model: file("linux,dummy-virt\x00"), "sys/class/dmi/id/product_name": file("KVM\n")}, "generic", "linux,dummy-virt"},
	} {
		b, ok := boards.Detect(c.root)
		if b.ID != c.id || b.Name != c.want || ok != (c.id != "generic") {
			t.Errorf("%s: %q, %q, %v; want %q, %q", name, b.ID, b.Name, ok, c.id, c.want)
		}
		if b.EnableI2C == "" || b.Watchdog.Device == "" {
			t.Errorf("%s: the board is of no use: %+v", name, b)
		}
	}
}

func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		folder string
		bus    int
		addr   uint16
		want   string
	}{
		{"beaglebone-black", 2, 0x54, "cape"}, {"beaglebone-black", 2, 0x57, "cape"}, {"beaglebone-black", 2, 0x58, ""}, {"beaglebone-black", 2, 0x50, ""},
		{"beaglebone-black", 0, 0x50, "EEPROM"}, {"beaglebone-black", 0, 0x24, "supply"}, {"beaglebone-black", 0, 0x54, ""},
		{"rpi-4", 0, 0x50, "HAT"}, {"rpi-4", 1, 0x50, ""}, {"rpi-1-rev1", 0, 0x50, ""},
		{"orangepi-3", 0, 0x36, "supply"}, {"orangepi-3", 1, 0x36, ""},
		{"pc", 0, 0x50, "memory"}, {"pc", 0, 0x36, "memory"}, {"pc", 7, 0x50, ""},
	} {
		root := fixture(c.folder)
		b, _ := boards.Detect(root)
		why, yes := b.Forbidden(root, c.bus, c.addr)
		if yes != (c.want != "") || !strings.Contains(why, c.want) {
			t.Errorf("%s i2c-%d %#x: %q, %v; want %q", c.folder, c.bus, c.addr, why, yes, c.want)
		}
	}
}

// A node's end is whole names, and a bus that has a node is not known by its number.
func TestBus(t *testing.T) {
	adapter := func(n int, node string) fstest.MapFS {
		return fstest.MapFS{fmt.Sprintf("sys/bus/i2c/devices/i2c-%d/uevent", n): {Data: []byte("OF_NAME=i2c\nOF_FULLNAME=" + node + "\n")}}
	}
	bus := boards.Bus{Number: 1, Nodes: []string{"i2c@7e804000"}}
	for _, c := range []struct {
		n    int
		node string
		want bool
	}{{1, "/soc/i2c@7e804000", true}, {7, "/soc/i2c@7e804000", true}, {1, "/soc/xi2c@7e804000", false}, {1, "/soc/i2c@7e805000", false}, {1, "", true}, {7, "", false}} {
		if n, ok := bus.Find(adapter(c.n, c.node)); ok != c.want || ok && n != c.n {
			t.Errorf("i2c-%d with node %q: %d, %v", c.n, c.node, n, ok)
		}
	}
}

// The kernel's own line names, where its device trees give them, say the same as the tables.
func TestLineNames(t *testing.T) {
	for _, folder := range []string{"beaglebone-black", "odroid-c4", "odroid-n2"} {
		root := fixture(folder)
		b, _ := boards.Detect(root)
		var checked int
		err := fs.WalkDir(root, "proc/device-tree", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "gpio-line-names" {
				return err
			}
			text, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			for offset, line := range strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00") {
				line, _, _ = strings.Cut(line, " ")
				p, ok := b.Pin(line)
				if !ok {
					if strings.HasPrefix(line, "P8_") || strings.HasPrefix(line, "P9_") {
						t.Errorf("%s: the table lacks %s", folder, line)
					}
					continue
				}
				checked++
				if p.Offset != offset || p.Node != "" && !strings.HasSuffix(path.Dir(name), "/"+p.Node) {
					t.Errorf("%s: %+v, but the kernel has %s at %d of %s", folder, p, line, offset, path.Dir(name))
				}
			}
			return nil
		})
		if err != nil || checked != len(b.Pins) {
			t.Errorf("%s: %d of %d pins checked, %v", folder, checked, len(b.Pins), err)
		}
	}
}

// A board is recognised exactly if its compatible property has a string of the tables, and its name can always be shown.
func FuzzDetect(f *testing.F) {
	f.Add([]byte("raspberrypi,4-model-b\x00brcm,bcm2711\x00"), []byte("Raspberry Pi 4 Model B Rev 1.4\x00"), []byte{0, 0xc0, 0x31, 0x14}, "Revision\t: c03114\n", "")
	f.Add([]byte("raspberrypi,model-b\x00"), []byte{0xff, 0}, []byte{1, 0, 0, 2}, "", "")
	f.Add([]byte("raspberrypi,model-b\x00"), []byte("\n\x00"), []byte{}, "Revision : 1000003", "x")
	f.Add([]byte(""), []byte(""), []byte{}, "", "Standard PC")
	f.Fuzz(func(t *testing.T, compatible, model, revision []byte, cpuinfo, product string) {
		root := fstest.MapFS{
			"proc/device-tree/compatible":            {Data: compatible},
			"proc/device-tree/model":                 {Data: model},
			"proc/device-tree/system/linux,revision": {Data: revision},
			"proc/cpuinfo":                           {Data: []byte(cpuinfo)},
			"sys/class/dmi/id/product_name":          {Data: []byte(product)},
		}
		b, ok := boards.Detect(root)
		if b.Name == "" || utf8.RuneCountInString(b.Name) > 128 || strings.ContainsFunc(b.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("name %q", b.Name)
		}
		known := slices.ContainsFunc(strings.Split(string(compatible[:min(len(compatible), 4096)]), "\x00"), func(c string) bool {
			return slices.ContainsFunc(boards.All(), func(b boards.Board) bool { return slices.Contains(b.Compatible, c) })
		})
		if known != (ok && b.ID != "pc") {
			t.Errorf("compatible %q: %s, %v", compatible, b.ID, ok)
		}
	})
}
