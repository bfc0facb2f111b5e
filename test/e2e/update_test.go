// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

const (
	updating = 10 // devices
	before   = "1.0.0"
	after    = "1.1.0"
)

// updateSite is a fleet of two hubs in a cellar and devices in a lab that are run and updated by streembitd supervise.
type updateSite struct {
	*office
	hubs, devices []*swarm.Member
	size          int64 // bytes of the new program
}

// simUpdated is the config of a device that measures, publishes soon and updates itself.
const simUpdated = simDevice + `
[update]
rate = "3MiB"
every = "20s"
`

func newUpdateSite(t *testing.T, devices int, old string) *updateSite {
	t.Helper()
	s := &updateSite{office: newOffice(t, swarm.Bare(t), "lab")}
	for i := range 2 {
		h := s.add(fmt.Sprintf("hub%d", i), "roles = [\"hub\"]\nmdns = false\n[update]\nevery = \"20s\"\n")
		s.must("fleet", "grant", h.ID.String(), "--role", "hub", "--name", h.Name, "--addr", h.Addr, "--site", "cellar", "--offline")
		s.hubs = append(s.hubs, h)
	}
	for i := range devices {
		d := s.add(fmt.Sprintf("device%d", i), "roles = [\"device\"]\nmdns = false\n"+simUpdated)
		s.must("fleet", "grant", d.ID.String(), "--role", "device", "--name", d.Name, "--label", "site=lab", "--offline")
		s.devices = append(s.devices, d)
	}
	s.must("ota", "keygen", "--no-passphrase")
	s.must("ota", "pin", "--offline")
	bundle, err := os.ReadFile(filepath.Join(s.dir, "fleet.cbor"))
	must(t, err)
	for _, m := range append(append([]*swarm.Member{}, s.hubs...), s.devices...) {
		must(t, os.WriteFile(filepath.Join(m.State, "fleet.cbor"), bundle, 0o600))
	}
	s.Start(s.hubs...)
	for _, d := range s.devices {
		s.Launch(d, old, "supervise", "--root", filepath.Join(s.Dir, d.Name+"-releases"), "--state", d.State, "--window", "4s", "--deadline", "90s", "--every", "300ms",
			"--", "run", "--config", d.Config)
	}
	for _, d := range s.devices {
		s.Await(d)
	}
	for _, d := range s.devices { // so that a hub counts as reachable
		s.awaitPublished(d)
	}
	return s
}

// release signs and publishes a program, and returns how many bytes of it left this machine.
func (s *updateSite) release(version, program string) (given int64) {
	s.t.Helper()
	info, err := os.Stat(program)
	must(s.t, err)
	s.size = info.Size()
	s.must("ota", "release", "--version", version, program)
	s.must("ota", "sign")
	out, stderr, code := s.Run("streembit", "ota", "publish", "--json", "--wait", "60s", "--dir", s.dir)
	var v struct{ Given int64 }
	if code != 0 || json.Unmarshal([]byte(out), &v) != nil {
		s.t.Fatalf("publish exited with %d: %s%s", code, out, stderr)
	}
	return v.Given
}

type otaDevice struct {
	Name     string
	Progress struct{ Version, Wanted, Stage, Reason, Detail string }
}

// told returns what the devices say of themselves, as an operator sees it.
func (s *updateSite) told() ([]otaDevice, error) {
	s.t.Helper()
	out, stderr, code := s.Run("streembit", "ota", "status", "--json", "--dir", s.dir)
	var v struct{ Devices []otaDevice }
	if code != 0 || json.Unmarshal([]byte(out), &v) != nil {
		return nil, fmt.Errorf("status exited with %d: %s%s", code, out, stderr)
	}
	return v.Devices, nil
}

// updateOf returns the update part of a member's status.
func (s *updateSite) updateOf(m *swarm.Member) map[string]any {
	v, err := s.Status(m)
	if err != nil {
		return nil
	}
	u, _ := v["update"].(map[string]any)
	return u
}

// TestUpdate_TenDevicesTwoHubs: a release of a really different binary goes from an operator's laptop to two hubs and from them to ten devices of one site. One hub is
// stopped half-way. All ten end on the new version, committed after their health was seen, and the release crosses both uplinks about once.
func TestUpdate_TenDevicesTwoHubs(t *testing.T) {
	old, fresh := swarm.Build(t, before), swarm.Build(t, after)
	s := newUpdateSite(t, updating, old)
	began := time.Now()
	phase := func(what string) { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }
	given := s.release(after, fresh)
	phase(fmt.Sprintf("published: %.2f sizes of %d bytes left the laptop", ratio(given, s.size), s.size))
	if given > s.size*13/10 {
		t.Errorf("%d bytes left the laptop for a program of %d", given, s.size)
	}
	swarm.WaitFor(t, "both hubs to have it", func() error {
		for _, h := range s.hubs {
			if u := s.updateOf(h); u == nil || u["complete"] != 1.0 {
				return fmt.Errorf("%s: %v", h.Name, u)
			}
		}
		return nil
	})
	outside := func(h *swarm.Member) int64 { n, _ := s.updateOf(h)["given_bytes"].(float64); return int64(n) }
	base := outside(s.hubs[0]) + outside(s.hubs[1])
	highest := watchMemory(s.devices)
	s.must("ota", "rollout", "--to", after, "--label", "site=lab")
	phase("rolled out")
	swarm.WaitFor(t, "the devices to be half-way", func() error {
		if n := outside(s.hubs[0]) + outside(s.hubs[1]) - base; n < s.size/2 {
			return fmt.Errorf("%d of %d bytes", n, s.size)
		}
		return nil
	})
	lost := outside(s.hubs[1])
	s.Kill(s.hubs[1])
	phase("half-way: one hub is stopped")
	swarm.WaitFor(t, "all devices to be committed", func() error {
		for _, d := range s.devices {
			u := s.updateOf(d)
			p, _ := u["progress"].(map[string]any)
			if p["version"] != after || p["stage"] != "committed" {
				return fmt.Errorf("%s: %v", d.Name, p)
			}
		}
		return nil
	})
	phase("all are committed")
	crossed := outside(s.hubs[0]) + lost - base
	t.Logf("from the hubs to %d devices: %.2f sizes; highest memory of a device: %.1f MB", updating, ratio(crossed, s.size), float64(highest())/1e6)
	if crossed > s.size*13/10 {
		t.Errorf("%d bytes crossed for a program of %d", crossed, s.size)
	}
	swarm.WaitFor(t, "the operator to see it", func() error {
		all, err := s.told() // the only hub may have its hands full with those that come back
		for _, d := range all {
			if strings.HasPrefix(d.Name, "device") && (d.Progress.Version != after || d.Progress.Stage != "committed") {
				return fmt.Errorf("%+v", d)
			}
		}
		return err
	})
	phase("the operator sees it")
	for _, d := range s.devices {
		awaitAudited(t, d, "update-handed-over", after)
	}
}

func ratio(n, of int64) float64 { return float64(n) / float64(of) }

// watchMemory looks at the resident memory of the members' agents until the returned function is called, which returns the highest in bytes.
func watchMemory(members []*swarm.Member) (highest func() int64) {
	var most int64
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, m := range members {
				for _, pid := range children(m.PID()) {
					most = max(most, peakOf(pid))
				}
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() int64 { close(done); watching.Wait(); return most }
}

func children(pid int) (all []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var child, parent int
		var state string
		rest := string(text[strings.LastIndexByte(string(text), ')')+1:])
		if _, err := fmt.Sscan(rest, &state, &parent); err != nil || parent != pid {
			continue
		}
		if _, err := fmt.Sscan(string(text), &child); err == nil {
			all = append(all, child)
		}
	}
	return all
}

// peakOf is the highest resident memory of a process (VmHWM), in bytes.
func peakOf(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}
