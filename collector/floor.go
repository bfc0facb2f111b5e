// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/transport"
)

// What a hub says that it let go is its word alone: nothing signed by the device is left. So one hub's floor neither hides what others hold nor
// makes a chain longer; it only explains. What a majority of the hubs to which the segments belong let go counts as gone: as many as it takes to
// publish.

// letGo is the part of a chain that hubs held once.
type letGo struct {
	floor uint64 // all below; 0 = nothing
	past  transport.Past
}

// reason says why segments below the floor are missing.
func (g letGo) reason() string { return letGoWords + g.past.String() }

const letGoWords = "let go by the hubs: "

// gone returns what a majority of the hubs that it belonged to has let go.
func (t *target) gone(hubs []edge.ID) letGo {
	claims := slices.DeleteFunc(slices.Clone(t.claims), func(c claim) bool { return c.floor == 0 || !slices.Contains(hubs, c.hub) })
	slices.SortStableFunc(claims, func(a, b claim) int { return cmp.Compare(b.floor, a.floor) })
	for i, c := range claims {
		if i > 0 && c.floor == claims[i-1].floor {
			continue
		}
		place, agree := transport.Place(t.chain.Bucket(c.floor-1).Key(), hubs), 0
		for _, o := range claims {
			if o.floor >= c.floor && slices.Contains(place, o.hub) {
				agree++
			}
		}
		if 2*agree > len(place) {
			return letGo{c.floor, c.past}
		}
	}
	return letGo{}
}

// highest returns the claim with the highest floor.
func (t *target) highest() claim {
	var out claim
	for _, c := range t.claims {
		if c.floor > out.floor {
			out = c
		}
	}
	return out
}

// whyMissing splits a run that no hub claims by the reasons for it.
func (p *pull) whyMissing(span transport.Span, each func(transport.Span, string)) {
	if f := p.gone.floor; span.First < f {
		each(transport.Span{First: span.First, Last: min(span.Last, f-1)}, p.gone.reason())
		if span.Last < f {
			return
		}
		span.First = f
	}
	high := p.t.highest()
	if span.First < high.floor {
		why := p.r.absent() + "; hub " + p.r.name(high.hub) + " says that it let it go: " + high.past.String()
		each(transport.Span{First: span.First, Last: min(span.Last, high.floor-1)}, why)
		if span.Last < high.floor {
			return
		}
		span.First = high.floor
	}
	each(span, p.r.absent())
}
