// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"bytes"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// Stats says how repair gets on. Counts are since the start.
type Stats struct {
	Running bool          // a round is under way
	Round   time.Time     // when the last one ended; zero = none has
	Lacking int           // segments that other hubs hold, or say so, and this one ought to
	Left    time.Duration // how long they take, as fast as the last ones came; 0 = nothing lacks, or not known yet
	Fetched uint64        // segments
	Bytes   uint64        // of them
	Failed  uint64        // fetches of a bucket that brought less than was promised
	Error   string        // of this hub's own store, in the last round
	Peers   []PeerStats   // by Hub
}

// PeerStats is what this hub has to do with another one.
type PeerStats struct {
	Hub      edge.ID
	Compared time.Time // last; zero = never
	Lacking  int       // segments that it had then and this hub had not
	Fetched  uint64    // segments
	Bytes    uint64    // of them
	Failed   uint64    // questions without an answer, and promises not kept
	Error    string    // of the last question, "" = it was answered
	Slow     bool      // it gave the last segments so slowly that others are asked before it
	Suspect  string    // why it is believed last, "" = it is believed
}

// Stats returns the counters.
func (r *Repairer) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	for _, p := range r.peers {
		s.Peers = append(s.Peers, p.stats)
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int { return bytes.Compare(a.Hub[:], b.Hub[:]) })
	return s
}

func (r *Repairer) finish(err error) {
	r.mu.Lock()
	r.stats.Running, r.stats.Round = false, time.Now()
	before := r.stats.Error
	r.stats.Error = ""
	if err != nil {
		r.stats.Error = err.Error()
	}
	r.mu.Unlock()
	if err != nil && err.Error() != before {
		r.log.Error("repair: this hub's store takes no copies", "err", err)
	}
}

// leave forgets all hubs: this one is none any more.
func (r *Repairer) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.peers)
	r.stats.Lacking, r.stats.Left = 0, 0
}

// pass is how far a round has come.
type pass struct {
	began   time.Time // of the last mending
	fetched uint64    // Stats.Fetched then
	lacking int       // that are still to be tried …
	left    int       // … and that could not be had

	fleet *fleet.Fleet // as it is now …
	hubs  []edge.ID    // … and its hubs
}

// start takes up the work of mending so many segments.
func (r *Repairer) start(g *pass, lacking int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g.began, g.fetched, g.lacking = time.Now(), r.stats.Fetched, lacking
	r.stats.Lacking, r.stats.Left = g.lacking+g.left, 0
}

// tried notes that a bucket is done, and how much of it could not be had.
func (r *Repairer) tried(g *pass, lacking, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g.lacking -= lacking
	g.left += left
	r.stats.Lacking, r.stats.Left = g.lacking+g.left, 0
	if n := r.stats.Fetched - g.fetched; n > 0 && g.lacking > 0 {
		r.stats.Left = time.Duration(float64(time.Since(g.began)) / float64(n) * float64(g.lacking))
	}
}
