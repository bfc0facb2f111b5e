// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/systemd"
)

// TestNotify speaks with a socket as the service manager's is.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	check(t, err)
	defer func() { check(t, l.Close()) }()
	t.Setenv("NOTIFY_SOCKET", path)
	for want, tell := range map[string]func() error{"READY=1": systemd.Ready, "WATCHDOG=1": systemd.Alive, "STOPPING=1": systemd.Stopping} {
		check(t, tell())
		check(t, l.SetReadDeadline(time.Now().Add(20*time.Second)))
		buf := make([]byte, 100)
		n, err := l.Read(buf)
		check(t, err)
		if got := string(buf[:n]); got != want {
			t.Errorf("it was told %q, want %q", got, want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "")
	check(t, systemd.Ready()) // nobody listens
	t.Setenv("NOTIFY_SOCKET", path+".gone")
	if systemd.Ready() == nil {
		t.Error("the service manager is gone, and that is no error")
	}
}

func TestWatchdog(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "60000000": time.Minute} {
		t.Setenv("WATCHDOG_USEC", text)
		if got, err := systemd.Watchdog(); err != nil || got != want {
			t.Errorf("WATCHDOG_USEC=%q: %v, %v, want %v", text, got, err, want)
		}
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := systemd.Watchdog(); err == nil {
		t.Error(`WATCHDOG_USEC="soon" is no error`)
	}
}

// TestUnitsAreHardened has systemd rate each service: 1.5 at most, of 10. The control is the same unit without its hardening.
func TestUnitsAreHardened(t *testing.T) {
	analyze := lookUp(t)
	names, err := fs.Glob(systemd.Units, "*.service")
	check(t, err)
	if len(names) != 2 {
		t.Fatalf("services: %v", names)
	}
	for _, name := range names {
		text, err := systemd.Units.ReadFile(name)
		check(t, err)
		if out, err := rate(t, analyze, name, string(text)); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		} else {
			t.Log(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
		}
		if _, err := rate(t, analyze, name, strings.Replace(string(text), "NoNewPrivileges=yes", "", 1)+"\n[Service]\nSystemCallFilter=\nProtectSystem=no\n"); err == nil {
			t.Errorf("%s without hardening passes too: the rating shows nothing", name)
		}
	}
}

func rate(t *testing.T, analyze, name, text string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	check(t, os.WriteFile(path, []byte(text), 0o600))
	out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=15", "--no-pager", path).CombinedOutput()
	return string(out), err
}

// TestUnitsAreValid has systemd read the units, with the programs that they name in place.
func TestUnitsAreValid(t *testing.T) {
	analyze := lookUp(t)
	root := t.TempDir()
	units := filepath.Join(root, "etc/systemd/system")
	check(t, os.CopyFS(units, systemd.Units))
	for _, program := range []string{"opt/streembit/current/streembitd", "usr/lib/streembit/streembit-updater", "bin/kill"} {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(root, program)), 0o755))
		check(t, os.WriteFile(filepath.Join(root, program), nil, 0o755))
	}
	standard, err := filepath.Glob("/lib/systemd/system/*.target")
	check(t, err)
	for _, path := range standard {
		text, err := os.ReadFile(path)
		check(t, err)
		check(t, os.WriteFile(filepath.Join(units, filepath.Base(path)), text, 0o600))
	}
	out, err := exec.Command(analyze, "verify", "--root="+root, "--recursive-errors=no", "--man=no", "streembitd.service", "streembit-updater.service", "streembit-updater.path").CombinedOutput()
	if err != nil || strings.Contains(string(out), "Unknown") {
		t.Errorf("%v: %s", err, out)
	}
}

func lookUp(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		why := "systemd-analyze is missing, the units were not checked: apt-get install systemd"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip("SKIPPED: " + why)
	}
	return path
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
