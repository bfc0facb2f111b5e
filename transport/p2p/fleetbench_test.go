// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// BenchmarkHandshakeAndHello is a member that comes: TCP, Noise, yamux, identify, hello, and a comparison that finds nothing to tell.
func BenchmarkHandshakeAndHello(b *testing.B) {
	w := transporttest.NewWorld(b, 1, 1)
	hub := crew(b, w)[0]
	for b.Loop() {
		b.StopTimer()
		device := sail(b, w.Devices[0], hub.now(), nil)
		b.StartTimer()
		ok(b, device.SyncFleet(b.Context()))
		b.StopTimer()
		ok(b, device.Close())
		b.StartTimer()
	}
}

// BenchmarkSyncFleet is a member that knows the state alone and gets so many grants; "one more" is one that lacks the last grant. Bytes are those of the
// bundle that travels.
func BenchmarkSyncFleet(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		w := transporttest.NewWorld(b, 1, 0)
		key := transporttest.NewKey(b)
		w.Grant(b, fleet.Grant{Member: key.ID(), Name: "device", Roles: fleet.Device})
		hub := crew(b, w)[0]
		empty := hub.now()
		grants := make([]fleet.Grant, n)
		for i := range grants {
			seed := binary.BigEndian.AppendUint32(make([]byte, 28, 32), uint32(i))
			grants[i] = fleet.Grant{Member: edge.ID(ed25519.NewKeyFromSeed(seed)[32:]), Name: fmt.Sprint("gateway-", i), Roles: fleet.Device}
		}
		w.Grant(b, grants...)
		before := w.Fleet()
		w.Grant(b, fleet.Grant{Member: transporttest.NewKey(b).ID(), Name: "last", Roles: fleet.Device})
		hub.learn(w.Fleet())
		for name, from := range map[string]*fleet.Fleet{"all": empty, "one more": before} {
			b.Run(fmt.Sprintf("members=%d/%s", n, name), func(b *testing.B) { syncFrom(b, hub, key, from, w.Fleet()) })
		}
		ok(b, hub.Close())
	}
}

func syncFrom(b *testing.B, hub *sailor, key journal.SoftKey, from, to *fleet.Fleet) {
	enc, err := to.Delta(from.Digest()).Encode()
	must(b, enc, err)
	device := sail(b, key, to, func(o *p2p.Options) { o.Sync = 1 << 50 })
	ok(b, device.SyncFleet(b.Context()))
	for b.Loop() {
		b.StopTimer()
		device.forget(from)
		b.StartTimer()
		ok(b, device.SyncFleet(b.Context()))
	}
	b.StopTimer()
	if device.now().Digest().Hash() != to.Digest().Hash() {
		b.Error("not compared")
	}
	b.ReportMetric(float64(len(enc)), "bytes")
	ok(b, device.Close())
}
