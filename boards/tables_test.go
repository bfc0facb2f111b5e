// SPDX-License-Identifier: Apache-2.0

package boards_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge/boards"
)

// faults returns what is wrong with the tables.
func faults(all []boards.Board) (list []string) {
	seen := make(map[string]bool)
	once := func(format string, args ...any) {
		key := fmt.Sprintf(format, args...)
		if seen[key] {
			list = append(list, key+" twice")
		}
		seen[key] = true
	}
	fault := func(b boards.Board, format string, args ...any) {
		list = append(list, b.ID+": "+fmt.Sprintf(format, args...))
	}
	for _, b := range all {
		once("board %s", b.ID)
		for _, c := range b.Compatible {
			once("compatible %s with revisions %x", c, b.Revisions)
		}
		if b.ID == "" || b.Name == "" || b.EnableI2C == "" || b.Watchdog.Device == "" || b.Checked == "" {
			fault(b, "ID, Name, EnableI2C, Watchdog.Device and Checked must be set")
		}
		if !slices.Contains([]string{"arm/6", "arm/7", "arm64/", "amd64/"}, b.GOARCH+"/"+b.GOARM) {
			fault(b, "no build is %s/%s", b.GOARCH, b.GOARM)
		}
		if (len(b.Pins) > 0) != (b.Header != "") {
			fault(b, "%d pins with Header %q", len(b.Pins), b.Header)
		}
		if _, ok := b.Pin(b.OneWire.Line); b.OneWire.Line != "" && (!ok || b.OneWire.Enable == "") {
			fault(b, "1-wire %+v", b.OneWire)
		}
		for _, p := range b.Pins {
			once("%s header %s", b.ID, p.Header)
			once("%s line %s", b.ID, p.Line)
			once("%s chip %s%s offset %d", b.ID, p.Label, p.Node, p.Offset)
			if p.Header == "" || p.Line == "" || (p.Label == "") == (p.Node == "") || p.Offset < 0 || p.Offset >= 256 {
				fault(b, "pin %+v", p)
			}
		}
		for _, r := range b.Reserved {
			if r.First == 0 || r.Last < r.First || r.Last > 0x7f || r.Why == "" {
				fault(b, "reserved %+v", r)
			}
			if r.Bus.Number < 0 && len(r.Bus.Nodes) == 0 && r.Bus.Name == "" {
				fault(b, "reserved %#x is on no bus", r.First)
			}
		}
	}
	return list
}

func TestTables(t *testing.T) {
	for _, f := range faults(boards.All()) {
		t.Error(f)
	}
}

// TestTablesFindsFaults plants each fault once.
func TestTablesFindsFaults(t *testing.T) {
	good := func() boards.Board {
		i := slices.IndexFunc(boards.All(), func(b boards.Board) bool { return b.ID == "rpi-4" })
		return boards.All()[i]
	}
	for name, plant := range map[string]func(*boards.Board){
		"position":   func(b *boards.Board) { b.Pins[1].Header = b.Pins[0].Header },
		"line":       func(b *boards.Board) { b.Pins[1].Line = b.Pins[0].Line },
		"offset":     func(b *boards.Board) { b.Pins[1].Offset = b.Pins[0].Offset },
		"slip":       func(b *boards.Board) { b.Pins[1].Offset = -1 },
		"label":      func(b *boards.Board) { b.Pins[1].Label = "" },
		"address":    func(b *boards.Board) { b.Reserved[0].Last = 0x80 },
		"backwards":  func(b *boards.Board) { b.Reserved[0].First = 0x51 },
		"reason":     func(b *boards.Board) { b.Reserved[0].Why = "" },
		"source":     func(b *boards.Board) { b.Checked = "" },
		"build":      func(b *boards.Board) { b.GOARM = "6" },
		"1-wire":     func(b *boards.Board) { b.OneWire.Line = "GPIO99" },
		"compatible": func(b *boards.Board) { b.Compatible = append(b.Compatible, b.Compatible[0]) },
	} {
		b := good()
		if f := faults([]boards.Board{b}); len(f) > 0 {
			t.Fatalf("before: %q", f)
		}
		plant(&b)
		if len(faults([]boards.Board{b})) == 0 {
			t.Errorf("%s is not noticed", name)
		}
	}
}

var update = flag.Bool("update", false, "rewrite the table in docs/adding-a-board.md")

// The page's table is made of the Go tables. With -update the page is rewritten.
func TestPage(t *testing.T) {
	const page, begin, end = "../docs/adding-a-board.md", "<!-- table: go test ./boards -update -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(text, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	want := slices.Concat(head, []byte(begin+table()+end), tail)
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(text, want) {
		t.Errorf("%s is stale: go test ./boards -update", page)
	}
}

func table() string {
	var s strings.Builder
	s.WriteString("| Board | recognised by | build | header I²C | pins | watchdog | never touch |\n|---|---|---|---|---|---|---|\n")
	for _, b := range boards.All() {
		build := b.GOARCH
		if b.GOARM != "" {
			build += " GOARM=" + b.GOARM
		}
		by := strings.Join(b.Compatible, ", ")
		if by == "" {
			by = "sys/class/dmi"
		}
		if b.Revisions != nil {
			by += fmt.Sprintf(" with revision %04x", b.Revisions)
		}
		dog := b.Watchdog.Driver
		if b.Watchdog.Longest > 0 {
			dog += " " + b.Watchdog.Longest.String()
		}
		var never []string
		for _, r := range b.Reserved {
			addr := fmt.Sprintf("%#02x", r.First)
			if r.Last > r.First {
				addr += fmt.Sprintf("–%#02x", r.Last)
			}
			never = append(never, addr+" on "+busName(r.Bus))
		}
		pins := "not in the table"
		if len(b.Pins) > 0 {
			pins = fmt.Sprintf("%d, %s to %s", len(b.Pins), b.Pins[0].Header, b.Pins[len(b.Pins)-1].Header)
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s | %s | %s |\n", b.Name, by, build, busName(b.I2C), pins, dog, strings.Join(never, ", "))
	}
	return s.String()
}

func busName(b boards.Bus) string {
	switch {
	case b.Number >= 0:
		return fmt.Sprintf("i2c-%d", b.Number)
	case len(b.Nodes) > 0:
		return b.Nodes[0]
	case b.Name != "":
		return b.Name + " adapters"
	}
	return "not known"
}
