// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/all"
)

var update = flag.Bool("update", false, "write docs/sensors.md and the transcripts")

const page = "../../docs/sensors.md"

const pageHead = `# Sensors

The drivers of streembitd, made from what they say of themselves by ` + "`go test ./cmd/streembitd -update`" + `; a test fails when
the page is stale. ` + "`streembitd sensors drivers --json`" + ` gives the same to programs, ` + "`streembitd sensors scan`" + ` finds out what is connected, and
[adding-a-sensor.md](adding-a-sensor.md) says how to write one more.

Values are in SenML's primary units. Accuracy is the data sheet's, of the chip alone. *Checked against* names the driver of the Linux kernel whose values
ours equalled, read one after the other from the same emulated chip on a real kernel bus (test/vm), or which served our driver there. *Model only* means that our own model of the chip,
made from its data sheet, and the data sheet's examples are all that our driver was held against. None of this was tried on the chips themselves.

`

// TestSensorsPage keeps docs/sensors.md in step with the drivers.
func TestSensorsPage(t *testing.T) {
	want := sensorsPage(t)
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/sensors.md is stale: go test ./cmd/streembitd -update (%v)", err)
	}
}

func sensorsPage(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(pageHead)
	row := func(cells ...string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	row("driver", "what", "bus", "addresses", "measures", "sets", "fastest", "checked against")
	row("---", "---", "---", "---", "---", "---", "---", "---")
	checked := checkedAgainst(t)
	for _, d := range all.Drivers() {
		i := describe(d)
		against := "model only"
		if kernel := checked[d.Name]; kernel != "" {
			against = "kernel: " + kernel
		} else if d.Bus == hal.Host {
			against = "reads the kernel's own files"
		}
		row("`"+i.Name+"`", i.Doc, i.Bus, i.addresses(), strings.Join(i.Measures, ", "), strings.Join(i.Actions, ", "), i.Fastest, against)
	}
	b.WriteString("\n## Options\n\n")
	row("driver", "option", "default", "values", "what")
	row("---", "---", "---", "---", "---")
	for _, d := range all.Drivers() {
		for _, o := range d.Options {
			row("`"+d.Name+"`", "`"+o.Name+"`", o.Default, strings.Join(o.Allowed, ", "), o.Doc)
		}
	}
	return b.Bytes()
}

// checkedAgainst returns the kernel driver by driver of ours, from what test/vm really compares: the rows of its table of chips that name a module of the
// kernel, and what its other tests say in so many words.
func checkedAgainst(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../test/vm/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`\{name: "([a-z0-9-]+)".*module: "([a-z0-9-]+)"`)
	out := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range row.FindAllStringSubmatch(string(text), -1) {
			out[m[1]] = m[2]
		}
		// These are no chips of that table: the VM's lines and its 1-wire thermometer.
		for driver, kernel := range map[string]string{"ds18b20": "w1_therm", "gpio": "gpio-pl061", "gpio-pulses": "gpio-pl061", "gpio-out": "gpio-pl061"} {
			if regexp.MustCompile(`driver = \\?"` + driver + `\\?"`).Match(text) {
				out[driver] = kernel
			}
		}
	}
	return out
}

// TestDriverSizes reports the lines of code of each driver's folder, without comments, blank lines and tests.
func TestDriverSizes(t *testing.T) {
	folders, err := filepath.Glob("../../sensors/*/*.go")
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	lines := map[string]int{}
	var order []string
	for _, file := range folders {
		folder := filepath.Base(filepath.Dir(file))
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		if lines[folder] == 0 {
			order = append(order, folder)
		}
		lines[folder] += codeLines(t, file)
	}
	for _, folder := range order {
		t.Logf("%4d %s", lines[folder], folder)
	}
}

// codeLines counts the lines on which there is a token.
func codeLines(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	f := fset.AddFile(file, -1, len(text))
	var s scanner.Scanner
	s.Init(f, text, nil, 0)
	seen := map[int]bool{}
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return len(seen)
		}
		if tok == token.SEMICOLON && lit == "\n" { // put in at the end of a line
			continue
		}
		for n := range strings.Count(lit, "\n") + 1 {
			seen[f.Line(pos)+n] = true
		}
	}
}
