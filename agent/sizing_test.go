// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

// weather makes n readings of a climate sensor's three quantities, one a second from reading first on, in the resolution of the chip.
func weather(first, n int) []edge.Reading {
	quantities := []edge.Quantity{{Name: "temperature", Unit: "Cel"}, {Name: "humidity", Unit: "%RH"}, {Name: "pressure", Unit: "Pa"}}
	start, step := []float64{21, 48, 100_650}, []float64{0.01, 0.05, 1}
	r := rand.New(rand.NewPCG(1, uint64(first)))
	out := make([]edge.Reading, n)
	for i := range out {
		q := (first + i) % 3
		start[q] += step[q] * float64(r.IntN(41)-20)
		mono := int64(first+i)*1000 + int64(r.IntN(4)) // a read begins some ms late
		out[i] = edge.Reading{Sensor: "outdoor", Sample: edge.Sample{Quantity: quantities[q], Value: start[q]}, At: edge.Instant{Mono: mono, Wall: 1_790_000_000_000 + mono}}
	}
	return out
}

// TestSizing holds the formulas of docs/operations.md, by which people size cards, uplinks and disks, against what device and hub write.
func TestSizing(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	key := w.Devices[0]
	box, _, err := outbox.Open(t.Context(), outbox.Options{Dir: t.TempDir(), Fleet: w.Fleet().ID(), Signer: key})
	check(t, err)
	defer box.Close()
	hub, err := store.Open(t.Context(), t.TempDir(), store.Options{Fleet: w.Fleet, Self: w.Hubs[0].ID()})
	check(t, err)
	defer hub.Close()
	readers, err := w.Fleet().Readers(key.ID(), "main")
	check(t, err)
	epoch, err := box.StartEpoch(t.Context(), "main", readers, journal.Stamp{Boot: journal.BootID{9}, At: edge.Instant{Mono: 1, Wall: time.Now().UnixMilli()}})
	check(t, err)
	check(t, hub.Put(t.Context(), epoch.Bytes()))
	within := func(what string, n int, got, want float64) {
		t.Helper()
		t.Logf("%4d readings: %s %.0f B, the formula says %.0f", n, what, got, want)
		if got > want*1.1 || got < want*0.9 {
			t.Errorf("%d readings: %s %.0f B, the formula says %.0f", n, what, got, want)
		}
	}
	within("epoch", len(readers), float64(len(epoch.Bytes())), 200+1250*float64(len(readers)))
	first := 0
	for _, n := range []int{10, 60, 100, 600, 1000} {
		const segments = 20
		card, disk, wire := box.Status().Bytes, hub.Stats().Bytes, 0
		for range segments {
			seg, err := box.Seal(context.Background(), "main", journal.BootID{9}, weather(first, n))
			check(t, err)
			check(t, hub.Put(t.Context(), seg.Bytes()))
			wire += len(seg.Bytes())
			first += n
		}
		segment := 520 + 8.5*float64(n)
		within("segment", n, float64(wire)/segments, segment)
		within("outbox", n, float64(box.Status().Bytes-card)/segments, segment+110)
		within("hub", n, float64(hub.Stats().Bytes-disk)/segments, segment+30)
	}
}
