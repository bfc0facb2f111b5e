// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport/p2p"
)

// lab is a fleet with a hub and a device that publishes.
func lab(t *testing.T) (o *office, hub, device *swarm.Member) {
	t.Helper()
	o = newOffice(t, swarm.Bare(t), "lab")
	hub = o.addHub("hub0")
	device = o.Add("device0", simDevice)
	o.Start(device)
	block := filepath.Join(o.Dir, "device0.offer")
	must(t, os.WriteFile(block, []byte(o.daemon(device, "id", "--offer")), 0o600))
	o.must("enroll", "approve", "--file", block, "--name", "pi-1", "--no-lan")
	o.awaitStanding(device, "member")
	o.awaitPublished(device)
	return o, hub, device
}

// TestTakeover_SecondOwner: whoever knows a device's old code, or can put files where it looks, does not get a device that is claimed.
func TestTakeover_SecondOwner(t *testing.T) {
	o, _, device := lab(t)
	other := newOffice(t, o.Swarm, "other")
	_, stderr, code := o.Run("streembit", "enroll", "approve", "--file", filepath.Join(o.Dir, "device0.offer"), "--name", "mine", "--no-lan", "--dir", other.dir)
	if code == 0 || !strings.Contains(stderr, "belongs to a fleet already") {
		t.Errorf("a second fleet's approval: %d %s", code, stderr)
	}
	awaitAudited(t, device, "refused-owner", "an approval for fleet")
	if text := o.alarmsOf(device)["second-owner"]; !strings.Contains(text, "an approval for fleet") {
		t.Errorf("alarms: %v", o.alarmsOf(device))
	}
	theirs, err := os.ReadFile(filepath.Join(other.dir, "fleet.cbor"))
	must(t, err)
	mine := filepath.Join(device.State, "fleet.cbor")
	before, err := os.ReadFile(mine)
	must(t, err)
	must(t, os.WriteFile(mine, theirs, 0o644))
	o.Signal(device, syscall.SIGHUP)
	awaitAudited(t, device, "refused-owner", "fleet.cbor")
	swarm.WaitFor(t, "its own file to be back", func() error {
		if after, err := os.ReadFile(mine); err != nil || string(after) != string(before) {
			return fmt.Errorf("%d bytes in place of %d, %w", len(after), len(before), err)
		}
		return nil
	})
	o.awaitPublished(device)

	o.Kill(device) // while it is off
	must(t, os.WriteFile(mine, theirs, 0o644))
	if _, stderr, code := o.Run("streembitd", "run", "--config", device.Config); code != 5 || !strings.Contains(stderr, "this member belongs to fleet") {
		t.Errorf("with another fleet's bundle it exited with %d: %s", code, stderr)
	}
	must(t, os.Remove(mine))
	if _, stderr, code := o.Run("streembitd", "run", "--config", device.Config); code == 0 || !strings.Contains(stderr, "is gone") {
		t.Errorf("without its bundle it exited with %d: %s", code, stderr)
	}
	must(t, os.WriteFile(mine, before, 0o644))
	other.addHub("hub9")
	text, err := os.ReadFile(other.token("--expires", "1h"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(device.State, "enroll.toml"), text, 0o600))
	o.Start(device)
	o.awaitStanding(device, "member")
	if text := o.alarmsOf(device)["second-owner"]; !strings.Contains(text, "is a token of fleet") {
		t.Errorf("another fleet's token: %v", o.alarmsOf(device))
	}
	if v, err := o.Status(device); err != nil || v["fleet"] != "lab" {
		t.Errorf("it belongs to %v, %v", v["fleet"], err)
	}
	o.awaitPublished(device)
}

// TestTakeover_CopiedCard: the same card in two machines. The one that was there stays, the other one is refused, and a person is told.
func TestTakeover_CopiedCard(t *testing.T) {
	o, hub, device := lab(t)
	twin := o.Add("twin", simDevice)
	copyState(t, device.State, twin.State)
	o.Start(twin)
	began := time.Now()
	swarm.WaitFor(t, "the hub's alarm", func() error {
		if a := o.alarmsOf(hub); a["clone"] == "" {
			return fmt.Errorf("%v; %s", a, twin.Log.Tail(3))
		}
		return nil
	})
	t.Logf("the alarm came %.1f s after the copy was ready", time.Since(began).Seconds())
	if text := o.daemon(hub, "status"); !strings.Contains(text, "ALARM: clone, ") {
		t.Errorf("status: %s", text)
	}
	awaitAudited(t, hub, "alarm", "clone")
	for range 5 {
		o.awaitPublished(device)
	}
	if n, err := o.publishedBy(twin); err != nil || n != 0 {
		t.Errorf("the copy published %v segments, %v", n, err)
	}
	if v, err := o.Status(hub); err != nil || v["store"].(map[string]any)["forks"].(float64) != 0 {
		t.Errorf("the hub holds forked chains: %v, %v", v["store"], err)
	}
	// A device that is started anew is no clone of itself.
	o.Kill(twin)
	o.Kill(device)
	o.Start(device)
	o.awaitPublished(device)
	if v, err := o.Status(hub); err != nil || v["alarms"].([]any)[0].(map[string]any)["count"].(float64) != 1 {
		t.Errorf("a restart raised an alarm: %v, %v", v["alarms"], err)
	}
}

// copyState copies what lies on a card.
func copyState(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.RemoveAll(to))
	must(t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		rel, rerr := filepath.Rel(from, path)
		if err != nil || rerr != nil || d.Type()&os.ModeSocket != 0 {
			return errors.Join(err, rerr)
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	}))
}

// TestRevoked: a device is cut off while it is connected, and one that was off line when it next comes; it says so and keeps its outbox.
func TestRevoked(t *testing.T) {
	o, hub, device := lab(t)
	second := o.Add("device1", simDevice)
	o.Start(second)
	block := filepath.Join(o.Dir, "device1.offer")
	must(t, os.WriteFile(block, []byte(o.daemon(second, "id", "--offer")), 0o600))
	o.must("enroll", "approve", "--file", block, "--name", "pi-2", "--no-lan")
	o.awaitStanding(second, "member")
	o.awaitPublished(second)
	o.Kill(second)

	began := time.Now()
	o.must("fleet", "revoke", "pi-1", "--reason", "stolen")
	o.awaitStanding(device, "revoked")
	t.Logf("cut off %.1f s after the command began", time.Since(began).Seconds())
	text := o.daemon(device, "status")
	if !strings.Contains(text, "STANDING: revoked: nothing is published") {
		t.Errorf("status: %s", text)
	}
	swarm.WaitFor(t, "nothing to be published any more", func() error {
		v, err := o.Status(device)
		d := v["device"].(map[string]any)
		if err == nil && (d["error"] == nil || d["outbox"].(map[string]any)["pending"].(float64) == 0) {
			err = fmt.Errorf("%v", d)
		}
		return err
	})
	if n := audited(t, hub.State, "revoke"); len(n) != 1 || n[0].What != device.ID.String() || n[0].Detail != "stolen" {
		t.Errorf("the hub's audit log: %v", n)
	}
	v, err := o.Status(hub)
	must(t, err)
	peers, _ := v["peers"].([]any)
	for _, p := range peers { // as a stranger it may come and ask
		if p := p.(map[string]any); p["ID"] == device.ID.String() && p["Member"] == true {
			t.Errorf("to the hub it is still a member: %v", p)
		}
	}
	o.Kill(device)
	o.Start(device) // and after a restart
	o.awaitStanding(device, "revoked")

	o.must("fleet", "revoke", "pi-2", "--reason", "lost")
	o.Start(second)
	swarm.WaitFor(t, "the device that was off line to know", func() error {
		v, err := o.Status(second)
		if err == nil && v["standing"] != "revoked" {
			err = fmt.Errorf("standing %v, hubs say %v", v["standing"], v["hubs_say"])
		}
		return err
	})
	if n, err := o.publishedBy(second); err != nil || n != 0 {
		t.Errorf("it published %v segments after its revocation, %v", n, err)
	}
}

// TestOldState: what a hub knew before its restart is not taken back by anybody who knows less, nor by an older file.
func TestOldState(t *testing.T) {
	o, hub, device := lab(t)
	old, err := fleet.Load(filepath.Join(hub.State, "fleet.cbor"), journal.FleetID{})
	must(t, err)
	o.must("fleet", "revoke", "pi-1", "--reason", "stolen")
	o.awaitStanding(device, "revoked")
	spare := o.Add("hub1", "")
	o.must("fleet", "grant", spare.ID.String(), "--role", "hub", "--name", "hub1", "--addr", spare.Addr) // a new state: it is a bootstrap hub
	o.Kill(hub)
	o.Start(hub)

	key, err := fleet.LoadKey(filepath.Join(o.dir, "owner.key"))
	must(t, err)
	node, err := p2p.New(t.Context(), p2p.Options{Signer: key, Fleet: func() *fleet.Fleet { return old },
		Merge: func(b fleet.Bundle) (*fleet.Fleet, error) { return old, nil }})
	must(t, err)
	defer func() { must(t, node.Close()) }()
	err = node.SyncFleet(t.Context())
	t.Logf("a member with an old state: %v", err)
	now, err := fleet.Load(filepath.Join(hub.State, "fleet.cbor"), old.ID())
	must(t, err)
	if now.State().Version <= old.State().Version || now.IsMember(device.ID) {
		t.Errorf("the hub went back to version %d", now.State().Version)
	}

	enc, err := old.Encoded()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(hub.State, "fleet.cbor"), enc, 0o644))
	o.Signal(hub, syscall.SIGHUP)
	swarm.WaitFor(t, "the hub to write its own again", func() error {
		again, err := fleet.Load(filepath.Join(hub.State, "fleet.cbor"), old.ID())
		if err == nil && again.Digest().Hash() != now.Digest().Hash() {
			err = fmt.Errorf("the file has version %d", again.State().Version)
		}
		return err
	})
	o.Kill(hub)
	must(t, os.WriteFile(filepath.Join(hub.State, "fleet.cbor"), enc, 0o644))
	if _, stderr, code := o.Run("streembitd", "run", "--config", hub.Config); code != 5 || !strings.Contains(stderr, "is older than what is already known") {
		t.Errorf("with an old bundle it exited with %d: %s", code, stderr)
	}
}

// TestExpired: a grant ends by a clock that somebody vouches for, and else not before the time that the owner signed.
func TestExpired(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	o.addHub("hub0")
	device := o.Add("device0", simDevice)
	o.Start(device)
	block := filepath.Join(o.Dir, "device0.offer")
	must(t, os.WriteFile(block, []byte(o.daemon(device, "id", "--offer")), 0o600))
	o.must("enroll", "approve", "--file", block, "--name", "pi-1", "--no-lan", "--expires", "8s")
	o.awaitStanding(device, "member")
	o.awaitStanding(device, "expired") // the config says that its clock is right
	if text := o.daemon(device, "status"); !strings.Contains(text, "STANDING: expired") || !strings.Contains(text, "time: synced, not before 20") {
		t.Errorf("status: %s", text)
	}
	o.Kill(device)
	o.Start(device)
	o.awaitStanding(device, "expired")
	o.must("fleet", "grant", device.ID.String(), "--role", "device", "--name", "pi-1")
	swarm.WaitFor(t, "the device to be let in again", func() error {
		v, err := o.Status(device)
		if err == nil && v["standing"] != "member" {
			err = fmt.Errorf("it is %v; hubs say %v", v["standing"], v["hubs_say"])
		}
		return err
	})
}
