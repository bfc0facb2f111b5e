// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/host"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/sysfs"
)

func fixture(name string) *hal.Board {
	return hal.NewBoard(hal.Wiring{Name: name, Root: filepath.Join("testdata", name)})
}

func temperature(suffix string) edge.Quantity {
	q := sensors.Temperature
	q.Name += "." + suffix
	return q
}

func pi4Quantities() []edge.Quantity {
	return []edge.Quantity{
		sensors.Load, sensors.MemoryTotal, sensors.MemoryFree, sensors.Uptime,
		temperature("cpu-thermal"), temperature("cpu_thermal.temp1"), temperature("nvme.composite"), sensors.DiskFree,
	}
}

func TestContract(t *testing.T) {
	if runtime.GOOS != "linux" {
		skip(t, "the free space of a disk is read on Linux only")
	}
	sensorstest.Run(t, sensorstest.Case{Driver: host.Driver, Board: func() *hal.Board { return fixture("pi4") }, Want: pi4Quantities()})
	sensorstest.Run(t, sensorstest.Case{
		Driver: host.Driver, Board: func() *hal.Board { return fixture("bare") },
		Want: []edge.Quantity{sensors.Uptime, sensors.DiskFree},
	})
}

// skip is a failure where everything must run.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("cannot be skipped in CI: " + why)
	}
	t.Skip(why)
}

func read(t *testing.T, board *hal.Board, opts map[string]any) ([]edge.Sample, error) {
	t.Helper()
	s, err := host.Driver.Connect(t.Context(), board, hal.Request{}, opts)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Read(t.Context())
}

func TestFixture(t *testing.T) {
	samples, err := read(t, fixture("pi4"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, s := range samples {
		got[s.Name] = s.Value
	}
	if got["disk-free"] <= 0 {
		t.Errorf("disk-free %v", got["disk-free"])
	}
	delete(got, "disk-free")
	want := map[string]float64{
		"load": 0.52, "memory-total": 3884372 * 1024, "memory-free": 3012216 * 1024, "uptime": 354231.07,
		"temperature.cpu-thermal": 48.312, "temperature.cpu_thermal.temp1": 48.312, "temperature.nvme.composite": -1.85,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// The machine that the tests run on has at least these, and they are plausible.
func TestThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		skip(t, "this machine has no /proc")
	}
	board, err := hal.Open(t.Context(), hal.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer board.Close()
	samples, err := read(t, board, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, s := range samples {
		got[s.Name] = s.Value
	}
	if got["memory-total"] < 64e6 || got["memory-free"] <= 0 || got["memory-free"] > got["memory-total"] || got["uptime"] <= 0 || got["disk-free"] <= 0 {
		t.Errorf("%v", got)
	}
}

func TestRefuses(t *testing.T) {
	empty := hal.NewBoard(hal.Wiring{Root: t.TempDir()})
	if _, err := read(t, empty, map[string]any{"disk": "/no/such/folder"}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/folder") {
		t.Errorf("a missing disk: %v", err)
	}
	for file, text := range map[string]string{
		"proc/loadavg": "x 0 0 1/2 3\n", "proc/uptime": "-1 2\n", "proc/meminfo": "MemTotal: 5 kB\n",
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if samples, err := read(t, hal.NewBoard(hal.Wiring{Root: root}), nil); !errors.Is(err, sysfs.ErrFormat) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s = %q: %v, %v", file, text, samples, err)
		}
	}
}
