// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"cmp"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// chainOf finds the chain that has the tag among those of the device's present key and its former ones.
func (o *Options) chainOf(stream string, inc journal.Incarnation, tag [8]byte) (c journal.Chain, ours bool) {
	for _, device := range append([]edge.ID{o.Signer.ID()}, o.Former...) {
		c = journal.Chain{Fleet: o.Fleet, Device: device, Stream: stream, Incarnation: inc}
		if tagOf(c) == tag {
			return c, true
		}
	}
	return journal.Chain{}, false
}

// End is the last segment of a chain that is written no more.
type End struct {
	Chain journal.Chain
	journal.Link
	Pending bool // something of it is not done yet: not all hubs that count know how far it reaches
}

// Ends returns the ends of the chains of a former key as far as the log still has them: those with something pending first, and the newest first.
func (b *Outbox) Ends(former edge.ID) []End {
	b.mu.Lock()
	defer b.mu.Unlock()
	chains := slices.DeleteFunc(slices.Clone(b.ring), func(c *chain) bool { return c.id.Device != former || c.tip == nil })
	slices.SortFunc(chains, func(a, b *chain) int {
		return cmp.Or(cmp.Compare(min(1, len(b.items)), min(1, len(a.items))), cmp.Compare(b.order, a.order))
	})
	out := make([]End, 0, len(chains))
	for _, c := range chains {
		out = append(out, End{c.id, *c.tip, len(c.items) > 0})
	}
	return out
}
