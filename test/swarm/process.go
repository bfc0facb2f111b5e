// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit is how long a condition may take; usual times are a fifth or less.
const limit = 60 * time.Second

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// programsDir is the environment variable in which Main says where the programs go.
const programsDir = "STREEMBIT_TEST_PROGRAMS"

// Main is for TestMain: it runs the tests and removes the programs that they built.
func Main(m *testing.M) { os.Exit(Tests{m}.Run()) }

// Tests are those of a package whose TestMain is another's; they are run as by Main.
type Tests struct{ M *testing.M }

// Run runs the tests and removes the programs that they built.
func (t Tests) Run() int {
	dir, err := os.MkdirTemp("", "streembit-programs-*")
	if err == nil {
		err = os.Setenv(programsDir, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "swarm:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return t.M.Run()
}

// build builds both programs, once per test process and only when a test asks for one.
var build = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := os.Getenv(programsDir)
	if dir == "" {
		return "", errors.New("swarm: TestMain does not call swarm.Main")
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir, "./cmd/...")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("swarm: building the programs: %w: %s", err, out)
	}
	return dir, nil
})

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(raw, []byte("module github.com/streembit/edge\n")) { // bench/peers is a module of its own
			return dir, nil
		}
	}
	return "", errors.New("swarm: the working folder is not in github.com/streembit/edge")
}

// Program returns the path of a built program.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := build()
	check(tb, err)
	return filepath.Join(dir, name)
}

// Launch runs a program of the caller's for a member, which ends with the test at the latest.
func (s *Swarm) Launch(m *Member, program string, args ...string) {
	s.tb.Helper()
	s.launch(m, program, args...)
}

// Await waits until a member answers for its status.
func (s *Swarm) Await(m *Member) {
	s.tb.Helper()
	WaitFor(s.tb, m.Name+" to be ready", func() error { return s.ready(m) })
}

// Build builds streembitd anew, as a release of that version.
func Build(tb testing.TB, version string) string {
	tb.Helper()
	root, err := moduleRoot()
	check(tb, err)
	out := filepath.Join(tb.TempDir(), "streembitd")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X main.version="+version, "-o", out, "./cmd/streembitd")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("building version %s: %v: %s", version, err, text)
	}
	return out
}

// Start runs streembitd for each member and waits until it answers for its status.
func (s *Swarm) Start(members ...*Member) {
	s.tb.Helper()
	for _, m := range members {
		s.launch(m, Program(s.tb, "streembitd"), "run", "--config", m.Config)
	}
	for _, m := range members {
		WaitFor(s.tb, m.Name+" to be ready", func() error { return s.ready(m) })
	}
}

// launch starts a member's process, which ends with the test at the latest.
func (s *Swarm) launch(m *Member, program string, args ...string) {
	s.tb.Helper()
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Stderr, p.cmd.Stdout = m.Log, m.Log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(s.tb, p.cmd.Start())
	m.proc = p
	go func() { _ = p.cmd.Wait(); close(p.done) }() // Kill and Cleanup wait for done
	s.tb.Cleanup(func() { s.Kill(m) })
}

// Collect starts the collector, which follows the fleet into a SQLite file.
func (s *Swarm) Collect(db string) {
	s.tb.Helper()
	check(s.tb, os.WriteFile(s.Reader.Config, fmt.Appendf(nil, "state = %q\n[sink]\nkind = \"sqlite\"\npath = %q\n", s.Reader.State, db), 0o600))
	s.launch(s.Reader, Program(s.tb, "streembit"), "collect", "run", "--config", s.Reader.Config)
}

// CollectOnce has the collector pull all that the hubs have into a SQLite file, and fails the test unless that is everything there is.
func (s *Swarm) CollectOnce(db string) {
	s.tb.Helper()
	config := s.Reader.Config + ".once"
	check(s.tb, os.WriteFile(config, fmt.Appendf(nil, "state = %q\n[sink]\nkind = \"sqlite\"\npath = %q\n", s.Reader.State, db), 0o600))
	stdout, stderr, code := s.Run("streembit", "collect", "run", "--config", config, "--once")
	s.tb.Logf("collect exited with %d: %s%s", code, stdout, stderr)
}

func (s *Swarm) ready(m *Member) error {
	select {
	case <-m.proc.done:
		s.tb.Fatalf("%s ended: %s", m.Name, m.Log.Tail(20))
	default:
	}
	_, err := s.Status(m)
	return err
}

// PID returns the process id of a running member.
func (m *Member) PID() int { return m.proc.cmd.Process.Pid }

// Kill sends SIGKILL, to what the member has started too, and waits for the end. A member that does not run is left alone.
func (s *Swarm) Kill(m *Member) {
	if m.proc == nil {
		return
	}
	_ = syscall.Kill(-m.proc.cmd.Process.Pid, syscall.SIGKILL)
	<-m.proc.done
	m.proc = nil
	if s.tb.Failed() {
		s.tb.Logf("log of %s:\n%s", m.Name, m.Log.Tail(60))
	}
}

// Signal sends a signal to a running member.
func (s *Swarm) Signal(m *Member, sig os.Signal) {
	s.tb.Helper()
	check(s.tb, m.proc.cmd.Process.Signal(sig))
}

// Wait waits until a member has ended by itself.
func (s *Swarm) Wait(m *Member) {
	s.tb.Helper()
	select {
	case <-m.proc.done:
		m.proc = nil
	case <-time.After(limit):
		s.tb.Fatalf("%s did not end: %s", m.Name, m.Log.Tail(20))
	}
}

// Status asks a running member.
func (s *Swarm) Status(m *Member) (map[string]any, error) {
	out, err := exec.Command(Program(s.tb, "streembitd"), "status", "--state", m.State, "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("swarm: status of %s: %w", m.Name, err)
	}
	var v map[string]any
	return v, json.Unmarshal(out, &v)
}

// Run runs one of the programs to its end and returns what it printed and its exit code.
func (s *Swarm) Run(name string, args ...string) (stdout, stderr string, code int) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, Program(s.tb, name), args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.tb.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// WaitFor waits until cond returns nil, and fails the test with its last error when it takes too long.
func WaitFor(tb testing.TB, what string, cond func() error) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Buffer collects a process's output, or a log, while others read it.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends; it never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Count returns how often the text was written.
func (b *Buffer) Count(text string) int { return strings.Count(b.String(), text) }

// Tail returns the last lines.
func (b *Buffer) Tail(lines int) string {
	all := strings.Split(strings.TrimSpace(b.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
