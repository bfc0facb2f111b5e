// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/transport"
)

// FuzzClaims plays what two hubs say, in any order and however wrong, against a model that counts single segments: a floor takes away what is below it, for
// good, and of that hub alone.
func FuzzClaims(f *testing.F) {
	f.Add([]byte{0, 0, 0, 63, 0, 1, 10, 70, 0, 0, 30, 40, 0, 20})
	f.Add([]byte{0, 60, 0, 5, 0, 0, 5, 60, 1, 9, 9, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		const seqs = 96
		var c collector.Claims
		hubs := []edge.ID{{1}, {2}}
		var held [2][seqs]bool
		var floor [2]uint64
		for ; len(in) >= 4; in = in[4:] {
			who, first, last := int(in[0]%2), uint64(in[1]%seqs), uint64(in[2]%seqs)
			h := transport.Held{Spans: []transport.Span{{First: first, Last: last}}, Floor: uint64(in[3] % seqs)}
			if in[3]%3 != 0 {
				h.Floor = 0
			}
			c.Add(hubs[who], h)
			floor[who] = max(floor[who], h.Floor)
			for seq := range uint64(seqs) {
				held[who][seq] = (held[who][seq] || first <= seq && seq <= last) && seq >= floor[who]
			}
		}
		checkClaims(t, &c, hubs, held[:])
	})
}

func checkClaims[T ~[96]bool](t *testing.T, c *collector.Claims, hubs []edge.ID, held []T) {
	t.Helper()
	const none = 1 << 20
	next, end := uint64(none), uint64(0)
	for i := range uint64(96) {
		if held[0][i] || held[1][i] {
			end = i + 1
		}
	}
	if c.End() != end {
		t.Fatalf("end %d, want %d", c.End(), end)
	}
	for seq := uint64(95); seq < 96; seq-- {
		for who, hub := range hubs {
			if c.Holds(hub, seq) != held[who][seq] {
				t.Fatalf("hub %d holds %d: %v, want %v", who, seq, c.Holds(hub, seq), held[who][seq])
			}
		}
		if held[0][seq] || held[1][seq] {
			next = seq
		}
		if got, ok := c.Next(seq); ok != (next != none) || ok && got != next {
			t.Fatalf("next of %d: %d %v, want %d", seq, got, ok, next)
		}
	}
	before := uint64(none)
	for seq := range uint64(97) {
		if got, ok := c.Before(seq); ok != (before != none) || ok && got != before {
			t.Fatalf("before %d: %d %v, want %d", seq, got, ok, before)
		}
		if seq < 96 && (held[0][seq] || held[1][seq]) {
			before = seq
		}
	}
}
