// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/streembit/edge"
	"github.com/streembit/edge/transport"
)

// Claims is what hubs claim of one chain.
type Claims struct{ t target }

// Add is what a survey does with an answer.
func (c *Claims) Add(hub edge.ID, h transport.Held) { c.t.add(hub, h) }

// Next returns the first seq at or after from that is claimed.
func (c *Claims) Next(from uint64) (uint64, bool) { return c.t.next(from) }

// Before returns the last seq below end that is claimed.
func (c *Claims) Before(end uint64) (uint64, bool) { return c.t.before(end) }

// End returns one more than the highest seq that is claimed.
func (c *Claims) End() uint64 { return c.t.end() }

// Holds reports whether a hub claims a seq.
func (c *Claims) Holds(hub edge.ID, seq uint64) bool {
	for _, cl := range c.t.holders(transport.Span{First: seq, Last: seq}, nil) {
		if cl.hub == hub {
			return true
		}
	}
	return false
}

// Mine reports whether a device is pulled by one of those who are there.
func Mine(self string, here []string, device edge.ID) bool {
	return (&share{self: self, here: here}).mine(device)
}
