// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/all"
	"github.com/streembit/edge/sensors/sensorstest"
)

var update = flag.Bool("update", false, "write the transactions of each chip to testdata")

// recordedMark begins a recording; what streembitd read follows as JSON, and on the next lines the transactions.
const recordedMark = "# recorded by test/vm from a model of hal/sim on an I2C bus of Linux: "

func recordingFile(name string) string { return filepath.Join("testdata", name+".txt") }

// record cuts what vbus logged while streembitd read each chip, and keeps it with -update.
func record(t *testing.T, m *machine, ours map[string]readings) {
	t.Helper()
	log := m.run("cat /tmp/vbus.log") + "\n"
	for _, c := range chips() {
		_, after, _ := strings.Cut(log, "# begin "+c.name+"\n")
		transactions, _, ok := strings.Cut(after, "# end "+c.name+"\n")
		if !ok || transactions == "" {
			t.Errorf("vbus logged nothing while %s was read", c.name)
			continue
		}
		if !*update {
			continue
		}
		read, err := json.Marshal(ours[c.name])
		must(t, err)
		kept := ""
		for line := range strings.Lines(transactions) { // the kernel looks for 1-wire chips all the time
			if strings.HasPrefix(line, fmt.Sprintf("%02x ", c.addr)) {
				kept += line
			}
		}
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(recordingFile(c.name), fmt.Appendf(nil, "%s%s\n%s", recordedMark, read, kept), 0o644))
	}
}

// TestRecordings plays each recording back to its driver, which has to read the same values: what a change of a driver alters on the wire is
// seen without a virtual machine. Run TestVirt with -update to record anew.
func TestRecordings(t *testing.T) {
	for _, c := range chips() {
		t.Run(c.name, func(t *testing.T) {
			text, err := os.ReadFile(recordingFile(c.name))
			if errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("there is no recording: go test -run TestVirt ./test/vm -update")
			}
			must(t, err)
			first, _, _ := bytes.Cut(text, []byte("\n"))
			var want readings
			must(t, json.Unmarshal(bytes.TrimPrefix(first, []byte(recordedMark)), &want))
			synctest.Test(t, func(t *testing.T) { playBack(t, c, text, want) })
		})
	}
}

func playBack(t *testing.T, c chip, text []byte, want readings) {
	t.Helper()
	ops, err := sensorstest.ParseOps(text)
	must(t, err)
	board := sensorstest.Playback(ops)
	defer func() { must(t, board.Close()) }()
	driver, err := all.Find(c.name)
	must(t, err)
	sensor, err := driver.Connect(t.Context(), board, hal.Request{Addr: c.addr}, c.options)
	must(t, err)
	samples, err := sensor.Read(t.Context())
	must(t, err)
	got := map[string]float64{}
	for _, s := range samples {
		got[s.Name] = s.Value
	}
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Errorf("it reads %v, recorded was %v", got, want)
	}
	for name, value := range got {
		if x, _ := want.number(name); !near(value, x) {
			t.Errorf("%s: %v, recorded was %v", name, value, x)
		}
	}
	if err := sensor.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// near allows for the seven digits that streembitd prints.
func near(x, y float64) bool { return max(x, y)-min(x, y) <= 1e-6*max(x, -x, y, -y) }
