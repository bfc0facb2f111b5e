// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/streembitd/doctor"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/transport/p2p"
)

// well is the status of a device and hub with nothing wrong.
func well(now time.Time) status {
	return status{Version: "v1", Fleet: "lab", Standing: standingMember, Hubs: 3, Time: timeStatus{Synced: true, Floor: now.Add(-time.Hour)},
		Network: &networkStatus{NetReport: p2p.NetReport{Hubs: []p2p.HubLink{{Hub: edge.ID{1}}, {Hub: edge.ID{2}}}}},
		Device: &agent.Status{Sensors: []agent.Health{{Sensor: "a", Driver: "bme280", Reads: 5, Open: true}}, Streams: []agent.StreamStatus{{Stream: "main"}},
			Outbox: agent.OutboxStatus{Bytes: 1, Quota: 100}},
		Store: &storeStatus{Bytes: 1, Quota: 100}}
}

// Each thing that the running program says of itself is found, alone, with a fix.
func TestDoctor_FindsWhatTheProgramSays(t *testing.T) {
	now := time.Now()
	for _, f := range well(now).examine(now) {
		if f.Level != doctor.OK {
			t.Errorf("nothing is wrong, and it says %+v", f)
		}
	}
	old := 3 * time.Hour.Milliseconds()
	for name, c := range map[string]struct {
		plant func(*status)
		level doctor.Level
		says  string
		fix   string
	}{
		"chip absent":       {func(s *status) { s.Device.Sensors[0].Error, s.Device.Sensors[0].Fault = "no chip answers", "absent" }, doctor.Fault, "a (bme280): no chip answers", "sensors scan"},
		"bus hangs":         {func(s *status) { s.Device.Sensors[0].Error, s.Device.Sensors[0].Fault = "slow", "timeout" }, doctor.Fault, "slow", "holds the bus"},
		"no hub connected":  {func(s *status) { s.Network.Hubs = nil }, doctor.Fault, "none of 3 hubs", "net check"},
		"no hub":            {func(s *status) { s.Hubs, s.Network.Hubs, s.Network.Try = 0, nil, []string{"enrol a hub"} }, doctor.Fault, "has no hub", "enrol a hub"},
		"one hub":           {func(s *status) { s.Hubs = 1 }, doctor.Warning, "has 1 hubs", "fleet grant"},
		"put out":           {func(s *status) { s.Standing, s.HubsSay = "revoked", "stolen" }, doctor.Fault, "does not take it: revoked. stolen", "reset --i-am-here"},
		"clock is behind":   {func(s *status) { s.Time.Floor = now.Add(48 * time.Hour) }, doctor.Fault, "behind the time that the owner has signed", "date --set"},
		"old state":         {func(s *status) { s.Time.Floor = now.Add(-400 * 24 * time.Hour) }, doctor.Note, "for 400 days", ""},
		"long pending":      {func(s *status) { s.Device.Streams[0].OldestPending = &agent.WaitingStatus{Age: &old} }, doctor.Warning, "the oldest for 3h0m0s", "net check"},
		"outbox is filling": {func(s *status) { s.Device.Outbox.Bytes = 90 }, doctor.Warning, "the oldest readings go", "quota"},
		"given up":          {func(s *status) { s.Device.Outbox.GivenUp = 2 }, doctor.Fault, "2 segments", "quota"},
		"cannot write":      {func(s *status) { s.Device.Outbox.Error = "input/output error" }, doctor.Fault, "input/output error", "new card"},
		"not safe":          {func(s *status) { s.Device.Streams[0].Error = "disk is full" }, doctor.Fault, "disk is full", "df -h"},
		"alarm":             {func(s *status) { s.Alarms = []alarm{{Kind: "clone", Text: "two machines", Count: 2}} }, doctor.Fault, "clone, 2 times: two machines", "audit"},
		"store is full":     {func(s *status) { s.Store.Bytes = 95 }, doctor.Warning, "a full hub refuses", "quota"},
		"store is damaged":  {func(s *status) { s.Store.Damaged = 1 }, doctor.Fault, "1 segments are damaged", "new disk"},
		"NAT":               {func(s *status) { s.Network.Means = []string{"nobody reaches it"} }, doctor.Note, "nobody reaches it", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := well(now)
			c.plant(&s)
			var found []doctor.Finding
			for _, f := range s.examine(now) {
				if f.Level != doctor.OK {
					found = append(found, f)
				}
			}
			if len(found) != 1 || found[0].Level != c.level || !strings.Contains(found[0].What, c.says) || !strings.Contains(found[0].Fix, c.fix) {
				t.Errorf("got %+v, want one %s with %q and the fix %q", found, c.level, c.says, c.fix)
			}
		})
	}
	for says, e := range map[string]*enrolStatus{"belongs to no fleet": {}, "cannot be used: damaged": {Fault: "damaged"}, "has ended": {Token: &tokenStatus{Expired: true}}, "nobody has granted": {Token: &tokenStatus{}}} {
		found := status{Enrolment: e}.examine(now)
		if f := found[len(found)-1]; !strings.Contains(f.What, says) || f.Fix == "" || f.Level == doctor.OK {
			t.Errorf("%+v, want %q", f, says)
		}
	}
}

// How the last update ended, in words; damaged files of the updater are said too.
func TestDoctor_TellsOfUpdates(t *testing.T) {
	for want, p := range map[string]ota.Progress{
		"warning 1.5.0 did not stay (crashed: three times); 1.4.0 runs again": {Version: "1.4.0", Wanted: "1.5.0", Stage: ota.RolledBack, Reason: ota.ReasonCrashed, Detail: "three times"},
		"warning 1.5.0 was not installed (below-security-floor: too old)":     {Version: "1.6.0", Wanted: "1.5.0", Stage: ota.Refused, Reason: ota.ReasonFloor, Detail: "too old"},
		"note 1.5.0 is on trial":                  {Version: "1.5.0", Stage: ota.Trying},
		"ok 1.5.0 was installed by an update":     {Version: "1.5.0", Stage: ota.Committed},
		"ok none since the program was installed": {Stage: ota.Idle},
	} {
		f := updateFinding(p)
		if got := string(f.Level) + " " + f.What; got != want || (f.Level == doctor.Warning) != (f.Fix != "") {
			t.Errorf("%+v, want %q", f, want)
		}
	}
	root := t.TempDir()
	if got := updateFindings(root); got != nil {
		t.Errorf("no updater, and %+v", got)
	}
	for _, name := range []string{"current", "outcome.json"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := updateFindings(root); len(got) != 1 || got[0].Level != doctor.Warning || got[0].Fix == "" {
		t.Errorf("damaged, and %+v", got)
	}
}
