// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/transporttest"
)

func TestStatus_TellsHowRepairGetsOn(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	calm := repair.Stats{Round: time.Now(), Peers: []repair.PeerStats{{Hub: w.Hubs[0].ID(), Compared: time.Now()}}}
	busy := repair.Stats{Lacking: 1234, Left: 90 * time.Second, Fetched: 77, Bytes: 3 << 20, Error: "hub is full", Peers: []repair.PeerStats{
		{Hub: w.Hubs[0].ID(), Suspect: "it claims\x1b[2J what it does not give"},
		{Hub: w.Hubs[1].ID(), Error: "it is silent"},
		{Hub: w.Hubs[2].ID(), Slow: true},
	}}
	for name, c := range map[string]struct {
		stats repair.Stats
		fleet *fleet.Fleet
		lines []string
	}{
		"calm": {calm, w.Fleet(), []string{"repair: nothing lacks that other hubs have, compared "}},
		"busy": {busy, w.Fleet(), []string{"repair: 1234 segments lack here, some 1m30s more\n", "repair: 77 segments fetched since start, 3.0 MiB\n",
			"ALARM: repair stands still: hub is full\n", "ALARM: repair does not believe hub hub-0: it claims?[2J what it does not give\n",
			"repair: hub hub-1, compared never: it is silent\n", "repair: hub hub-2 is slow and asked after others\n"}},
	} {
		s := status{Repair: repairStatusOf(c.stats, c.fleet)}
		var out bytes.Buffer
		s.print(&out)
		for _, line := range c.lines {
			if !strings.Contains(out.String(), line) {
				t.Errorf("%s: no %q in\n%s", name, line, &out)
			}
		}
		if n := strings.Count(out.String(), "repair"); n != len(c.lines) {
			t.Errorf("%s: %d lines of repair, want %d:\n%s", name, n, len(c.lines), &out)
		}
		text, err := json.Marshal(s)
		if err != nil || !strings.Contains(string(text), `"repair":{"running":false`) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}
