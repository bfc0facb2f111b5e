// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startLimit bounds how long a server may take to start or to recover from a crash.
const startLimit = 5 * time.Minute

// Server is a PostgreSQL of a test's own, with its files in a temporary folder, that can be killed and started again.
type Server struct {
	DSN string

	settings       []string
	bin, dir, port string
	as             *syscall.Credential // PostgreSQL refuses to run as root
	cmd            *exec.Cmd
	ended          chan struct{}
}

// NewServer makes and starts a server with settings such as "fsync=off" (which a kill of its processes cannot tell from on: what they wrote is the kernel's), which is stopped when the test ends. Without PostgreSQL's programs the test is skipped, or fails where CI is true.
func NewServer(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{settings: settings}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is right
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("no PostgreSQL to start: apt-get install postgresql")
		}
		t.Skip("SKIPPED, NOT TESTED: no PostgreSQL to start: apt-get install postgresql")
	}
	s.bin = filepath.Dir(slices.Max(found))
	dir, err := os.MkdirTemp("", "streembit-postgres-") //nolint:usetesting // not t.TempDir: its parents are closed to the user postgres
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Getuid() == 0 {
		s.as = postgresUser(t)
		if err := os.Chown(dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	init := s.command("initdb", "--pgdata="+s.data(), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.port = FreePort(t)
	s.DSN = "postgres://postgres@127.0.0.1:" + s.port + "/postgres?sslmode=disable&connect_timeout=5"
	s.Start(t)
	return s
}

func postgresUser(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *Server) log() string  { return filepath.Join(s.dir, "log") }
func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

// Start starts the server, after a kill too, and returns when it takes connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for {
		s.launch(t)
		err := s.await(deadline)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(s.log())
			t.Fatalf("PostgreSQL does not start: %v\n%s", err, text)
		}
	}
}

func (s *Server) launch(t testing.TB) {
	t.Helper()
	args := []string{"-D", s.data(), "-p", s.port, "-h", "127.0.0.1", "-k", s.dir}
	for _, set := range s.settings {
		args = append(args, "-c", set)
	}
	s.cmd = s.command("postgres", args...)
	out, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the server has its own
	s.cmd.Stderr = out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}(s.cmd, s.ended)
}

// await waits until the server takes connections; it may end by itself while processes of its predecessor still do.
func (s *Server) await(deadline time.Time) error {
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		conn, err := pgx.Connect(ctx, s.DSN)
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("it ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("no connection within %v", startLimit)
}

// PID is the server's first process, below which are all others.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Kill kills the server and all its processes with SIGKILL.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-s.ended
	s.cmd = nil
}
