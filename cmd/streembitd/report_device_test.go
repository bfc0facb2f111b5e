// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/agent"
)

// The states of a stream's segments, in words and in JSON, for a fleet of one, two and twenty hubs.
func TestStatus_TellsHowFarSegmentsGot(t *testing.T) {
	hour := time.Hour.Milliseconds()
	stream := agent.StreamStatus{Stream: "main", Lost: 5, Error: "disk is full", Pending: agent.TallyStatus{Segments: 3, Readings: 30, Bytes: 2048},
		Published: agent.TallyStatus{Segments: 2, Bytes: 1024}, Forgettable: agent.TallyStatus{Segments: 4, Bytes: 4096},
		OldestPending: &agent.WaitingStatus{Chain: "c", Seq: 17, State: "pending", Age: &hour}, Oldest: &agent.WaitingStatus{Seq: 12, State: "published"},
		Last: &agent.LastStatus{Seq: 16, Copies: 11, Hubs: 20, Sites: 3, HubSites: 4, Time: time.Now().Add(-4 * time.Second)}}
	s := status{Device: &agent.Status{Streams: []agent.StreamStatus{stream, {Stream: "slow"}},
		Outbox: agent.OutboxStatus{Bytes: 1 << 20, Quota: 256 << 20, Past: 6, PastReadings: 60}}}
	var out bytes.Buffer
	s.print(&out)
	for _, line := range []string{
		"1.0 MiB of 256.0 MiB on disk\n",
		"ALARM: 6 segments with 60 readings came too late",
		"stream main: pending 3 (2.0 KiB), published 2 (1.0 KiB), forgettable 4 (4.0 KiB)\n",
		"  oldest pending: seq 17, pending, 1h0m0s old\n",
		"  oldest that this device must keep: seq 12, published, of another boot, its age is not known\n",
		"  last published: seq 16 as 11 of 20 copies on 3 of 4 sites, 4s ago\n",
		"  ALARM: 5 readings lost before sealing\n",
		"  ALARM: readings are not safe: disk is full\n",
		"stream slow: pending 0, published 0, forgettable 0\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, &out)
		}
	}
	for want, l := range map[string]agent.LastStatus{
		"on the only hub: no redundancy; add hubs with streembit fleet grant --role hub": {Copies: 1, Hubs: 1, Sites: 1, HubSites: 1},
		"on 1 of 2 hubs: this device keeps its own copy until both have it":              {Copies: 1, Hubs: 2, Sites: 1, HubSites: 2},
		"as 2 of 2 copies on 2 of 2 sites":                                               {Copies: 2, Hubs: 2, Sites: 2, HubSites: 2},
		"as 2 of 3 copies":                                                               {Copies: 2, Hubs: 3, Sites: 1, HubSites: 1},
	} {
		if got := copiesText(l); got != want {
			t.Errorf("%+v: %q, want %q", l, got, want)
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"pending":{"segments":3,"readings":30,"bytes":2048}`, `"oldest_pending":{"chain":"c","seq":17,"state":"pending"`, `"age_ms":3600000`,
		`"hub_sites":4`, `"past":6`, `"quota":268435456`} {
		if !strings.Contains(string(text), field) {
			t.Errorf("no %s in %s", field, text)
		}
	}
}
