// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
)

// TestPartition cuts the network in two, a device on each side; both go on. Then the hubs of the smaller side lose their disks and the network is
// healed: what was called published on the smaller side would be lost with them.
func TestPartition(t *testing.T) {
	tr := begin(t, "network cut in two, both go on; the minority's disks are lost; healed", 5, 60)
	minority := 0
	for range tr.rounds {
		o, n := partition(tr, byTheBook)
		tr.main.add(o)
		minority += n
	}
	if minority > 0 {
		tr.Errorf("%d segments were called published while a minority of their hubs had them", minority)
	}
	tr.controlled = "published with any hub's copy"
	tr.control, minority = partition(tr, anyHub)
	if minority == 0 {
		tr.Error("the control published nothing on a minority: the trial shows nothing")
	}
	tr.end()
}

// partition returns also how many segments were noted as published without a majority of their hubs holding them when the network was healed.
func partition(tr *trial, q quorum) (outcome, int) {
	tr.Helper()
	hubs := 3 + tr.rng.IntN(23) // up to 25: more hubs than copies
	few := 1 + tr.rng.IntN((hubs-1)/2)
	l := newLab(tr.T, plan{hubs: hubs, devices: 2})
	in, out := l.newDevice(0, q), l.newDevice(1, q)
	for _, d := range []*device{in, out} {
		d.seal(100)
		d.awaitPublished()
	}
	order := tr.rng.Perm(hubs)
	cut := []edge.ID{out.key.ID()}
	for _, i := range order[:few] {
		cut = append(cut, l.hub[i].key.ID())
	}
	l.net.Partition(cut...)
	before, wanted := len(out.receipts()), out.count
	in.seal(100)
	out.seal(100)
	time.Sleep(50*time.Millisecond + tr.some(300*time.Millisecond))
	if hubs-few >= majority(min(hubs, transport.MaxCopies)) && hubs <= transport.MaxCopies {
		in.awaitPublished() // its side has a majority of every bucket
	}
	swarm.WaitFor(tr, "the smaller side to have tried", func() error {
		if st := out.agent.Status(); st.Error == "" && len(out.receipts()) == before {
			return fmt.Errorf("nothing refused and nothing published of %d readings", out.count-wanted)
		}
		return nil
	})
	lone := alone(tr, l, in) + alone(tr, l, out)
	for _, i := range order[:few] {
		l.kill(l.hub[i])
		l.empty(l.hub[i])
	}
	for _, id := range cut {
		l.net.Heal(id)
	}
	for _, i := range order[:few] {
		l.revive(l.hub[i])
	}
	for _, d := range []*device{in, out} {
		d.awaitPublished()
		d.gone()
	}
	for _, h := range l.hub {
		if n := len(h.store.Forks(tr.Context())); n > 0 || h.store.Stats().Refused[transport.RefusedFork] > 0 {
			tr.Errorf("FORK: a hub has %d proofs of one", n)
		}
	}
	o, r := l.pull(in, out)
	if len(r.Forks) > 0 {
		tr.Errorf("FORK: the collector reports %v", r.Forks)
	}
	return o, lone
}

func majority(of int) int { return transport.Receipt{Targets: make([]fleet.Grant, of)}.Need() }

// alone counts a device's published segments that fewer hubs hold than a majority of their bucket's.
func alone(tr *trial, l *lab, d *device) (n int) {
	tr.Helper()
	for p := range published(tr, d.receipts()) {
		c, err := journal.ParseChain(l.world.Fleet().ID(), p.chain)
		check(tr, err)
		if l.holders(c, p.seq) < majority(min(len(l.hub), transport.MaxCopies)) {
			n++
		}
	}
	return n
}
