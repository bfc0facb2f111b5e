// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// Receipt says where a segment is durable. It is a value; ask it, do not change it.
type Receipt struct {
	Targets []fleet.Grant // the hubs that its bucket belongs to, from the signed list
	Acked   []edge.ID     // those that fsynced it
	Past    []edge.ID     // those that let its part of the chain go, and take it no more
	Waited  bool          // a hub was full, or gave the device no more of its share for the moment
	Errors  []error       // why others did not, a *Refusal or one that wraps ErrUnreachable
}

// Need is the number of hubs that make a segment published: a majority of its hubs. With one hub that hub; with two,
// one, because the device keeps its own copy until both have it.
func (r Receipt) Need() int {
	if len(r.Targets) <= 2 {
		return 1
	}
	return len(r.Targets)/2 + 1
}

// Published reports whether a majority has it and, where the hubs stand on two sites or more, two sites have it.
func (r Receipt) Published() bool {
	return len(r.Targets) > 0 && len(r.Acked) >= r.Need() && r.sites(r.Acked) >= min(2, r.sites(r.ids()), len(r.Acked))
}

// Forgettable reports whether the device may drop its own copy: published and on at least two hubs.
func (r Receipt) Forgettable() bool { return r.Published() && len(r.Acked) >= 2 }

// Gone reports whether the device may drop its own copy although too few hubs have one: enough of them have it, or say that it is past, which the device
// cannot change. Either they had it and its time was over, or it comes too late. One hub alone is not believed, unless there is no other.
func (r Receipt) Gone() bool {
	if len(r.Past) == 0 {
		return false
	}
	all := Receipt{Targets: r.Targets, Acked: slices.Concat(r.Acked, r.Past)}
	return all.Forgettable() || len(r.Targets) == 1
}

// Complete reports whether every hub of the bucket has it.
func (r Receipt) Complete() bool { return len(r.Acked) == len(r.Targets) }

// because adds why hubs do not have it.
func (r Receipt) because(errs []error) Receipt {
	r.Errors = errs
	for _, err := range errs {
		if why, ok := errors.AsType[*Refusal](err); ok && why.Reason == RefusedPast && slices.Contains(r.ids(), why.Hub) {
			r.Past = append(r.Past, why.Hub)
		}
	}
	return r
}

// Sites returns on how many sites the copies are, and on how many they could be; hubs without a label count as one site.
func (r Receipt) Sites() (copies, hubs int) { return r.sites(r.Acked), r.sites(r.ids()) }

func (r Receipt) ids() []edge.ID {
	ids := make([]edge.ID, 0, len(r.Targets))
	for _, t := range r.Targets {
		ids = append(ids, t.Member)
	}
	return ids
}

// sites counts the different site labels of the hubs.
func (r Receipt) sites(ids []edge.ID) int {
	seen := map[string]bool{}
	for _, t := range r.Targets {
		if slices.Contains(ids, t.Member) {
			seen[t.Site] = true
		}
	}
	return len(seen)
}
