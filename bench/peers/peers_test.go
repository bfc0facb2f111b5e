// SPDX-License-Identifier: Apache-2.0

// Package peers measures Streembit edge beside its peers, mosquitto and NATS JetStream, in one run on one machine, and
// judges the ratios by the aims of the design. make bench runs it; README.md says how, bench/RESULTS.md keeps the results.
package peers_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/streembit/edge/bench/peers/load"
	"github.com/streembit/edge/test/swarm"
)

// asLoad is the environment variable that makes this program one side's client.
const asLoad = "STREEMBIT_BENCH_LOAD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(asLoad); spec != "" {
		if err := load.Main(context.Background(), spec, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	swarm.Main(m)
}

// extent is how much is measured.
type extent struct {
	rounds int           // of each interleaved comparison
	scale  float64       // of the readings in a round
	idle   time.Duration // how long idle programs are watched, after as long a pause
}

func extents() extent {
	if os.Getenv("BENCH") == "short" {
		return extent{rounds: 3, scale: 0.25, idle: 8 * time.Second}
	}
	return extent{rounds: 5, scale: 1, idle: 30 * time.Second}
}

// of scales a number of readings to whole segments.
func (e extent) of(readings, segment int) int {
	return max(int(float64(readings)*e.scale)/segment, 20) * segment
}

// BenchmarkPeers runs every section once and prints the costs and the aims. A section that fails leaves its rows out.
func BenchmarkPeers(b *testing.B) {
	e, r := extents(), newReport(b)
	for _, section := range []struct {
		name string
		run  func(*testing.B, extent, *report)
	}{
		{"publish", benchPublish},
		{"pull", benchPull},
		{"quorum", benchQuorum},
		{"metered", benchMetered},
		{"card", benchCard},
		{"command", benchCommand},
		{"live", benchLive},
		{"sinks", benchSinks},
		{"idle", benchIdle},
		{"binary", benchBinary},
	} {
		b.Run(section.name, func(b *testing.B) {
			if b.N > 1 {
				b.Fatal("run it with -benchtime 1x")
			}
			section.run(b, e, r)
		})
	}
	r.print(os.Stdout)
}
