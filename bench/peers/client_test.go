// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/bench/peers/load"
	"github.com/streembit/edge/test/swarm"
)

// client is one side: its client's process, and those of its servers.
type client struct {
	b       *testing.B
	tasks   *json.Encoder
	results *json.Decoder
	servers []int
	tree    int // the server whose processes come and go below it; 0 = none
}

// startClient starts this program again as a client and waits until it is connected.
func startClient(b *testing.B, s load.Spec, servers []int) *client {
	b.Helper()
	if dir := os.Getenv("BENCH_PROFILE"); dir != "" {
		s.Profile = filepath.Join(dir, fmt.Sprintf("%s-%s-%d.pprof", filepath.Base(b.Name()), s.Role, time.Now().UnixMilli()))
	}
	spec, err := json.Marshal(s)
	must(b, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asLoad+"="+string(spec))
	log := &swarm.Buffer{}
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	must(b, err)
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	b.Cleanup(func() { end(b, cmd, in, s.Role, log) })
	c := &client{b: b, tasks: json.NewEncoder(in), results: json.NewDecoder(out), servers: servers}
	var ready load.Result
	if err := c.results.Decode(&ready); err != nil {
		b.Fatalf("%s did not start: %v: %s", s.Role, err, log.Tail(20))
	}
	return c
}

// end closes a client's input, which ends it.
func end(b *testing.B, cmd *exec.Cmd, in io.Closer, role string, log *swarm.Buffer) {
	_ = in.Close()
	stuck := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	if err := cmd.Wait(); err != nil {
		b.Logf("%s: %v: %s", role, err, log.Tail(20))
	}
}

// run is a task's result with what its servers took meanwhile.
type run struct {
	load.Result
	servers time.Duration // CPU of all of them
	peaks   int64         // sum of their largest resident sets
}

// begin gives a task to a client that waits for what another one does; finish takes its result.
func (c *client) begin(t load.Task) {
	c.b.Helper()
	must(c.b, c.tasks.Encode(t))
}

func (c *client) finish() (r run) {
	c.b.Helper()
	must(c.b, c.results.Decode(&r.Result))
	if r.Error != "" {
		c.b.Fatal(r.Error)
	}
	return r
}

func (c *client) do(t load.Task) run {
	c.b.Helper()
	began := cpuOf(c.b, c.servers) + cpuBelow(c.b, c.tree)
	for _, pid := range c.servers {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
	must(c.b, c.tasks.Encode(t))
	var r run
	must(c.b, c.results.Decode(&r.Result))
	if r.Error != "" {
		c.b.Fatalf("%+v: %s", t, r.Error)
	}
	r.servers = cpuOf(c.b, c.servers) + cpuBelow(c.b, c.tree) - began
	for _, pid := range c.servers {
		r.peaks += memory(c.b, pid, "VmHWM")
	}
	return r
}

// cpuOf returns what processes have used; the kernel counts it in ticks of 10 ms.
func cpuOf(b *testing.B, pids []int) (sum time.Duration) {
	b.Helper()
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		must(b, err)
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
		for _, f := range fields[11:13] { // utime and stime
			ticks, err := strconv.ParseInt(f, 10, 64)
			must(b, err)
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// memory returns a line of a process's status, in bytes.
func memory(b *testing.B, pid int, name string) int64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(b, err)
	_, after, _ := strings.Cut(string(raw), name+":")
	kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	must(b, err)
	return kib * 1024
}

// pids of a swarm's hubs.
func pids(s *swarm.Swarm) (all []int) {
	for _, h := range s.Hubs {
		all = append(all, h.PID())
	}
	return all
}
