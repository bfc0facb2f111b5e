// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// grants are n devices and a hub for every hundred.
func grants(n int) []fleet.Grant {
	out := make([]fleet.Grant, n)
	for i := range out {
		seed := binary.BigEndian.AppendUint32(make([]byte, 28, 32), uint32(i))
		g := fleet.Grant{Member: edge.ID(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)), Name: fmt.Sprint("gateway-", i), Roles: fleet.Device}
		if i%100 == 0 {
			g.Roles, g.Site, g.Addrs = fleet.Device|fleet.Hub, "building-7", []string{"/ip4/203.0.113.10/tcp/32321"}
		}
		out[i] = g
	}
	return out
}

// TestScale: a fleet of 10 000 members fits, in few entries and in one entry per member.
func TestScale(t *testing.T) {
	f := must(found(t).Grant(by(1), now, grants(10_000)...))(t)
	if len(f.Members()) != 10_000 || len(f.Hubs()) != 100 {
		t.Errorf("%d members, %d hubs", len(f.Members()), len(f.Hubs()))
	}
	collectors := make([]fleet.Grant, 300) // 1.3 kB each: more than one segment
	for i, g := range grants(300) {
		g.Roles, g.Reader = fleet.Collector, reader(t, 8).Public()
		collectors[i] = g
	}
	f = must(found(t).Grant(by(1), now, collectors...))(t)
	if got := len(f.With(fleet.Collector)); got != 300 || len(f.Parts().Logs[0]) < 2 {
		t.Errorf("%d collectors in %d entries", got, len(f.Parts().Logs[0]))
	}
}

func BenchmarkBundle(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		all := grants(n)
		few, err := found(b).Grant(by(1), now, all...)
		if err != nil {
			b.Fatal(err)
		}
		base := found(b)
		var log [][]byte
		for _, g := range all {
			payload, err := journal.Encode(entries(g))
			if err != nil {
				b.Fatal(err)
			}
			log = append(log, fleet.LogEntry(b, base.LogChain(), log, key(1), payload, 1))
		}
		each, err := open(b, base.Parts().States, log)
		if err != nil {
			b.Fatal(err)
		}
		for name, f := range map[string]*fleet.Fleet{"few-entries": few, "entry-per-grant": each} {
			enc, err := f.Encoded()
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprint(name, "/open/", n), func(b *testing.B) {
				for b.Loop() {
					if _, err := fleet.Open(enc, f.ID()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(enc)), "B")
			})
			b.Run(fmt.Sprint(name, "/encode/", n), func(b *testing.B) {
				for b.Loop() {
					if _, err := f.Encoded(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
