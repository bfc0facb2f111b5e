// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge/test/swarm"
)

// collectorNamed makes a collector's keys and grants it the streams; it returns its folder.
func (o *office) collectorNamed(name string, streams ...string) (state, id string) {
	o.t.Helper()
	state = filepath.Join(o.Dir, name)
	out, stderr, code := o.Run("streembit", "id", "--state", state)
	if code != 0 {
		o.t.Fatalf("streembit id: %s", stderr)
	}
	id = strings.Fields(out)[0]
	args := []string{"fleet", "grant", id, "--role", "collector", "--name", name, "--reader", filepath.Join(state, "reader.pub")}
	for _, s := range streams {
		args = append(args, "--stream", s)
	}
	o.must(args...)
	o.copyBundle(state)
	return state, id
}

func (o *office) copyBundle(state string) {
	o.t.Helper()
	enc, err := os.ReadFile(filepath.Join(o.dir, "fleet.cbor"))
	must(o.t, err)
	must(o.t, os.WriteFile(filepath.Join(state, "fleet.cbor"), enc, 0o644))
}

// pulled returns the ids of what a collector reads.
func (o *office) pulled(state string) map[string]bool {
	o.t.Helper()
	out, stderr, code := o.Run("streembit", "pull", "--state", state, "--format", "jsonl")
	if code != 0 {
		o.t.Fatalf("pull exited with %d: %s", code, stderr)
	}
	ids := map[string]bool{}
	for line := range strings.Lines(out) {
		var r row
		must(o.t, json.Unmarshal([]byte(line), &r))
		ids[r.ID] = true
	}
	return ids
}

// TestRewrap: a reader that is granted later reads from then on; after a reader that was there before has handed on its keys it reads all.
func TestRewrap(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	o.addHub("hub0")
	first, _ := o.collectorNamed("first")
	device := o.Add("device0", simDevice)
	o.Start(device)
	block := filepath.Join(o.Dir, "device0.offer")
	must(t, os.WriteFile(block, []byte(o.daemon(device, "id", "--offer")), 0o600))
	o.must("enroll", "approve", "--file", block, "--name", "pi-1", "--no-lan")
	o.copyBundle(first)
	o.awaitStanding(device, "member")
	o.awaitPublished(device)
	o.awaitPublished(device)
	old := o.pulled(first)
	late, lateID := o.collectorNamed("late")
	swarm.WaitFor(t, "the new reader to read what is new", func() error {
		if n := len(o.pulled(late)); n == 0 {
			return fmt.Errorf("%d readings", n)
		}
		return nil
	})
	o.Kill(device)
	all, part := o.pulled(first), o.pulled(late)
	if len(old) == 0 || len(part) == 0 || len(part) > len(all)-len(old) {
		t.Fatalf("before the new reader %d readings, in the end %d, of which it reads %d", len(old), len(all), len(part))
	}
	for id := range old {
		if part[id] {
			t.Fatalf("the new reader reads %s, which was sealed before it came", id)
		}
	}
	o.rewrapsTo(first, late, lateID)
	if got := o.pulled(late); !maps.Equal(got, all) {
		t.Errorf("after the rewrap it reads %d of %d readings", len(got), len(all))
	}
	o.rewrapRefusals(first)
}

// rewrapsTo hands keys on, by a collector that does not know of the new reader before it hears of it from the hubs, and once more.
func (o *office) rewrapsTo(first, late, lateID string) {
	o.t.Helper()
	out, stderr, code := o.Run("streembit", "rewrap", "late", "--state", first, "--device", "pi-1", "--stream", "main")
	if code != 0 || !strings.HasPrefix(out, "handed to late the keys of ") || strings.HasPrefix(out, "handed to late the keys of 0 ") || !strings.Contains(stderr, "next, on late: streembit pull") {
		o.t.Fatalf("exit %d: %s%s", code, out, stderr)
	}
	o.t.Logf("%s", strings.TrimSpace(out))
	var again struct {
		To                  string
		Chains, Handed, Had int
	}
	out, stderr, code = o.Run("streembit", "rewrap", lateID[len(lateID)-8:], "--state", first, "--json")
	if err := json.Unmarshal([]byte(out), &again); err != nil || code != 0 || again.To != lateID || again.Handed != 0 || again.Had < 2 || again.Chains < 1 {
		o.t.Errorf("a second time: exit %d, %v: %s%s", code, err, out, stderr)
	}
	if n := audited(o.t, first, "rewrap"); len(n) != 1 || n[0].What != lateID {
		o.t.Errorf("the audit log: %v", n)
	}
	if _, err := os.Stat(filepath.Join(late, "audit")); err == nil {
		o.t.Error("the new reader has an audit log of what it did not do")
	}
}

// rewrapRefusals: each error says what to do.
func (o *office) rewrapRefusals(first string) {
	o.t.Helper()
	o.collectorNamed("slow", "slow") // has no right to the stream
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{2, "no member of fleet lab is called \"nobody\"\ntry: streembit fleet show", []string{"nobody"}},
		{2, "is this collector itself", []string{"first"}},
		{4, "is no member with a reader key\ntry: on the owner's machine: streembit fleet grant ", []string{"pi-1"}},
		{1, "that both this collector and slow may read\ntry: streembit fleet show", []string{"slow"}},
		{2, "no device of the fleet is called \"pi-9\"", []string{"late", "--device", "pi-9"}},
		{2, "--stream \"Main\"", []string{"late", "--stream", "Main"}},
		{2, "try: streembit rewrap --help", nil},
	} {
		_, stderr, code := o.Run("streembit", slices.Concat([]string{"rewrap"}, c.args, []string{"--state", first})...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			o.t.Errorf("rewrap %v exited with %d: %s", c.args, code, stderr)
		}
	}
	o.must("fleet", "revoke", "late", "--reason", "gone")
	if _, stderr, code := o.Run("streembit", "rewrap", "late", "--state", first); code != 2 || !strings.Contains(stderr, "no member of fleet lab is called \"late\"") {
		o.t.Errorf("to a revoked member: exit %d: %s", code, stderr)
	}
}
