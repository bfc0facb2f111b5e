// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/test/swarm"
)

func TestMain(m *testing.M) { swarm.Main(m) }

// hostFromGuest is where QEMU's user network shows this machine.
const hostFromGuest = "10.0.2.2"

// newSwarm founds a fleet whose hub runs on this machine, with a second address that guests reach, and starts the hub.
func newSwarm(t *testing.T) *swarm.Swarm {
	t.Helper()
	s := swarm.New(t, 1, "")
	hub := s.Hubs[0]
	var err error
	s.Fleet, err = s.Fleet.Grant(fleet.Author{Key: s.Owner}, time.Now(), fleet.Grant{Member: hub.ID, Name: hub.Name, Roles: fleet.Hub, Site: "site0",
		Addrs: []string{hub.Addr, strings.Replace(hub.Addr, "127.0.0.1", hostFromGuest, 1)}})
	must(t, err)
	for _, m := range []*swarm.Member{hub, s.Device, s.Reader} {
		must(t, s.Fleet.Save(filepath.Join(m.State, "fleet.cbor")))
	}
	s.Start(hub)
	return s
}

// deviceConfig is the config of a guest that is the fleet's device.
const deviceConfig = `state = "/state"
roles = ["device"]
clock = "always"
[[stream]]
name = "main"
batch_age = "1s"
`

// addDevice puts the device's config, key and fleet into a guest.
func (a *initramfs) addDevice(t *testing.T, s *swarm.Swarm, sensors string) {
	t.Helper()
	a.add("etc/streembit/streembitd.toml", 0o600, []byte(deviceConfig+sensors))
	for _, name := range []string{"key.pem", "fleet.cbor"} {
		data, err := os.ReadFile(filepath.Join(s.Device.State, name))
		must(t, err)
		a.add("state/"+name, 0o600, data)
	}
}

// connect sets a guest's clock and gives it a network card's address.
func (m *machine) connect() {
	m.t.Helper()
	m.run("date -s @%d && ifconfig lo 127.0.0.1 up", time.Now().Unix())
	m.until("the network card", "ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up")
}

// status asks the running streembitd in the guest.
func (m *machine) status() (agent.Status, error) {
	m.t.Helper()
	var s struct{ Device *agent.Status }
	text, code := m.try("streembitd status --state /state --json 2>&1")
	if code != 0 {
		return agent.Status{}, fmt.Errorf("status ended with %d: %s", code, text)
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil || s.Device == nil {
		return agent.Status{}, fmt.Errorf("status: %w: %s", err, text)
	}
	return *s.Device, nil
}

// awaitSensors waits until every one of the named sensors is in a state.
func (m *machine) awaitSensors(what string, names []string, is func(agent.Health) bool) map[string]agent.Health {
	m.t.Helper()
	begin := time.Now()
	for {
		s, err := m.status()
		found := map[string]agent.Health{}
		missing := ""
		for _, h := range s.Sensors {
			found[h.Sensor] = h
		}
		for _, name := range names {
			if h, ok := found[name]; !ok || !is(h) {
				missing += fmt.Sprintf("\n%+v", h)
			}
		}
		if err == nil && missing == "" {
			m.t.Logf("%s: after %.1f s", what, time.Since(begin).Seconds())
			return found
		}
		if time.Since(begin) > 2*commandLimit {
			m.t.Fatalf("waiting for %s: %v, these are not: %s\nlog:\n%s", what, err, missing, m.run("tail -n 50 /tmp/run.log"))
		}
	}
}

// row is one line of streembit pull. A text has neither V nor VB.
type row struct {
	Sensor string   `json:"sensor"`
	Name   string   `json:"name"`
	V      *float64 `json:"v"`
	VB     *bool    `json:"vb"`
}

// awaitRow pulls until the newest value of a quantity of a sensor is as wanted, and returns the newest values of all sensors.
func awaitRow(t *testing.T, s *swarm.Swarm, sensor, quantity string, wanted func(float64) bool) (newest map[string]readings) {
	t.Helper()
	begin, rows := time.Now(), 0
	swarm.WaitFor(t, sensor+"/"+quantity+" in what is pulled", func() error {
		out, stderr, code := s.Run("streembit", "pull", "all", "--state", s.Reader.State, "--format", "jsonl")
		if code != 0 {
			return fmt.Errorf("pull ended with %d: %s", code, stderr)
		}
		newest, rows = map[string]readings{}, 0
		for line := range strings.Lines(out) {
			var r row
			must(t, json.Unmarshal([]byte(line), &r))
			if newest[r.Sensor] == nil {
				newest[r.Sensor] = readings{}
			}
			switch rows++; {
			case r.V != nil:
				newest[r.Sensor][r.Name] = *r.V
			case r.VB != nil:
				newest[r.Sensor][r.Name] = *r.VB
			}
		}
		if v, ok := newest[sensor].number(quantity); !ok || !wanted(v) {
			return fmt.Errorf("the newest is %v: %s", newest[sensor][quantity], stderr)
		}
		return nil
	})
	t.Logf("pulled %d readings of %d sensors, the wanted one after %.1f s", rows, len(newest), time.Since(begin).Seconds())
	return newest
}
