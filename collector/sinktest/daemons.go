// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/internal/freeport"
)

// patience is how long a test waits for what takes a second on an idle machine.
const patience = 60 * time.Second

// Daemon is a server that the test started on a free port of loopback, with data of its own. Kill it and start it again as often as
// wanted: port and data stay.
type Daemon struct {
	Addr string // host:port
	Dir  string // its data
	make func() *exec.Cmd
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	log  *tail
}

// tail keeps the last of what a server says.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<16 {
		l.b.Reset()
	}
	return l.b.Write(p)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Program returns the path of a server's program. Without it the test is skipped, or fails where CI is true.
func Program(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name} { // Debian's sbin is on root's path only
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: apt-get install --no-install-recommends %s", name, pkg)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s is missing: apt-get install --no-install-recommends %s", name, pkg)
	return ""
}

// FreePort returns a port of loopback that nobody listened on just now.
func FreePort(t testing.TB) string {
	t.Helper()
	ports, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// NewDaemon starts a server; command returns its command line for a port and a folder. It is killed when the test ends.
func NewDaemon(t testing.TB, command func(port, dir string) *exec.Cmd) *Daemon {
	t.Helper()
	port, dir := FreePort(t), t.TempDir()
	s := &Daemon{Addr: "127.0.0.1:" + port, Dir: dir, make: func() *exec.Cmd { return command(port, dir) }, log: &tail{}}
	t.Cleanup(func() { s.Kill(t) })
	s.Start(t)
	return s
}

// Start starts the server again and waits until it answers on its port.
func (s *Daemon) Start(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return
	}
	cmd, done := s.make(), make(chan struct{})
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(done) }() // its end is what Kill wants
	s.cmd, s.done = cmd, done
	WaitFor(t, cmd.Path+" to answer", func() error {
		select {
		case <-done:
			t.Fatalf("%s ended: %s", cmd.Path, s.log)
		default:
		}
		c, err := net.Dial("tcp", s.Addr)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// PID is the server's process.
func (s *Daemon) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

// Kill ends the server with SIGKILL.
func (s *Daemon) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-s.done
	s.cmd = nil
}

// WaitFor asks until there is no error.
func WaitFor(t testing.TB, what string, ask func() error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
	}
}

// Mosquitto starts a broker that keeps what it queued and forgets nothing of it at a kill, as far as mosquitto can; more is added to
// its config.
func Mosquitto(t testing.TB, more string) *Daemon {
	t.Helper()
	program := Program(t, "mosquitto", "mosquitto")
	return NewDaemon(t, func(port, dir string) *exec.Cmd {
		conf := fmt.Sprintf("listener %s 127.0.0.1\npersistence true\npersistence_location %s/\nautosave_interval 1\nautosave_on_changes true\n"+
			"max_queued_messages 0\nmax_inflight_messages 0\nlog_type error\n%s", port, dir, more)
		if os.Getuid() == 0 {
			conf += "\nuser root\n" // it would become another user, who cannot read the folder
		}
		file := filepath.Join(dir, "mosquitto.conf")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(program, "-c", file)
	})
}

// NATS starts a server with JetStream on files; more is added to its config.
func NATS(t testing.TB, more string) *Daemon {
	t.Helper()
	program := Program(t, "nats-server", "nats-server")
	return NewDaemon(t, func(port, dir string) *exec.Cmd {
		file := filepath.Join(dir, "nats.conf")
		conf := fmt.Sprintf("listen: \"127.0.0.1:%s\"\njetstream { store_dir: %q }\n%s", port, filepath.Join(dir, "data"), more)
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(program, "-c", file)
	})
}

// InfluxDB starts InfluxDB 1.x with users and passwords: one needs both.
func InfluxDB(t testing.TB) *Daemon {
	t.Helper()
	program := Program(t, "influxd", "influxdb")
	rpc := FreePort(t)
	return NewDaemon(t, func(port, dir string) *exec.Cmd {
		file := filepath.Join(dir, "influxdb.conf")
		conf := fmt.Sprintf("reporting-disabled = true\nbind-address = \"127.0.0.1:%s\"\n[meta]\ndir = \"%s/meta\"\n[data]\ndir = \"%s/data\"\nwal-dir = \"%s/wal\"\n"+
			"[http]\nbind-address = \"127.0.0.1:%s\"\nauth-enabled = true\nlog-enabled = false\n", rpc, dir, dir, dir, port)
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(program, "-config", file)
	})
}

// MariaDB starts a server whose root needs no password.
func MariaDB(t testing.TB) *Daemon {
	t.Helper()
	program := Program(t, "mariadbd", "mariadb-server")
	install := Program(t, "mariadb-install-db", "mariadb-server")
	return NewDaemon(t, func(port, dir string) *exec.Cmd {
		data := filepath.Join(dir, "data")
		user := "--user=" + os.Getenv("USER")
		if os.Getuid() == 0 {
			user = "--user=root"
		}
		tmp := "--tmpdir=" + dir // a server that starts removes the temporary tables of all others that have the same folder for them
		if _, err := os.Stat(data); err != nil {
			out, err := exec.Command(install, "--no-defaults", "--datadir="+data, tmp, "--auth-root-authentication-method=normal", "--skip-test-db", user).CombinedOutput()
			if err != nil {
				t.Fatalf("mariadb-install-db: %v\n%s", err, out)
			}
		}
		return exec.Command(program, "--no-defaults", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+port, "--socket="+filepath.Join(dir, "s"), user, tmp,
			"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M")
	})
}
