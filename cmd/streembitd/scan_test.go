// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// tapped is a chip that answers everything with one byte, or fails, and notes what is done to it.
type tapped struct {
	reads  int
	writes [][]byte
	err    error
}

func (d *tapped) Tx(w, r []byte) error {
	if len(w) > 0 {
		d.writes = append(d.writes, slices.Clone(w))
	} else {
		d.reads++
	}
	for i := range r {
		r[i] = 0x5a
	}
	return d.err
}

// tappedBoard has the chips on its bus /dev/i2c-7.
func tappedBoard(chips map[uint16]*tapped, claimed map[uint16]string) *hal.Board {
	bus := sim.NewBus("/dev/i2c-7")
	for addr, chip := range chips {
		bus.Attach(addr, chip)
	}
	var w hal.Wiring
	addBus(&w.I2C, bus.String(), bus.Open, claimed)
	return hal.NewBoard(w)
}

// addBus is generic because the type of a bus is periph's, which only hal and sensors may name.
func addBus[T any](to *[]hal.Bus[T], name string, open func() (T, error), claimed map[uint16]string) {
	*to = append(*to, hal.Bus[T]{Name: name, Aliases: []string{"7"}, Usual: true, Open: open, Claimed: func() map[uint16]string { return claimed }})
}

// A scan touches no address that is reserved, claimed or the board's own, and writes nothing where a chip could act on it, nor where no driver has anything
// to ask.
func TestScanIsGentle(t *testing.T) {
	claimed := map[uint16]string{0x48: "lm75 of the kernel", 0x54: "EEPROM of a cape"}
	chips := map[uint16]*tapped{}
	for addr := range uint16(0x80) {
		chips[addr] = &tapped{}
	}
	board := tappedBoard(chips, claimed)
	found, err := scanI2C(t.Context(), board, "7")
	if err != nil || len(found) != lastAddr-firstAddr+1 {
		t.Fatalf("%d of %d addresses, %v", len(found), lastAddr-firstAddr+1, err)
	}
	if err := board.Close(); err != nil {
		t.Fatal(err)
	}
	for addr, chip := range chips {
		allowed := addr >= 0x08 && addr <= 0x77 && claimed[addr] == ""
		if touched := chip.reads+len(chip.writes) > 0; touched != allowed {
			t.Errorf("%#x: touched %v, want %v", addr, touched, allowed)
		}
		if !allowed || len(chip.writes) == 0 {
			continue
		}
		asked := false
		for _, d := range all.Drivers() {
			if here := d.Bus == hal.I2C && slices.Contains(d.Addrs, addr); here && d.Touchy {
				t.Errorf("%#x: % x was written, where a %s may be", addr, chip.writes, d.Name)
			} else if here && d.Identify != nil {
				asked = true
			}
		}
		if !asked {
			t.Errorf("%#x: % x was written and no driver asks anything there", addr, chip.writes)
		}
	}
	for _, c := range found {
		if (c.Verdict == verdictClaimed) != (claimed[c.addr] != "") || c.Verdict == verdictIs || c.Verdict == verdictClaimed && c.Note != claimed[c.addr] {
			t.Errorf("%#x, which answers with nonsense: %+v", c.addr, c)
		}
	}
}

// A bus that hangs is a problem that is shown, not a board without chips.
func TestScanShowsBusProblems(t *testing.T) {
	board := tappedBoard(map[uint16]*tapped{0x18: {err: hal.ErrTimeout}}, nil)
	s, err := look(t.Context(), board, "")
	if err != nil || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], hal.ErrTimeout.Error()) {
		t.Errorf("%+v, %v", s, err)
	}
	if err := board.Close(); err != nil {
		t.Error(err)
	}
}

// An address that a driver of the kernel holds is an error at the start.
func TestClaimedAddress(t *testing.T) {
	board := tappedBoard(nil, map[uint16]string{0x77: "bmp280 of the kernel"})
	defer board.Close()
	cfg, err := parseConfig("board.toml", []byte(`state = "x"
roles = ["device"]
[[sensor]]
name = "a"
driver = "bme280"
[[sensor]]
name = "b"
driver = "bme280"
addr = 0x77
`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = probes(board, &cfg)
	if !errors.Is(err, hal.ErrClaimed) || !strings.HasPrefix(err.Error(), `config board.toml:9: sensor "b": `) || !strings.Contains(err.Error(), "bmp280 of the kernel") {
		t.Errorf("got %v", err)
	}
}

// What --write adds is added once, keeps every byte, the mode and the owner of the file, and is a config that works.
func TestAppendEntries(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.toml"), filepath.Join(dir, "link.toml")
	old := "state = \"x\"\r\nroles = [\"device\"] # odd  spacing\n\n[[sensor]]\nname=\"bme280-0\"\ndriver='host'"
	if err := os.WriteFile(path, []byte(old), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.toml", link); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	board := tappedBoard(nil, nil)
	defer board.Close()
	s := &scanned{I2C: []chipFound{
		{Bus: "/dev/i2c-7", key: "/dev/i2c-7", Addr: "0x76", addr: 0x76, place: "/dev/i2c-7 address 0x76", Verdict: verdictIs, Drivers: []string{"bme280"}},
		{Bus: "/dev/i2c-7", key: "/dev/i2c-7", Addr: "0x77", addr: 0x77, place: "/dev/i2c-7 address 0x77", Verdict: verdictMayBe, Drivers: []string{"bme280", "gpio"}},
		{Bus: "/dev/i2c-7", key: "/dev/i2c-7", Addr: "0x30", addr: 0x30, place: "/dev/i2c-7 address 0x30", Verdict: verdictUnknown},
	}}
	for round := range 3 {
		cfg, err := loadConfig(link)
		if err != nil {
			t.Fatal(err)
		}
		s.compare(board, &cfg)
		entries := s.entries(&cfg)
		if (entries == "") != (round > 0) {
			t.Errorf("round %d adds %q", round, entries)
		}
		if err := appendEntries(link, entries); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), old+"\n") || strings.Count(string(text), "\n[[sensor]]") != 2 {
		t.Errorf("%s, %v", text, err)
	}
	cfg, err := loadConfig(path)
	if err != nil || len(cfg.Sensors) != 2 || cfg.Sensors[1].Name != "bme280-1" || cfg.Sensors[1].Addr != 0x76 || cfg.Sensors[1].Bus != "/dev/i2c-7" {
		t.Errorf("%+v, %v", cfg.Sensors, err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real.toml" {
		t.Errorf("the link is now %q, %v", to, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != 0o640 || os.Getuid() == 0 && (owner.Uid != 12 || owner.Gid != 34) {
		t.Errorf("mode %v, owner %d:%d", info.Mode(), owner.Uid, owner.Gid)
	}
}

// A config that the entries would break is left alone.
func TestAppendNothingWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	old := "state = \"x\"\nroles = [\"device\"]\nsensor = [{ name = \"a\", driver = \"host\" }]\n"
	if err := os.WriteFile(path, []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	err := appendEntries(path, "\n[[sensor]]\nname = \"b\"\ndriver = \"host\"\n")
	text, rerr := os.ReadFile(path)
	if err == nil || rerr != nil || string(text) != old {
		t.Errorf("%v; the file is now %q, %v", err, text, rerr)
	}
}

func TestParseAction(t *testing.T) {
	d, err := all.Find("host")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseAction(d, "switch", "on"); err == nil || !strings.Contains(err.Error(), "cannot be set") {
		t.Errorf("host: %v", err)
	}
	d.Actions = append(d.Actions, sensors.SwitchOn, sensors.Voltage)
	for _, c := range []struct {
		quantity, value string
		want            float64
		says            string
	}{
		{"switch", "on", 1, ""},
		{"switch.3", "off", 0, ""},
		{"switch", "1", 1, ""},
		{"switch", "maybe", 0, "want on or off"},
		{"switches", "on", 0, "use switch, voltage (V)"},
		{"voltage", "-2.5", -2.5, ""},
		{"voltage", "high", 0, "a number in V"},
	} {
		v, err := parseAction(d, c.quantity, c.value)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s %s: %v, want %q", c.quantity, c.value, err, c.says)
			}
		} else if err != nil || v.Name != c.quantity || v.Value != c.want || !d.CanSet(v.Quantity) {
			t.Errorf("%s %s: %+v, %v", c.quantity, c.value, v, err)
		}
	}
}
