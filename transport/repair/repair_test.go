// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/transporttest"
)

// chains makes segments of so many chains.
func chains(t *testing.T, w *transporttest.World, n, each int) (segs []*journal.Segment) {
	t.Helper()
	for i := range n {
		segs = append(segs, w.Chain(t, w.Devices[i%len(w.Devices)], fmt.Sprintf("stream-%d", i)).Many(each)...)
	}
	return segs
}

// TestHalfOfTheHubsReplacedFourTimes: the device is gone for good, and four times half of forty hubs are replaced by empty ones.
func TestHalfOfTheHubsReplacedFourTimes(t *testing.T) {
	t.Run("repair", func(t *testing.T) { halves(t, true) })
	t.Run("control: no repair", func(t *testing.T) { halves(t, false) })
}

// half picks half of the hubs: in the first two rounds those that were there at the beginning, so that after them nobody has what was not repaired.
func (r *rig) half(round int) (out []edge.ID) {
	if round < 2 {
		for _, k := range r.Hubs[round*len(r.Hubs)/2:][:len(r.Hubs)/2] {
			out = append(out, k.ID())
		}
		return out
	}
	out = slices.Collect(maps.Keys(r.hubs))
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:len(out)/2]
}

func halves(t *testing.T, repairing bool) {
	const hubs = 40
	w := transporttest.NewWorld(t, hubs, 1)
	segs := chains(t, w, 20, journal.BucketSize/4)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		r.publish(t, segs...)
		if repairing {
			r.repairAll(t)
		}
		for round := range 4 {
			gone := r.half(round)
			fresh := map[edge.ID]*hub{}
			for _, id := range gone {
				h := r.replace(t, id)
				fresh[h.key.ID()] = h
			}
			copies, _, bytes := r.missing(t)
			var before int64
			for _, h := range r.hubs {
				before += h.counted.bytes.Load()
			}
			if !repairing {
				continue
			}
			for _, h := range fresh {
				r.repair(t, h)
			}
			for _, h := range r.hubs {
				h.Kick()
			}
			took := r.whole(t, time.Hour)
			var after int64
			for _, h := range r.hubs {
				after += h.counted.bytes.Load()
			}
			ratio := float64(after-before) / float64(bytes)
			t.Logf("round %d: %d copies, %d bytes were missing, back after %s, bytes fetched / missing %.3f", round+1, copies, bytes, took, ratio)
			if ratio > 1.05 {
				t.Errorf("round %d: %.3f times the bytes that were missing were fetched", round+1, ratio)
			}
		}
		_, lost, _ := r.missing(t)
		t.Logf("%d of %d segments lost", lost, len(segs))
		if repairing && lost > 0 || !repairing && lost == 0 {
			t.Errorf("%d of %d segments lost, repair %t", lost, len(segs), repairing)
		}
	})
}
