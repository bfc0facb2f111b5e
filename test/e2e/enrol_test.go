// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport/p2p"
)

// office is a fleet's folder on an operator's laptop and the processes that come to belong to the fleet, all by the commands that people type.
type office struct {
	*swarm.Swarm
	t   *testing.T
	dir string
	at  string // the address at which members listen; "" = loopback's
}

// add is Add at the office's address.
func (o *office) add(name, config string, idFlags ...string) *swarm.Member {
	o.t.Helper()
	m := o.Add(name, config, idFlags...)
	if o.at == "" {
		return m
	}
	text, err := os.ReadFile(m.Config)
	must(o.t, err)
	there := strings.Replace(m.Addr, "127.0.0.1", o.at, 1)
	must(o.t, os.WriteFile(m.Config, bytes.ReplaceAll(text, []byte(m.Addr), []byte(there)), 0o600))
	m.Addr = there
	return m
}

// newOffice founds a fleet without members.
func newOffice(t *testing.T, s *swarm.Swarm, name string) *office {
	t.Helper()
	o := &office{Swarm: s, t: t, dir: filepath.Join(s.Dir, name)}
	o.must("fleet", "init", "--name", name, "--no-passphrase")
	return o
}

// must runs a command of streembit on the folder and returns what it says.
func (o *office) must(args ...string) string {
	o.t.Helper()
	stdout, stderr, code := o.Run("streembit", append(args, "--dir", o.dir)...)
	if code != 0 {
		o.t.Fatalf("streembit %s exited with %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout + stderr
}

// daemon runs a command of streembitd on a member's folder.
func (o *office) daemon(m *swarm.Member, args ...string) string {
	o.t.Helper()
	stdout, stderr, code := o.Run("streembitd", append(args, "--state", m.State)...)
	if code != 0 {
		o.t.Fatalf("streembitd %s exited with %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// addHub enrols a hub by the offer block that it shows, and waits until it is one.
func (o *office) addHub(name string) *swarm.Member {
	o.t.Helper()
	h := o.add(name, "roles = [\"hub\"]\n", "--reader")
	o.Start(h)
	block := filepath.Join(o.Dir, name+".offer")
	must(o.t, os.WriteFile(block, []byte(o.daemon(h, "id", "--offer")), 0o600))
	o.must("enroll", "approve", "--file", block, "--role", "hub", "--name", name, "--addr", h.Addr, "--no-lan")
	o.awaitStanding(h, "member")
	return h
}

// withReader grants a hub anew with its reader key, so that it can carry out policies.
func (o *office) withReader(h *swarm.Member) {
	o.t.Helper()
	o.must("fleet", "grant", h.ID.String(), "--role", "hub", "--name", h.Name, "--addr", h.Addr, "--reader", filepath.Join(h.State, "reader.pub"))
}

// simDevice is the config of a device that publishes soon.
const simDevice = `
[board]
name = "sim"
[[stream]]
name = "main"
batch_age = "300ms"
[[sensor]]
name = "door"
driver = "gpio"
pin = "GPIO17"
interval = "100ms"
`

func (o *office) awaitStanding(m *swarm.Member, want string) {
	o.t.Helper()
	swarm.WaitFor(o.t, m.Name+" to be "+want, func() error {
		v, err := o.Status(m)
		if err == nil && v["standing"] != want {
			err = fmt.Errorf("it is %v; %s", v["standing"], m.Log.Tail(3))
		}
		return err
	})
}

// publishedBy returns how many segments a device has published since its start.
func (o *office) publishedBy(m *swarm.Member) (float64, error) {
	v, err := o.Status(m)
	if err != nil {
		return 0, err
	}
	d, ok := v["device"].(map[string]any)
	if !ok {
		return 0, fmt.Errorf("%s runs no device yet", m.Name)
	}
	return d["outbox"].(map[string]any)["published"].(float64), nil
}

// awaitPublished waits until a device has published something new.
func (o *office) awaitPublished(m *swarm.Member) {
	o.t.Helper()
	before := -1.0
	swarm.WaitFor(o.t, m.Name+" to publish", func() error {
		n, err := o.publishedBy(m)
		if err == nil && before < 0 {
			before = n
		}
		if err == nil && n <= before {
			err = fmt.Errorf("%v segments; %s", n, m.Log.Tail(2))
		}
		return err
	})
}

// audited returns the events of one kind in a folder's audit log.
func audited(t *testing.T, state, kind string) (out []audit.Event) {
	t.Helper()
	_, err := audit.Read(filepath.Join(state, "audit"), func(e audit.Event) error {
		if e.Event == kind {
			out = append(out, e)
		}
		return nil
	})
	must(t, err)
	return out
}

func awaitAudited(t *testing.T, m *swarm.Member, kind, says string) {
	t.Helper()
	swarm.WaitFor(t, m.Name+" to note "+kind+" "+says, func() error {
		all := audited(t, m.State, kind)
		for _, e := range all {
			if strings.Contains(e.Detail, says) || strings.Contains(e.What, says) {
				return nil
			}
		}
		return fmt.Errorf("%v", all)
	})
}

// alarmsOf returns the alarms that a member shows, by kind.
func (o *office) alarmsOf(m *swarm.Member) map[string]string {
	out := map[string]string{}
	v, err := o.Status(m)
	if err != nil {
		return out
	}
	for _, a := range v["alarms"].([]any) {
		a := a.(map[string]any)
		out[a["kind"].(string)] = a["text"].(string)
	}
	return out
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there", path)
	}
}

// TestEnrol_ByCode: a person brings the code of a device to the fleet's folder. The first hub has nobody to lead to it, so that its block's addresses are
// used; the device's approval waits at the hub that it asks.
func TestEnrol_ByCode(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	hub := o.addHub("hub0")
	device := o.Add("device0", "roles = [\"device\"]\n[enroll]\nhubs = [\""+hub.Addr+"/p2p/"+hub.ID.String()+"\"]\n"+simDevice)
	var id struct{ Code string }
	must(t, json.Unmarshal([]byte(o.daemon(device, "id", "--json")), &id))
	o.Start(device)
	pid := device.PID()
	swarm.WaitFor(t, "the device to ask the hub", func() error {
		if text := o.daemon(device, "status"); !strings.Contains(text, "belongs to no fleet") || !strings.Contains(text, "knows of no approval yet") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	if said := o.must("enroll", "approve", id.Code, "--no-lan", "--name", "pi-1", "--label", "site=lab"); !strings.Contains(said, "the approval waits at hub0") {
		t.Errorf("approve says %s", said)
	}
	o.awaitStanding(device, "member")
	o.awaitPublished(device)
	if device.PID() != pid {
		t.Error("it was started anew")
	}
	gone(t, filepath.Join(device.State, "claim.key"))
	if text := o.daemon(device, "id"); strings.Contains(text, "STREEMBIT:1") || !strings.Contains(text, "fleet lab ") {
		t.Errorf("a claimed device shows %s", text)
	}
	for state, kinds := range map[string][]string{device.State: {"unclaimed", "claimed", "erased"}, hub.State: {"approval", "grant", "claimed"}} {
		for _, kind := range kinds {
			if len(audited(t, state, kind)) == 0 {
				t.Errorf("%s: no event %q in the audit log", filepath.Base(state), kind)
			}
		}
	}
	if text := o.daemon(hub, "audit", "--event", "grant"); !strings.Contains(text, device.ID.String()+"  pi-1: device") {
		t.Errorf("streembitd audit shows %s", text)
	}
	o.resetAndJoinAnother(device, hub)
}

// resetAndJoinAnother: what a person before the device can do, and what it takes.
func (o *office) resetAndJoinAnother(device, hub *swarm.Member) {
	t := o.t
	if _, stderr, code := o.Run("streembitd", "reset", "--i-am-here", "--yes", "--state", device.State); code == 0 || !strings.Contains(stderr, "stop the streembitd") {
		t.Errorf("a running device was reset: %d %s", code, stderr)
	}
	o.Kill(device)
	for _, args := range [][]string{{"reset", "--yes"}, {"reset", "--i-am-here"}} {
		if _, stderr, code := o.Run("streembitd", append(args, "--state", device.State)...); code != 2 {
			t.Errorf("streembitd %v exited with %d: %s", args, code, stderr)
		}
	}
	if _, stderr, code := o.Run("streembitd", "reset", "--i-am-here", "--yes", "--state", hub.State); code == 0 {
		t.Errorf("a hub was reset with all that it stores: %s", stderr)
	}
	before := o.Identity(device)
	o.daemon(device, "reset", "--i-am-here", "--yes", "--keep-outbox")
	after := o.Identity(device)
	if before == after {
		t.Error("it kept its key")
	}
	for _, name := range []string{"fleet.cbor", "fleet.pin", "outbox"} {
		gone(t, filepath.Join(device.State, name))
	}
	if _, err := os.Stat(filepath.Join(device.State, "outbox."+before.Short())); err != nil {
		t.Error(err)
	}
	if len(audited(t, device.State, "reset")) != 1 {
		t.Error("the reset is not in the audit log")
	}
	other := newOffice(t, o.Swarm, "other")
	o.Start(device)
	block := filepath.Join(o.Dir, "again.offer")
	must(t, os.WriteFile(block, []byte(o.daemon(device, "id", "--offer")), 0o600))
	other.must("enroll", "approve", "--file", block, "--name", "pi-9", "--no-lan")
	o.awaitStanding(device, "member")
	if v, err := o.Status(device); err != nil || v["fleet"] != "other" {
		t.Errorf("it belongs to %v, %v", v["fleet"], err)
	}
}

// TestEnrol_OnLAN: no hub anywhere, only a device that is announced by multicast DNS.
func TestEnrol_OnLAN(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	device := o.Add("device0", simDevice)
	o.Start(device)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	found, err := p2p.Discover(ctx)
	visible := err == nil
	if visible {
		visible = false
		for _, f := range found {
			visible = visible || f.ID == device.ID
		}
	}
	args := []string{"enroll", "approve", "--name", "pi-1"}
	if visible {
		var id struct{ Code string }
		must(t, json.Unmarshal([]byte(o.daemon(device, "id", "--json")), &id))
		args = append(args, id.Code) // without addresses
	} else {
		t.Logf("multicast does not work on this machine (found %v, %v): the offer block's addresses are used", found, err)
		block := filepath.Join(o.Dir, "device.offer")
		must(t, os.WriteFile(block, []byte(o.daemon(device, "id", "--offer")), 0o600))
		args = append(args, "--file", block, "--no-lan")
	}
	if said := o.must(args...); !strings.Contains(said, "pi-1 has taken it and is a member now") {
		t.Errorf("approve says %s", said)
	}
	o.awaitStanding(device, "member")
	v, err := o.Status(device)
	if roles := fmt.Sprint(v["roles"]); err != nil || roles != "[device]" { // its config names none
		t.Errorf("it runs %s, %v", roles, err)
	}
}
