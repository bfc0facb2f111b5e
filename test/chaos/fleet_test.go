// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/streembit/edge/test/swarm"
)

// atFullRate is device config for as many fsyncs and segments as the simulated board's lines give: four streams, 400 readings and 200 segments
// a second, each reading on the disk before it counts.
const atFullRate = "durability = \"strict\"\n" + fastStreams

const fastStreams = `
[[stream]]
name = "a"
batch_age = "100ms"
batch_readings = 2
[[stream]]
name = "b"
batch_age = "100ms"
batch_readings = 2
[[stream]]
name = "c"
batch_age = "100ms"
batch_readings = 2
[[stream]]
name = "d"
batch_age = "100ms"
batch_readings = 2
[[sensor]]
name = "door"
driver = "gpio"
stream = "a"
pin = "GPIO17"
interval = "10ms"
[[sensor]]
name = "meter"
driver = "gpio"
stream = "b"
pin = "GPIO27"
interval = "10ms"
[[sensor]]
name = "left"
driver = "gpio"
stream = "c"
pin = "GPIO22"
interval = "10ms"
[[sensor]]
name = "right"
driver = "gpio"
stream = "d"
pin = "GPIO23"
interval = "10ms"
`

// awaitMore waits until a fleet's device has noted something more as published.
func awaitMore(t testing.TB, s *swarm.Swarm) {
	t.Helper()
	before := noted(s)
	swarm.WaitFor(t, "another published segment", func() error {
		if noted(s) == before {
			return fmt.Errorf("nothing more than %d bytes of receipts", before)
		}
		return nil
	})
}

// noted is the size of the receipts file.
func noted(s *swarm.Swarm) int64 {
	info, err := os.Stat(filepath.Join(s.Dir, "receipts.jsonl"))
	if err != nil {
		return 0
	}
	return info.Size()
}

// requireNoForks asks running hubs, which have seen all that ever left the device.
func requireNoForks(t testing.TB, s *swarm.Swarm, hubs ...*swarm.Member) {
	t.Helper()
	for _, h := range hubs {
		v, err := s.Status(h)
		check(t, err)
		st := v["store"].(map[string]any)
		if st["forks"].(float64) != 0 || st["refused"].(map[string]any)["fork"] != nil {
			t.Errorf("FORK: %s saw one: %v", h.Name, st)
		}
	}
}
