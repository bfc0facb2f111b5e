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

// sizes are the fleets that are measured.
func sizes() []int { return []int{10, 1000, 10_000} }

func BenchmarkBundle(b *testing.B) {
	for _, n := range sizes() {
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

// sized is a fleet of n members, and what a hub that knows all but the last grant lacks.
func sized(b *testing.B, n int) (f, before *fleet.Fleet, part fleet.Bundle) {
	b.Helper()
	all := grants(n)
	before, err := found(b).Grant(by(1), now, append(all[:n-1:n-1], operator(41))...)
	if err != nil {
		b.Fatal(err)
	}
	if f, err = before.Grant(by(1), now, all[n-1]); err != nil {
		b.Fatal(err)
	}
	return f, before, f.Delta(before.Digest())
}

// BenchmarkSync is what a change costs a member that learns of it: the digest of a handshake, what the other one lacks, and taking it in.
func BenchmarkSync(b *testing.B) {
	for _, n := range sizes() {
		f, before, part := sized(b, n)
		enc, err := part.Encode()
		if err != nil {
			b.Fatal(err)
		}
		whole := before.Digest()
		b.Run(fmt.Sprint("digest/", n), func(b *testing.B) {
			for b.Loop() {
				f.Digest().Hash()
			}
		})
		b.Run(fmt.Sprint("delta/", n), func(b *testing.B) {
			for b.Loop() {
				if f.Delta(whole).Empty() {
					b.Fatal("nothing new")
				}
			}
			b.ReportMetric(float64(len(enc)), "B")
		})
		b.Run(fmt.Sprint("merge/", n), func(b *testing.B) {
			for b.Loop() {
				got, err := fleet.DecodeBundle(enc)
				if err == nil {
					_, err = before.Merge(got)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("merge-known/", n), func(b *testing.B) {
			all := f.Delta(fleet.Digest{})
			for b.Loop() {
				if _, err := f.Merge(all); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("grant/", n), func(b *testing.B) {
			g := device(77)
			for b.Loop() {
				if _, err := f.Grant(by(1), now, g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCheck is what each request of a member costs: is it one, has it the role, may it do this there.
func BenchmarkCheck(b *testing.B) {
	for _, n := range sizes() {
		f, _, _ := sized(b, n)
		who, on := id(41), f.Members()[0].Member
		for name, check := range map[string]func() bool{
			"member": func() bool { return f.IsMember(on) },
			"role":   func() bool { return f.Is(who, fleet.Operator) },
			"right":  func() bool { return f.May(who, fleet.Command, on, "switch.0") },
		} {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				for b.Loop() {
					if !check() {
						b.Fatal("refused")
					}
				}
			})
		}
	}
}
