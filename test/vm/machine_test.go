// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

const (
	bootLimit    = 2 * time.Minute  // 3 to 6 s when the machine is calm
	commandLimit = 90 * time.Second // a few seconds at most
)

// machine is a running virtual machine. It belongs to one test and one goroutine.
type machine struct {
	t     *testing.T
	in    io.Writer
	lines chan string // of the console, without line ends; closed when QEMU ended
	log   swarm.Buffer
}

// start boots a guest whose init script writes on the first console that QEMU has on stdio, and waits until it takes commands. It is
// killed when the test ends; a failed test shows what was on its console.
func start(t *testing.T, args ...string) *machine {
	t.Helper()
	m := &machine{t: t, lines: make(chan string, 1000)}
	begin := time.Now()
	cmd := exec.Command("qemu-system-aarch64", append(args, "-display", "none", "-monitor", "none", "-no-reboot")...)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	m.in, cmd.Stderr = in, &m.log
	must(t, cmd.Start())
	var reader sync.WaitGroup
	reader.Go(func() { m.read(out) })
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range m.lines { // so that the reader can end
		}
		reader.Wait()
		_ = cmd.Wait() // killed
		t.Logf("virtual machine: %.1f s, CPU %.1f s", time.Since(begin).Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
		if t.Failed() {
			t.Logf("console:\n%s", &m.log)
		}
	})
	m.await("@ready", bootLimit)
	t.Logf("takes commands after %.1f s", time.Since(begin).Seconds())
	return m
}

// read takes the console apart.
func (m *machine) read(out io.Reader) {
	defer close(m.lines)
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		fmt.Fprintln(&m.log, line)
		if err != nil {
			return
		}
		m.lines <- line
	}
}

// await returns the lines before one that begins with marker, and that line.
func (m *machine) await(marker string, limit time.Duration) (before []string, last string) {
	m.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				m.t.Fatalf("the virtual machine ended before %q", marker)
			}
			if strings.HasPrefix(line, marker) {
				return before, line
			}
			before = append(before, line)
		case <-timer.C:
			m.t.Fatalf("no %q from the virtual machine within %v", marker, limit)
		}
	}
}

// try carries out a line of shell in the guest and returns what it printed and its exit status.
func (m *machine) try(format string, args ...any) (output string, status int) {
	m.t.Helper()
	if _, err := fmt.Fprintf(m.in, format+"\n", args...); err != nil {
		m.t.Fatal(err)
	}
	before, done := m.await("@done ", commandLimit)
	status, err := strconv.Atoi(strings.TrimPrefix(done, "@done "))
	must(m.t, err)
	return strings.TrimSpace(strings.Join(before, "\n")), status
}

// run is try for what has to succeed.
func (m *machine) run(format string, args ...any) string {
	m.t.Helper()
	out, status := m.try(format, args...)
	if status != 0 {
		m.t.Fatalf("in the guest, "+format+"\nended with %d: %s", append(args, status, out)...)
	}
	return out
}

// until repeats a line of shell in the guest until it succeeds.
func (m *machine) until(what, format string, args ...any) string {
	m.t.Helper()
	for deadline := time.Now().Add(commandLimit); ; {
		out, status := m.try("{ "+format+"; } || { usleep 50000; false; }", args...)
		if status == 0 {
			return out
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("waiting for %s: %s", what, out)
		}
	}
}
