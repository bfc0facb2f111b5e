// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"os"
	"testing"

	"github.com/streembit/edge/test/swarm"
)

// A device with a metered uplink speaks to one hub, and all hubs of the bucket have what it calls published: the one that it spoke to may be lost.
func TestMeteredUplink(t *testing.T) {
	s := swarm.New(t, 3, swarm.FastSensors+"\n[uplink]\nmetered = true\ngather = \"1s\"\n")
	s.Start(s.Hubs...)
	s.Start(s.Device)
	s.AwaitReceipts(20)
	v, err := s.Status(s.Device)
	must(t, err)
	peers := v["peers"].([]any)
	if len(peers) != 1 {
		t.Errorf("the device is connected to %d members: want the hub that it uses", len(peers))
	}
	s.Kill(s.Device)
	published := s.Receipts()
	used := peers[0].(map[string]any)["ID"].(string)
	for _, h := range s.Hubs {
		if h.ID.String() == used {
			s.Kill(h)
			must(t, os.RemoveAll(h.State))
		}
	}
	rows, stderr, code := pullAll(t, s)
	if code != 0 && code != 5 { // 5: what was not published may be missing
		t.Fatalf("pull exited with %d: %s", code, stderr)
	}
	requireAll(t, published, rows)
	for _, n := range published {
		if n.Copies < 2 {
			t.Errorf("seq %d of %s was called published with %d copies", n.Seq, n.Chain, n.Copies)
		}
	}
}
