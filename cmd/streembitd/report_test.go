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

// What is out of the ordinary is a line of the status, and no line while it is not; the JSON always has the number.
func TestStatus_TellsOfRevokedHubsForksAndRevocations(t *testing.T) {
	quiet := status{Device: &agent.Status{}, Store: &storeStatus{}}
	loud := status{Device: &agent.Status{Outbox: agent.OutboxStatus{Fallen: 11, Forks: 12, Renewed: 13}}, Store: &storeStatus{Revoked: 14,
		LetGo: map[string]uint64{"held for the maximum age": 15}, Oldest: time.Now().Add(-48 * time.Hour),
		Waits: []waitStatus{{Name: "lab", Segments: 16, Chains: 2, Oldest: time.Now().Add(-24 * time.Hour)}, {Name: "idle"}}}}
	var calm, told bytes.Buffer
	quiet.print(&calm)
	loud.print(&told)
	for _, line := range []string{
		"outbox: 11 segments published once more: hubs that had them are none any more\n",
		"ALARM: 12 places in this device's chains were taken by somebody else with its key (a copied card?)\n",
		"outbox: 13 incarnations given up for that since start, and begun anew\n",
		"store: 14 segments count no more: a revocation took them from their chains\n",
		" ago; 15 let go since start: held for the maximum age\n",
		"store: collector lab holds back 16 segments of 2 chains, the first received 24h0m",
	} {
		if !strings.Contains(told.String(), line) {
			t.Errorf("no %q in\n%s", line, &told)
		}
		if _, words, _ := strings.Cut(line, " segments "); words != "" && strings.Contains(calm.String(), words) || strings.Contains(calm.String(), "ALARM") || strings.Contains(calm.String(), "incarnations") || strings.Contains(calm.String(), "received") || strings.Contains(told.String(), "idle") {
			t.Errorf("without a reason it says\n%s", &calm)
		}
	}
	text, err := json.Marshal(loud)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"fallen":11`, `"forks":12`, `"renewed":13`, `"revoked":14`, `"let_go":{"held for the maximum age":15}`, `"segments":16`} {
		if !strings.Contains(string(text), field) {
			t.Errorf("no %s in %s", field, text)
		}
	}
}
