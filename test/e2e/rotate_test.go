// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
)

// turning is a command that gives a device a new key, under way.
type turning struct {
	cmd *exec.Cmd
	log swarm.Buffer
}

func (o *office) rotate() *turning {
	o.t.Helper()
	r := &turning{cmd: exec.CommandContext(o.t.Context(), swarm.Program(o.t, "streembit"), "call", "pi-1", "rotate-key", "--yes", "--dir", o.dir)}
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	must(o.t, r.cmd.Start())
	return r
}

// await looks often, so that what follows comes while the device is at that step.
func await(t *testing.T, what string, there func() bool) {
	t.Helper()
	awaitLong(t, what, time.Minute, time.Millisecond, there)
}

func awaitLong(t *testing.T, what string, limit, again time.Duration, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !there(); time.Sleep(again) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// named returns the keys of the members of that name, as the operator's folder has it.
func (o *office) named(name string) (ids []edge.ID) {
	o.t.Helper()
	f, err := fleet.Load(filepath.Join(o.dir, "fleet.cbor"), journal.FleetID{})
	must(o.t, err)
	for _, g := range f.Members() {
		if g.Name == name {
			ids = append(ids, g.Member)
		}
	}
	return ids
}

// TestRotateKey: a device changes its key again and again, while it, or the operator's command, is killed at each step on the way. Each time the same command again
// brings it to its end. All that was published before, meanwhile and after is read under the device's name, nothing of it twice.
func TestRotateKey(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	o.addHub("hub0")
	o.addHub("hub1")
	receipts := filepath.Join(o.Dir, "receipts.jsonl")
	device := o.Add("device0", simDevice+fmt.Sprintf("[outbox]\nreceipts = %q\n", receipts))
	o.Start(device)
	block := filepath.Join(o.Dir, "device0.offer")
	must(t, os.WriteFile(block, []byte(o.daemon(device, "id", "--offer")), 0o600))
	o.must("enroll", "approve", "--file", block, "--name", "pi-1", "--label", "room=cellar", "--no-lan")
	o.awaitStanding(device, "member")
	reader, _ := o.collectorNamed("reader", "main")
	o.awaitPublished(device)
	follow := exec.CommandContext(t.Context(), swarm.Program(t, "streembit"), "pull", "pi-1", "--follow", "--state", reader)
	var followed swarm.Buffer
	follow.Stderr = &followed
	out, err := follow.StdoutPipe()
	must(t, err)
	must(t, follow.Start())
	rows := make(chan row, 1<<16)
	go readRows(out, rows)

	at := func(name string) string { return filepath.Join(device.State, name) }
	former := int64(0)                                                   // at the beginning of a step
	passed := func() bool { return fileSize(at("key.former")) > former } // who looks too late is past the step before
	hasNext := func() bool { return fileSize(at(fleet.NextKeyFile)) > 0 || passed() }
	ids := map[edge.ID]bool{o.Identity(device): true}
	for _, step := range []struct {
		name string
		cut  func(r *turning)
	}{
		{"nothing", func(*turning) {}},
		{"the device once it has made its key", func(*turning) { await(t, "the next key", hasNext); o.Kill(device) }},
		{"the device once it has noted its old key", func(*turning) {
			await(t, "the note of the old key", passed)
			o.Kill(device)
		}},
		{"the device once it has its new key", func(*turning) {
			n := device.Log.Count("this device has a new key")
			await(t, "the new key", func() bool { return device.Log.Count("this device has a new key") > n })
			o.Kill(device)
		}},
		{"the command once the device has made its key", func(r *turning) { await(t, "the next key", hasNext); _ = r.cmd.Process.Kill() }},
		{"the command once the key is granted", func(r *turning) {
			await(t, "the grant", func() bool { return len(o.named("pi-1")) > 1 || passed() })
			_ = r.cmd.Process.Kill()
		}},
	} {
		former = fileSize(at("key.former"))
		r := o.rotate()
		step.cut(r)
		if strings.HasPrefix(step.name, "the device") {
			o.Start(device)
		}
		err := r.cmd.Wait()
		killed := strings.HasPrefix(step.name, "the command")
		if err != nil && !killed {
			t.Fatalf("killed: %s: %v: %s\n%s", step.name, err, r.log.String(), device.Log.Tail(10))
		}
		if killed {
			r = o.rotate()
			if err := r.cmd.Wait(); err != nil {
				t.Fatalf("killed: %s: again: %v: %s\n%s", step.name, err, r.log.String(), device.Log.Tail(10))
			}
		}
		t.Logf("killed: %s: %s", step.name, strings.TrimSpace(r.log.String()))
		now := o.Identity(device)
		if got := o.named("pi-1"); len(got) != 1 || got[0] != now || ids[now] {
			t.Fatalf("killed: %s: pi-1 is %v, the device %s, had %d keys", step.name, got, now, len(ids))
		}
		ids[now] = true
		if _, err := os.Stat(at(fleet.NextKeyFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("killed: %s: the next key lies there still: %v", step.name, err)
		}
		o.awaitStanding(device, "member")
		o.awaitPublished(device)
	}
	if show := o.must("devices", "list", "room=cellar"); strings.Count(show, "pi-1") != 1 {
		t.Errorf("the fleet's devices: %s", show)
	}
	o.drained(device)
	o.Kill(device)
	published := swarm.ReadReceipts(t, receipts)
	seen := map[string]row{}
	swarm.WaitFor(t, "all to be shown to who follows the name", func() error {
		for {
			select {
			case r, ok := <-rows:
				if !ok {
					t.Fatalf("pull --follow ended: %s", followed.Tail(20))
				}
				take(t, seen, r)
				continue
			case <-time.After(50 * time.Millisecond):
			}
			break
		}
		have := map[string]uint32{}
		for _, r := range seen {
			have[segmentOf(r)]++
		}
		for _, n := range published {
			if got := have[fmt.Sprintf("%s/%d", n.Chain, n.Seq)]; got != n.Readings {
				return fmt.Errorf("%s seq %d: %d of %d readings: %s", n.Chain, n.Seq, got, n.Readings, followed.Tail(3))
			}
		}
		return nil
	})
	requireAll(t, published, seen)
	devices, taken := map[string]bool{}, map[string]string{}
	for id, r := range seen {
		devices[r.Device] = true
		if other, twice := taken[r.Sensor+r.Name+r.Time]; twice {
			t.Errorf("the reading of %s is there as %s and as %s", r.Time, other, id)
		}
		taken[r.Sensor+r.Name+r.Time] = id
	}
	if len(devices) < len(ids) {
		t.Errorf("readings of %d keys, the device had %d", len(devices), len(ids))
	}
	must(t, follow.Process.Signal(syscall.SIGINT))
	_ = follow.Wait()
	late := map[string]bool{} // who comes after all of it
	stdout, stderr, code := o.Run("streembit", "pull", "pi-1", "--state", reader, "--format", "jsonl")
	for line := range strings.Lines(stdout) {
		var r row
		must(t, json.Unmarshal([]byte(line), &r))
		late[r.ID] = true
	}
	if len(late) != len(seen) || code != 0 {
		t.Errorf("pulled anew: exit %d, %d readings of %d: %s", code, len(late), len(seen), stderr)
	}
}

// drained waits until a device has published all that it has sealed.
func (o *office) drained(m *swarm.Member) {
	o.t.Helper()
	swarm.WaitFor(o.t, m.Name+" to have published everything", func() error {
		v, err := o.Status(m)
		if err != nil {
			return err
		}
		if n := v["device"].(map[string]any)["outbox"].(map[string]any)["pending"]; n != 0.0 {
			return fmt.Errorf("%v segments wait", n)
		}
		return nil
	})
}

// TestRotateKey_Metered: a device with a metered uplink, whose hubs prove to it alone what they have, gets the proofs of what its old key sealed under its new one.
func TestRotateKey_Metered(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	o.addHub("hub0")
	o.addHub("hub1")
	device := o.Add("device0", simDevice+"[uplink]\nmetered = true\ngather = \"3s\"\n")
	o.Start(device)
	block := filepath.Join(o.Dir, "device0.offer")
	must(t, os.WriteFile(block, []byte(o.daemon(device, "id", "--offer")), 0o600))
	o.must("enroll", "approve", "--file", block, "--name", "pi-1", "--no-lan")
	o.awaitStanding(device, "member")
	o.awaitPublished(device)
	old := o.Identity(device)
	began := time.Now()
	r := o.rotate()
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, r.log.String())
	}
	t.Logf("the new key after %s", time.Since(began).Round(time.Millisecond))
	// A metered device asks again after pauses of up to half a minute each. The oldest pending segment is named by its chain.
	awaitLong(t, "all that the old key sealed to be published", 5*time.Minute, time.Second, func() bool {
		v, err := o.Status(device)
		return err == nil && v["device"] != nil && !strings.Contains(fmt.Sprint(v["device"]), old.String())
	})
	if ids := o.named("pi-1"); len(ids) != 1 || ids[0] == old {
		t.Errorf("pi-1 is %v, was %s", ids, old)
	}
}
