// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// Receipt says where a segment is durable. It is a value; ask it, do not change it.
type Receipt struct {
	Targets []fleet.Grant // the hubs that its bucket belongs to, from the signed list
	Acked   []edge.ID     // those that fsynced it
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

// Complete reports whether every hub of the bucket has it.
func (r Receipt) Complete() bool { return len(r.Acked) == len(r.Targets) }

func (r Receipt) ids() []edge.ID {
	ids := make([]edge.ID, 0, len(r.Targets))
	for _, t := range r.Targets {
		ids = append(ids, t.Member)
	}
	return ids
}

// sites counts the different site labels of the hubs; hubs without a label count as one site.
func (r Receipt) sites(ids []edge.ID) int {
	seen := map[string]bool{}
	for _, t := range r.Targets {
		if slices.Contains(ids, t.Member) {
			seen[t.Site] = true
		}
	}
	return len(seen)
}
