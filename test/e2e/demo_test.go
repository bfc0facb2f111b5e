// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/test/swarm"
)

// demoRun is a streembit demo whose folder nobody else uses, so that its processes are known by it.
type demoRun struct {
	dir         string
	cmd         *exec.Cmd
	out, stderr bytes.Buffer
}

func startDemo(t *testing.T, args ...string) *demoRun {
	t.Helper()
	d := &demoRun{dir: filepath.Join(t.TempDir(), "demo")}
	d.cmd = exec.Command(swarm.Program(t, "streembit"), append([]string{"demo", "--dir", d.dir}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.stderr
	must(t, d.cmd.Start())
	t.Cleanup(func() {
		for pid := range d.processes(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it failed to end them, which the test has said
		}
	})
	return d
}

// wait returns the exit code.
func (d *demoRun) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	kill := time.AfterFunc(limit, func() { _ = d.cmd.Process.Kill() }) // it may have ended just now
	defer kill.Stop()
	err := d.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return d.cmd.ProcessState.ExitCode()
}

// processes returns those whose command line names the demo's folder.
func (d *demoRun) processes(t *testing.T) map[int]string {
	t.Helper()
	found := map[int]string{}
	entries, err := os.ReadDir("/proc")
	must(t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(d.dir)) {
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

func (d *demoRun) requireNoneLeft(t *testing.T) {
	t.Helper()
	for pid, line := range d.processes(t) {
		t.Errorf("process %d is left behind: %s", pid, line)
	}
}

var verdict = regexp.MustCompile(`\npublished=(\d+) pulled=(\d+) verified=(\d+) missing=(\d+) db=(.+)\n$`)

// requireVerdict wants the last line's numbers to agree, and returns how many readings there are and where.
func (d *demoRun) requireVerdict(t *testing.T, code int) (n int, db string) {
	t.Helper()
	m := verdict.FindStringSubmatch(d.out.String())
	if code != 0 || m == nil {
		t.Fatalf("exit code %d, printed\n%s\n%s", code, d.out.String(), d.stderr.String())
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	if n == 0 || m[2] != m[1] || m[3] != m[1] || m[4] != "0" {
		t.Errorf("exit code 0, but %s", m[0])
	}
	return n, m[5]
}

// A device and two of five hubs die; the last line says that nothing is missing, and the database agrees with it.
func TestDemo(t *testing.T) {
	d := startDemo(t, "--for", "5s", "--hubs", "5", "--kill-hubs", "2")
	most := 0
	swarm.WaitFor(t, "five hubs and the device to run", func() error {
		most = max(most, len(d.processes(t)))
		if most < 1+5+1 {
			return fmt.Errorf("%d processes at most", most)
		}
		return nil
	})
	code := d.wait(t, time.Minute)
	d.requireNoneLeft(t)
	n, path := d.requireVerdict(t, code)
	if !regexp.MustCompile(`SIGKILL for pi-1, hub-1 and hub-2`).MatchString(d.stderr.String()) {
		t.Errorf("it does not say whom it killed: %s", d.stderr.String())
	}
	db, err := sqlite.OpenRead(path)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	var rows, gaps int
	must(t, db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM reading), (SELECT count(*) FROM gap WHERE closed IS NULL)").Scan(&rows, &gaps))
	if rows < n || gaps != 0 {
		t.Errorf("the database holds %d readings and %d gaps; published were %d", rows, gaps, n)
	}
	entries, err := os.ReadDir(d.dir)
	must(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(path)) {
			t.Errorf("%s is left in the folder", e.Name())
		}
	}
}

func TestDemoPostgres(t *testing.T) {
	dsn := sinktest.PostgresDSN(t)
	d := startDemo(t, "--for", "2s", "--sink", "postgres", "--dsn", dsn)
	code := d.wait(t, time.Minute)
	d.requireNoneLeft(t)
	n, _ := d.requireVerdict(t, code)
	m := regexp.MustCompile(`FROM (streembit_demo_[0-9a-f]+)\.latest`).FindStringSubmatch(d.out.String())
	if m == nil {
		t.Fatalf("no query to try:\n%s", d.out.String())
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), "DROP SCHEMA "+m[1]+" CASCADE"); err != nil {
			t.Error(err)
		}
		_ = conn.Close(context.Background()) // nothing hangs on it any more
	})
	var rows, latest int
	must(t, conn.QueryRow(t.Context(), fmt.Sprintf("SELECT (SELECT count(*) FROM %[1]s.reading), (SELECT count(*) FROM %[1]s.latest)", m[1])).Scan(&rows, &latest))
	if rows < n || latest == 0 {
		t.Errorf("the database holds %d readings of %d quantities; published were %d", rows, latest, n)
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

// Ctrl-C at different moments, and the demo's own sudden death: no process outlives it.
func TestDemoInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		processes  int // to wait for
		publishing bool
		signal     syscall.Signal
	}{
		"Ctrl-C while keys are made":  {2, false, syscall.SIGINT},
		"Ctrl-C while the hubs start": {3, false, syscall.SIGINT},
		"Ctrl-C while it publishes":   {5, true, syscall.SIGINT},
		"SIGTERM":                     {5, true, syscall.SIGTERM},
		"SIGKILL":                     {5, true, syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDemo(t, "--for", "50s")
			swarm.WaitFor(t, "its processes", func() error {
				if n := len(d.processes(t)); n < c.processes {
					return fmt.Errorf("%d so far", n)
				}
				if c.publishing {
					_, err := os.Stat(filepath.Join(d.dir, "receipts.jsonl"))
					return err
				}
				return nil
			})
			must(t, d.cmd.Process.Signal(c.signal))
			began := time.Now()
			code := d.wait(t, time.Minute)
			if c.signal == syscall.SIGKILL {
				swarm.WaitFor(t, "the kernel to end its processes", func() error {
					if left := d.processes(t); len(left) > 0 {
						return fmt.Errorf("left behind: %v", left)
					}
					return nil
				})
				return
			}
			d.requireNoneLeft(t)
			if code != 1 || !strings.Contains(d.stderr.String(), "streembit: interrupted") || time.Since(began) > 20*time.Second {
				t.Errorf("exit code %d after %s: %s", code, time.Since(began), d.stderr.String())
			}
			if _, err := os.Stat(d.dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("its folder is left: %v", err)
			}
		})
	}
}
