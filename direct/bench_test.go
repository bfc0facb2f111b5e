// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"context"
	"net"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/streembit/edge/direct"
)

// BenchmarkGroup is what asking 1 000 devices costs both sides together, 16 at once as the program does, each with a session of its own: opened, described, one output
// set, closed. The channels below, whose handshakes cost more, are left out.
func BenchmarkGroup(b *testing.B) {
	const devices, atOnce = 1000, 16
	w := newWorld(b, func(o *direct.Options) { o.Sessions, o.PerPeer, o.Acts = atOnce, atOnce, 1e9 })
	defer func() { ok(b, w.server.Close()) }()
	b.ReportAllocs()
	for b.Loop() {
		var all errgroup.Group
		all.SetLimit(atOnce)
		for range devices {
			all.Go(func() error {
				mine, theirs := net.Pipe()
				over := make(chan error, 1)
				go func() { over <- w.server.Serve(context.Background(), theirs, operator.ID()) }()
				s, err := direct.Open(context.Background(), mine, direct.Config{Signer: operator, Device: device.ID()})
				if err != nil {
					return err
				}
				if _, _, err = s.Describe(context.Background()); err == nil {
					_, err = s.Do(context.Background(), direct.Request{Op: direct.Set, Name: "relay/switch", Value: true})
				}
				if err != nil {
					return err
				}
				if err := s.Close(); err != nil {
					return err
				}
				return <-over
			})
		}
		ok(b, all.Wait())
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/devices, "µs/device")
}
