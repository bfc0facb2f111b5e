// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

// TestKill kills the processes of one living fleet with SIGKILL, round after round, and starts them again.
func TestKill(t *testing.T) {
	tr := begin(t, "SIGKILL of device, hub, collector at random instants", 10, 300)
	tr.main = kills(tr, tr.rounds, true)
	tr.controlled = "hubs that keep segments in memory"
	tr.control = kills(tr, 4, false)
	tr.end()
}

// kills returns what a collector that runs for the first time gets from the hubs at the end, the device being gone. What the collector has that
// followed all the time, and was killed too, must be the same and is judged here; of a fleet whose hubs forget it is no part.
func kills(tr *trial, rounds int, durable bool) outcome {
	tr.Helper()
	s := swarm.New(tr, 3, atFullRate)
	live := filepath.Join(s.Dir, "live.db")
	s.Start(s.Hubs...)
	s.Start(s.Device)
	awaitMore(tr, s)
	if durable {
		s.Collect(live)
	}
	killed := map[string]int{}
	for round := range rounds {
		time.Sleep(tr.some(900 * time.Millisecond)) // the random instant
		for _, m := range victims(tr, s, round, durable) {
			s.Kill(m)
			killed[m.Name]++
			switch {
			case m == s.Reader:
				s.Collect(live)
				continue
			case m != s.Device && !durable:
				check(tr, os.RemoveAll(filepath.Join(m.State, "store")))
			}
			s.Start(m)
		}
		awaitMore(tr, s)
	}
	s.Kill(s.Device)
	check(tr, os.RemoveAll(s.Device.State))
	notes := s.Receipts()
	tr.Logf("killed %v; %d segments published", killed, len(notes))
	requireNoForks(tr, s, s.Hubs...)
	fresh := filepath.Join(s.Dir, "fresh.db")
	s.CollectOnce(fresh)
	o := compare(tr, notes, fresh)
	if durable {
		followed := awaitAll(tr, s, live)
		s.Kill(s.Reader)
		o.lost, o.twice = max(o.lost, followed.lost), max(o.twice, followed.twice)
	}
	for _, h := range s.Hubs {
		s.Kill(h)
	}
	return o
}

// victims are who dies in a round: each kind in its turn, and sometimes several at once. A control's hubs die in each round, its device too.
func victims(tr *trial, s *swarm.Swarm, round int, durable bool) []*swarm.Member {
	hub := s.Hubs[tr.rng.IntN(len(s.Hubs))]
	switch {
	case !durable:
		return []*swarm.Member{s.Device, s.Hubs[round%len(s.Hubs)]}
	case tr.rng.IntN(4) == 0:
		return []*swarm.Member{hub, s.Device, s.Reader}
	}
	return []*swarm.Member{[]*swarm.Member{s.Device, hub, s.Reader}[round%3]}
}

// awaitAll waits until the collector that follows has everything that was published, and compares.
func awaitAll(tr *trial, s *swarm.Swarm, db string) outcome {
	tr.Helper()
	notes := s.Receipts()
	var o outcome
	deadline := time.Now().Add(time.Minute)
	for {
		if o = compare(tr, notes, db); o.lost == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if o.lost > 0 {
		tr.Logf("the collector that was killed lacks %d readings: %s", o.lost, s.Reader.Log.Tail(5))
	}
	return o
}
