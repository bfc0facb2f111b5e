// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/ota"
)

// Tally counts the devices of the waves that have begun.
type Tally struct {
	Reached int   // devices
	Healthy int   // that run the release, committed
	Failed  int   // that went back from it or refused it
	Since   int64 // ms since 1970: when so many were healthy as the wave asks for; 0 = they are not
}

// Seen is when who watches a rollout first saw a device at a version, in ms since 1970: for those whose clock does not tell. A device that has no clock, or one
// that runs ahead, would else never have been healthy for any time.
type Seen map[Sight]int64

// Sight is a device and what it runs.
type Sight struct {
	Device  edge.ID
	Version ota.Version
}

// Date puts the watcher's time into progress that has none, or one that is still to come.
func (s Seen) Date(said map[edge.ID]ota.Progress, now int64) {
	for id, p := range said {
		if p.At > 0 && p.At <= now {
			continue
		}
		at := Sight{id, p.Version}
		if _, known := s[at]; !known {
			s[at] = now
		}
		p.At = s[at]
		said[id] = p
	}
}

// Count looks at what the devices say of themselves, by their ids. now is in ms since 1970.
func (r *Rollout) Count(devices []fleet.Grant, said map[edge.ID]ota.Progress, now int64) Tally {
	var t Tally
	var healthy []int64
	for i := range devices {
		if !r.Reaches(&devices[i]) {
			continue
		}
		t.Reached++
		p := said[devices[i].Member]
		switch {
		case p.Version == r.Release && (p.Stage == ota.Idle || p.Stage == ota.Committed):
			at := p.At
			if at <= 0 || at > now { // see Seen
				at = now
			}
			healthy = append(healthy, max(at, r.Since))
		case p.Wanted == r.Release && (p.Stage == ota.RolledBack || p.Stage == ota.Refused):
			t.Failed++
		}
	}
	t.Healthy = len(healthy)
	slices.Sort(healthy)
	switch need := r.need(t.Reached); {
	case need == 0:
		t.Since = max(r.Since, 1)
	case t.Healthy >= need:
		t.Since = max(healthy[need-1], 1)
	}
	return t
}

// need is how many of so many devices must be healthy, rounded up.
func (r *Rollout) need(reached int) int { return (reached*r.Waves[r.Reached].Healthy + 99) / 100 }

// Advance returns the next rollout if the last wave is healthy and has been for its soak time, and in any case why or why not. A rollout that is paused, goes back or
// has reached its last wave stays, and so does one of which too many have failed for the wave ever to become healthy: an operator decides.
func (r *Rollout) Advance(t Tally, now time.Time) (next Rollout, moved bool, why string) {
	w := r.Waves[r.Reached]
	soaked := time.Duration(now.UnixMilli()-t.Since) * time.Millisecond
	soak := time.Duration(w.Soak) * time.Millisecond
	switch {
	case r.Back:
		return *r, false, "it goes back to " + string(r.Previous)
	case r.Paused:
		return *r, false, "it is paused"
	case t.Failed > 0 && t.Reached-t.Failed < r.need(t.Reached):
		return *r, false, fmt.Sprintf("%d of %d devices failed: it goes no further until an operator looks", t.Failed, t.Reached)
	case t.Since == 0:
		return *r, false, fmt.Sprintf("%d of %d devices run it, %d must", t.Healthy, t.Reached, r.need(t.Reached))
	case soaked < soak:
		return *r, false, fmt.Sprintf("healthy, %v of %v", max(soaked, 0).Round(time.Second), soak)
	case r.Reached == len(r.Waves)-1:
		return *r, false, "it has reached its last wave"
	}
	next = *r
	next.Reached++
	next.Since = now.UnixMilli()
	return next, true, fmt.Sprintf("wave %d of %d begins", next.Reached+1, len(r.Waves))
}

// Done reports whether the last wave is healthy for as long as it must be.
func (r *Rollout) Done(t Tally, now time.Time) bool {
	return !r.Back && r.Reached == len(r.Waves)-1 && t.Since != 0 && now.UnixMilli()-t.Since >= r.Waves[r.Reached].Soak
}
