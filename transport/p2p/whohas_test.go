// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// BenchmarkWhoHasAProgram compares the two ways of finding who has a program (docs/decisions/0042-who-has-a-program.md): the DHT's provider records, and asking the
// two hubs that are computed from its tree. Bytes are those of the loopback, so that nothing else may use it: unshare -rn, ip link set lo up.
func BenchmarkWhoHasAProgram(b *testing.B) {
	for _, hubs := range []int{20, 60} {
		of := release(b, 4)
		w := transporttest.NewWorld(b, hubs, 2)
		var nodes []*p2p.Node
		turn := func(o *p2p.Options) { *o = p2p.WithProviders(*o) }
		for _, h := range w.Hubs {
			nodes = append(nodes, startGiving(b, w, h, transporttest.NewStore(w.Fleet, 0), &gives{file: of}, turn))
		}
		for _, n := range nodes { // everybody knows everybody's last address
			n.FleetChanged()
			ok(b, n.Bootstrap(b.Context()))
		}
		has := startGiving(b, w, w.Devices[0], nil, &gives{file: of}, turn)
		wants := startGiving(b, w, w.Devices[1], nil, empty(b, of), turn)
		tree := of.Tree()
		steps := map[string]func(context.Context) error{
			"1-provide": func(ctx context.Context) error { return has.Provide(ctx, tree) },
			"2-find-20": func(ctx context.Context) error {
				n, err := wants.Providers(ctx, tree, 20)
				return firstError(err, n > 0)
			},
			"3-announce": func(ctx context.Context) error { has.ProgramPeers(tree).Find(ctx); return nil },
			"4-ask": func(ctx context.Context) error {
				return firstError(nil, len(wants.ProgramPeers(tree).Find(ctx)) > 0)
			},
		}
		for _, name := range []string{"1-provide", "2-find-20", "3-announce", "4-ask"} {
			b.Run(fmt.Sprintf("hubs=%d/%s", hubs, name), func(b *testing.B) {
				ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
				defer cancel()
				bytes, cpu := loopback(b), cpuTime(b)
				for b.Loop() {
					ok(b, steps[name](ctx))
				}
				b.ReportMetric(float64(loopback(b)-bytes)/float64(b.N), "wire-B/op")
				b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

func firstError(err error, found bool) error {
	if err == nil && !found {
		return chunks.ErrNotKnown
	}
	return err
}

// loopback returns the bytes that have crossed it.
func loopback(b *testing.B) int {
	b.Helper()
	text, err := os.ReadFile("/proc/self/net/dev")
	ok(b, err)
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(strings.TrimSpace(line), "lo:"); is {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			ok(b, err)
			return n
		}
	}
	b.Fatal("no loopback")
	return 0
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	ok(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
