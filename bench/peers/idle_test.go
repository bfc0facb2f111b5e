// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/bench/peers/load"
	"github.com/streembit/edge/test/swarm"
)

// crowdSize is how many peers a hub has in the second line of memory.
const crowdSize = 50

// idler is a program that is watched while it has nothing to do.
type idler struct {
	what, load string
	pid        int
	memory     float64 // the aim, in MB; 0 = reported
}

// benchIdle watches a hub alone, a hub with 50 connected members, and a device with its board's own sensor, all at the
// same time. telegraf is not run beside: 24 MB and 0.03 % were measured of it once.
func benchIdle(b *testing.B, e extent, r *report) {
	alone := newSwarm(b, 1, "")
	alone.Start(alone.Hubs...)
	busy := newSwarm(b, 1, "")
	states, _ := enrolMore(b, busy, crowdSize)
	busy.Start(busy.Hubs...)
	startClient(b, load.Spec{Role: "crowd", States: states, Fleet: fleetFile(busy)}, nil)
	device := newSwarm(b, 1, "[[sensor]]\nname = \"machine\"\ndriver = \"host\"\ninterval = \"10s\"\n")
	ownBoard(b, device.Device)
	device.Start(append(device.Hubs, device.Device)...)
	idlers := []idler{
		{"idle RSS of streembitd", "hub, alone", alone.Hubs[0].PID(), 20},
		{"idle RSS of streembitd", fmt.Sprintf("hub, %d peers", crowdSize), busy.Hubs[0].PID(), 26},
		{"idle RSS of streembitd", "device, host sensor every 10 s, 1 hub", device.Device.PID(), 20},
	}
	swarm.WaitFor(b, "the crowd to be connected", func() error { return connections(busy, crowdSize) })
	time.Sleep(e.idle) // what the start left over settles; this is no condition to wait for
	used := make([]time.Duration, len(idlers))
	for i, p := range idlers {
		used[i] = cpuOf(b, []int{p.pid})
	}
	began := time.Now()
	time.Sleep(e.idle)
	must(b, connections(busy, crowdSize))
	for i, p := range idlers {
		share := float64(cpuOf(b, []int{p.pid})-used[i]) / float64(time.Since(began)) * 100
		rss := float64(memory(b, p.pid, "VmRSS")) / 1e6
		r.judge(goal{what: p.what, load: p.load, ours: spreadOf(rss), unit: "MB", aim: p.memory})
		r.judge(goal{what: "idle CPU of streembitd", load: p.load, ours: spreadOf(share), unit: "%", aim: 0.1})
		r.note("%s: RSS %.1f MB, of it anonymous %.1f, peak %.1f", p.load, rss, float64(memory(b, p.pid, "RssAnon"))/1e6, float64(memory(b, p.pid, "VmHWM"))/1e6)
	}
	r.note("idle CPU comes in ticks of 10 ms: %.3f %% is one tick here", 1/e.idle.Seconds())
	r.note("telegraf minimal, measured before and not run here: 24 MB RSS, 0.03 %% CPU, 22.8 MB stripped")
}

// ownBoard has a device use this machine's buses instead of simulated ones, which take memory that no board spends.
func ownBoard(b *testing.B, m *swarm.Member) {
	b.Helper()
	raw, err := os.ReadFile(m.Config)
	must(b, err)
	const simulated = "[board]\nname = \"sim\"\n"
	if !strings.Contains(string(raw), simulated) {
		b.Fatalf("config of %s has no %q: %s", m.Name, simulated, raw)
	}
	must(b, os.WriteFile(m.Config, []byte(strings.Replace(string(raw), simulated, "", 1)), 0o600))
}

func connections(s *swarm.Swarm, want int) error {
	status, err := s.Status(s.Hubs[0])
	if err != nil {
		return err
	}
	if peers, _ := status["peers"].([]any); len(peers) < want {
		return fmt.Errorf("%d connections of %d", len(peers), want)
	}
	return nil
}

// benchBinary builds streembitd as make cross does.
func benchBinary(b *testing.B, _ extent, r *report) {
	out := filepath.Join(b.TempDir(), "streembitd")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./cmd/streembitd")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, text)
	}
	info, err := os.Stat(out)
	must(b, err)
	r.judge(goal{what: "streembitd for arm64, stripped", load: fmt.Sprintf("%d B", info.Size()), ours: spreadOf(float64(info.Size()) / 1e6), unit: "MB", aim: 22.8})
}
