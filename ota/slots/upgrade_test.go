// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
)

// What a package brings is the first program, then a newer one on trial where the agent tells its health; an older one never, unless it is asked for.
func TestUpgrade(t *testing.T) {
	root, state := t.TempDir(), t.TempDir()
	s, err := slots.Open(slots.Options{Root: root, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	program := func(text string) string {
		path := filepath.Join(t.TempDir(), "streembitd")
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	links := func() string {
		current, err1 := os.Readlink(filepath.Join(root, "current"))
		good, err2 := os.Readlink(filepath.Join(root, "good"))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		version := func(link string) string { return strings.Split(filepath.Base(link), "-")[0] }
		return version(current) + " " + version(good)
	}
	up := func(version ota.Version, back bool, wantErr error, want string) {
		t.Helper()
		if err := s.Upgrade(version, program("program "+string(version)), state, back); !errors.Is(err, wantErr) {
			t.Fatalf("%s: got %v, want %v", version, err, wantErr)
		}
		if got := links(); got != want {
			t.Fatalf("%s: current and good are %s, want %s", version, got, want)
		}
	}
	up("1.1.0", false, nil, "1.1.0 1.1.0")
	up("1.1.0", false, nil, "1.1.0 1.1.0")
	up("1.0.0", false, slots.ErrNewer, "1.1.0 1.1.0")
	up("1.2.0", false, nil, "1.2.0 1.2.0") // nobody runs
	if err := slots.WriteHealth(state, slots.Health{ID: "12D3", Working: true, Sensors: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	up("1.3.0", false, nil, "1.3.0 1.2.0")
	up("1.4.0", false, slots.ErrBusy, "1.3.0 1.2.0")
	trial, err := s.Trial()
	if err != nil || trial.Baseline.ID != "12D3" || len(trial.Baseline.Sensors) != 1 {
		t.Fatalf("%+v, %v", trial, err)
	}
	if err := s.Commit(trial); err != nil {
		t.Fatal(err)
	}
	up("1.1.0", true, nil, "1.1.0 1.3.0")
	if data, err := os.ReadFile(s.Program()); err != nil || string(data) != "program 1.1.0" {
		t.Errorf("%q, %v", data, err)
	}
}
