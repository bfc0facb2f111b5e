// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// TestPullSpreads: one long chain is read from all who hold it, and each segment once.
func TestPullSpreads(t *testing.T) {
	w := newWorld(5, 1)
	d := w.epochs(24)
	sink := newMemory()
	r := w.pull(t, sink)
	same(t, sink.rows, w.made)
	total := 0
	for _, h := range w.hubs {
		total += w.served[h]
		if n := w.served[h]; n < journal.BucketSize || n > 3*len(d.all)/4 { // how much each gives is a matter of how fast it is
			t.Errorf("hub %s gave %d of %d segments", h.Short(), n, len(d.all))
		}
	}
	if total > len(d.all)+5 || !r.Complete() { // each may be made to show its last one first
		t.Errorf("%d segments were given for %d: %s", total, len(d.all), r)
	}
}

// TestPullAroundFrozen: a hub that takes questions and never answers costs moments, not minutes, and is named.
func TestPullAroundFrozen(t *testing.T) {
	for name, freeze := range map[string]func(w *world){
		"from the beginning": func(w *world) { w.frozen[w.hubs[1]] = true },
		"after a while":      func(w *world) { w.tires[w.hubs[1]] = 1 },
		"after the survey":   func(w *world) { w.mute[w.hubs[1]] = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(3, 1)
				d := w.epochs(18) // more than is believed without a proof
				freeze(w)
				sink, began := newMemory(), time.Now()
				r := w.pull(t, sink)
				if took := time.Since(began); took > 30*time.Second || !r.Complete() || r.Segments != uint64(len(d.all)) {
					t.Errorf("after %v: %s", took, r)
				}
				same(t, sink.rows, w.made)
				if name == "after a while" && w.stuck[w.hubs[1]] == 0 {
					return // the others were faster, and nobody has noticed
				}
				if h := r.Hubs[1]; h.Err == nil || !strings.Contains(r.String(), "hub hub-1 (") {
					t.Errorf("the frozen hub is not named: %s", r)
				}
			})
		})
	}
}

// TestPullForgetful: a hub that acknowledged and dropped what it was given is named, and what the others hold comes.
func TestPullForgetful(t *testing.T) {
	w := newWorld(3, 1)
	d := w.epochs(4)
	w.remove(d.chain(), 0, 99, w.hubs[2])
	r := w.pull(t, newMemory())
	if !r.Complete() || r.BadCount != 0 || r.Hubs[2].Lacks != 100 || r.Hubs[0].Lacks != 0 || !strings.Contains(r.String(), "lacks 100 segments") {
		t.Errorf("report: %s", r)
	}
	// It also hides what it lacks.
	w.claims[w.hubs[2]] = []transport.Held{{Chain: d.chain(), Spans: []transport.Span{{First: 0, Last: 255}}}}
	if r := w.pull(t, newMemory()); !r.Complete() || r.Segments != 256 || r.Hubs[2].Lacks != 0 {
		t.Errorf("report: %s", r)
	}
	// Who asks it, because the others are gone, is told so.
	w.down[w.hubs[0]], w.down[w.hubs[1]] = transport.ErrUnreachable, transport.ErrUnreachable
	if r := w.pull(t, newMemory()); r.Complete() || r.Hubs[2].Withheld != 100 || !strings.Contains(r.String(), "did not send 100 segments that it says it holds") {
		t.Errorf("report: %s", r)
	}
}

// TestPullAgainstManyClaims: a hub claims a million chains of a device, and a million runs of one; the others' come, with few questions and little memory.
func TestPullAgainstManyClaims(t *testing.T) {
	w := newWorld(3, 1)
	d := w.epochs(4)
	claims := make([]transport.Held, 0, 1<<20)
	for i := range 1 << 20 {
		c := d.chain()
		c.Incarnation = journal.Incarnation{1, byte(i), byte(i >> 8), byte(i >> 16)}
		claims = append(claims, transport.Held{Chain: c, Spans: []transport.Span{{First: 0, Last: 1 << 40}}})
	}
	spans := make([]transport.Span, 1<<20)
	for i := range spans {
		spans[i] = transport.Span{First: uint64(2 * i), Last: uint64(2 * i)}
	}
	w.claims[w.hubs[0]] = append(claims, transport.Held{Chain: d.chain(), Spans: spans})
	before := heap()
	sink := newMemory()
	r := w.pull(t, sink)
	if r.Missing != 0 || r.BadCount < 256 || r.Verified != uint64(len(w.made)) {
		t.Errorf("%d missing, %d bad, %d readings of %d", r.Missing, r.BadCount, r.Verified, len(w.made))
	}
	if w.asked > 3000 {
		t.Errorf("%d questions for 256 segments", w.asked)
	}
	same(t, sink.rows, w.made)
	if after := heap(); after > before+64<<20 {
		t.Errorf("%d bytes are kept", after-before)
	}
	runtime.KeepAlive(claims)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestPullLooksUpFewHeads: a look-up in the DHT for each of many chains is made only where hubs that have answered may not know.
func TestPullLooksUpFewHeads(t *testing.T) {
	w := newWorld(5, 1)
	d := w.device(0)
	for range 100 {
		d.life("main")
		w.publish(d.epoch(nil))
	}
	w.pull(t, newMemory())
	if w.looked != 0 {
		t.Errorf("%d look-ups though all hubs have answered", w.looked)
	}
	w.down[w.hubs[0]] = transport.ErrUnreachable
	w.pull(t, newMemory())
	if w.looked != 0 {
		t.Errorf("%d look-ups though one hub of each majority has answered and all agree", w.looked)
	}
	w.remove(d.chain(), 0, 0, w.hubs[1])
	w.pull(t, newMemory())
	if w.looked != 1 {
		t.Errorf("%d look-ups though the hubs disagree about one chain", w.looked)
	}
	w.down[w.hubs[2]], w.down[w.hubs[3]] = transport.ErrUnreachable, transport.ErrUnreachable
	w.looked = 0
	w.pull(t, newMemory())
	if w.looked != 100 {
		t.Errorf("%d look-ups though three of five hubs are away", w.looked)
	}
}

// TestPullLearnsOfTheFleet: who is enrolled while a pull runs is pulled by it.
func TestPullLearnsOfTheFleet(t *testing.T) {
	w := newWorld(3, 1)
	d := w.epochs(1)
	late := w.device(5)
	made := w.made
	w.made = map[string]bool{}
	w.fleet = w.enrolled(5)
	known := w.fleet
	late.epoch(nil)
	late.readings(5, 1)
	w.publish(late.all...)
	for k := range made {
		w.made[k] = true
	}
	w.fleet = must(w.fleet.Revoke(w.author(), time.Now(), late.key.ID(), nil, "not yet"))
	sink := &changing{memory: newMemory(), do: func() { w.change(known) }}
	if r := w.pull(t, sink); r.Segments != uint64(len(d.all)+6) || !r.Complete() {
		t.Errorf("report: %s", r)
	}
	same(t, sink.rows, w.made)
}

// TestPullRevokedHub: a hub that is revoked while a pull runs is asked no more.
func TestPullRevokedHub(t *testing.T) {
	w := newWorld(2, 1)
	d := w.epochs(40)
	w.remove(d.chain(), 1024, 2559, w.hubs[0])
	var served int
	sink := &changing{memory: newMemory(), do: func() {
		w.change(must(w.fleet.Revoke(w.author(), time.Now(), w.hubs[1], nil, "stolen")))
		w.mu.Lock()
		served = w.served[w.hubs[1]]
		w.mu.Unlock()
	}}
	r := w.pull(t, sink)
	if n := w.served[w.hubs[1]] - served; n > 6*journal.BucketSize { // what was under way
		t.Errorf("%d segments came from a revoked hub", n)
	}
	if r.Missing == 0 {
		t.Errorf("it alone had half of the chain, and nothing is missing: the test proves nothing: %s", r)
	}
}

// TestPullManyChains: what is kept for a chain between pulls is small, however large a reader's buffers are.
func TestPullManyChains(t *testing.T) {
	const chains = 300
	w := newWorld(1, 1)
	d := w.device(0)
	d.mute = true
	for range chains {
		d.life("main")
		d.epoch(nil)
		d.mute = true // nobody compares values here
		d.readings(1, 200)
		w.publish(d.all...)
	}
	d.all = nil
	before := heap()
	c := w.collector(t, &discard{})
	r, err := c.Pull(t.Context())
	if err != nil || r.Segments != 2*chains {
		t.Fatalf("%v: %s", err, r)
	}
	after := heap()
	used := after - min(before, after)
	t.Logf("%.1f kB a chain", float64(used)/chains/1e3)
	if used > chains*50_000 {
		t.Errorf("%d bytes are kept for %d chains", used, chains)
	}
	runtime.KeepAlive(c)
}
