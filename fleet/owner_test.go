// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

func TestFound_Refuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fleet.Founding)
		want   error
	}{
		"name":             {func(f *fleet.Founding) { f.Name = "My Fleet" }, fleet.ErrBadState},
		"no spare":         {func(f *fleet.Founding) { f.Spare = edge.ID{} }, fleet.ErrBadState},
		"spare is active":  {func(f *fleet.Founding) { f.Spare = id(1) }, fleet.ErrBadState},
		"no recovery key":  {func(f *fleet.Founding) { f.Recovery = nil }, fleet.ErrBadState},
		"bad recovery key": {func(f *fleet.Founding) { f.Recovery = make([]byte, 32) }, fleet.ErrBadState},
		"too many hubs":    {func(f *fleet.Founding) { f.Hubs = bootstraps(200) }, fleet.ErrTooLarge},
	} {
		f := founding(t)
		c.change(&f)
		if got, err := fleet.Found(f, now); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// bootstraps are hubs with a site and two addresses each, as a real one has them.
func bootstraps(n int) []fleet.Bootstrap {
	out := make([]fleet.Bootstrap, n)
	for i := range out {
		out[i] = fleet.Bootstrap{ID: id(byte(i%200 + 20)), Site: "building-7", Addrs: []string{
			fmt.Sprintf("/ip4/203.0.113.%d/tcp/32321", i%100+100), fmt.Sprintf("/ip4/203.0.113.%d/udp/32321/quic-v1", i%100+100)}}
	}
	return out
}

func TestState_HoldsEnoughBootstrapHubs(t *testing.T) {
	f := founding(t)
	fits := 0
	for n := 1; ; n++ {
		f.Hubs = bootstraps(n)
		_, err := fleet.Found(f, now)
		if errors.Is(err, fleet.ErrTooLarge) {
			if !strings.Contains(err.Error(), "name fewer hubs") {
				t.Errorf("%v does not say what to do", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		fits = n
	}
	t.Logf("a state of at most %d bytes holds %d bootstrap hubs with two addresses each", fleet.MaxState, fits)
	if fits < 20 {
		t.Errorf("only %d bootstrap hubs fit", fits)
	}
}

func TestGrant_LaterWins(t *testing.T) {
	f := must(found(t).Grant(by(1), now, device(21), hub(11)))(t)
	again := hub(21)
	again.Name = "now-a-hub"
	f = must(f.Grant(by(1), now, again))(t)
	g, ok := f.Member(id(21))
	if !ok || g.Name != "now-a-hub" || g.Roles != fleet.Hub || len(f.Members()) != 2 || len(f.Hubs()) != 2 {
		t.Errorf("%+v, %t, %d members, %d hubs", g, ok, len(f.Members()), len(f.Hubs()))
	}
	within := device(22)
	within.Roles |= fleet.Hub
	f = must(f.Grant(by(1), now, device(22), within))(t)
	if g, _ := f.Member(id(22)); g.Roles != fleet.Device|fleet.Hub {
		t.Errorf("within one entry: %s", g.Roles)
	}
	if f.Is(id(99), 0) || f.IsMember(edge.ID{}) || f.Is(id(21), fleet.Device) || !f.Is(id(1), fleet.Operator) || !f.IsMember(id(2)) {
		t.Error("strangers, the zero key or a former role count")
	}
}

func TestGrant_OnlyByTheLogsWriter(t *testing.T) {
	f := found(t)
	for _, seed := range []byte{2, 4} {
		if _, err := f.Grant(by(seed), now, hub(11)); !errors.Is(err, fleet.ErrNotAllowed) {
			t.Errorf("key %d: %v", seed, err)
		}
	}
	weak := hub(11)
	weak.Member = edge.ID{}
	if _, err := f.Grant(by(1), now, hub(12), weak); !errors.Is(err, fleet.ErrBadGrant) {
		t.Errorf("grant to the zero key: %v", err)
	}
	if _, err := f.Amend(key(4), now, noHubs); !errors.Is(err, fleet.ErrNotOwner) {
		t.Errorf("amended by a stranger: %v", err)
	}
}

func TestRotate_KeepsTheMembersAndEndsTheOldKey(t *testing.T) {
	before := must(found(t).Grant(by(1), now, hub(11), device(21), collector(t, 31)))(t)
	after := must(before.Rotate(key(2), [2]edge.ID{id(2), id(3)}, -1, now))(t)
	if err := after.Newer(before); err != nil {
		t.Error(err)
	}
	if got, want := len(after.Members()), len(before.Members()); got != want || after.ID() != before.ID() {
		t.Errorf("%d members of %s, want %d", got, after.ID(), want)
	}
	if after.IsMember(id(1)) {
		t.Error("the old active key is still an owner")
	}
	if _, err := after.Amend(key(1), now, noHubs); !errors.Is(err, fleet.ErrNotOwner) {
		t.Errorf("amended with the old key: %v", err)
	}
	if _, err := after.Grant(by(1), now, hub(12)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("granted with the old key: %v", err)
	}
	must(after.Grant(by(2), now, hub(12)))(t)
	if _, err := before.Rotate(key(2), [2]edge.ID{id(3), id(4)}, -1, now); !errors.Is(err, fleet.ErrBadState) {
		t.Errorf("rotated to keys that the signer is not among: %v", err)
	}
	if _, err := before.Rotate(key(4), [2]edge.ID{id(4), id(2)}, -1, now); !errors.Is(err, fleet.ErrNotOwner) {
		t.Errorf("rotated by a stranger: %v", err)
	}
}

func TestReaders_RecoveryKeyAlwaysAndRightsPerStream(t *testing.T) {
	f := must(found(t).Grant(by(1), now, collector(t, 31), collector(t, 32, "main"), collector(t, 33, "lab"), device(21)))(t)
	for stream, want := range map[string]int{"main": 3, "lab": 3, "other": 2} {
		if got := must(f.Readers(id(21), stream))(t); len(got) != want {
			t.Errorf("%s: %d readers, want %d", stream, len(got), want)
		}
	}
}

func TestFind(t *testing.T) {
	f := must(found(t).Grant(by(1), now, hub(11), device(21)))(t)
	whole := id(21).String()
	for selector, want := range map[string]int{"device-21": 1, whole: 1, whole[len(whole)-8:]: 1, whole[:14]: 1, "12D3KooW": 2, "": 0, "devic": 0, whole[:5]: 0} {
		if got := f.Find(selector); len(got) != want {
			t.Errorf("%q finds %d, want %d", selector, len(got), want)
		}
	}
}

func TestParseRoles(t *testing.T) {
	for s, want := range map[string]fleet.Role{"hub": fleet.Hub, "device, hub": fleet.Device | fleet.Hub, "collector,operator": fleet.Collector | fleet.Operator} {
		if got := must(fleet.ParseRoles(s))(t); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
	for _, s := range []string{"", "Hub", "hub,", "owner"} {
		if r, err := fleet.ParseRoles(s); err == nil {
			t.Errorf("%q is read as %s", s, r)
		}
	}
}
