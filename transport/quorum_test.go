// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"testing"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
)

// TestReceipt: targets are given by the letter of each one's site, '-' being no label; acked names some by position.
func TestReceipt(t *testing.T) {
	const twenty = "abababababababababab"
	first := func(n int) (out []int) {
		for i := range n {
			out = append(out, i)
		}
		return out
	}
	for name, c := range map[string]struct {
		sites                            string
		acked                            []int
		need                             int
		published, forgettable, complete bool
	}{
		"no hubs":             {sites: "", need: 1, complete: true},
		"one hub, none":       {sites: "a", need: 1},
		"one hub":             {sites: "a", acked: first(1), need: 1, published: true, complete: true},
		"two hubs, one":       {sites: "ab", acked: first(1), need: 1, published: true},
		"two hubs":            {sites: "ab", acked: first(2), need: 1, published: true, forgettable: true, complete: true},
		"two hubs, one site":  {sites: "aa", acked: first(1), need: 1, published: true},
		"three hubs, one":     {sites: "abc", acked: first(1), need: 2},
		"three hubs, two":     {sites: "abc", acked: []int{0, 2}, need: 2, published: true, forgettable: true},
		"three hubs":          {sites: "abc", acked: first(3), need: 2, published: true, forgettable: true, complete: true},
		"five hubs, two":      {sites: "ababa", acked: first(2), need: 3},
		"five hubs, three":    {sites: "ababa", acked: []int{0, 1, 4}, need: 3, published: true, forgettable: true},
		"four hubs, two":      {sites: "abab", acked: first(2), need: 3},
		"twenty hubs, ten":    {sites: twenty, acked: first(10), need: 11},
		"twenty hubs, eleven": {sites: twenty, acked: first(11), need: 11, published: true, forgettable: true},

		"majority on one of two sites":   {sites: "aaab", acked: first(3), need: 3},
		"majority and the other site":    {sites: "aaab", acked: []int{0, 1, 3}, need: 3, published: true, forgettable: true},
		"all on one of two sites":        {sites: "aaabb", acked: first(3), need: 3},
		"one site only":                  {sites: "aaa", acked: first(2), need: 2, published: true, forgettable: true},
		"no labels":                      {sites: "---", acked: first(2), need: 2, published: true, forgettable: true},
		"unlabelled count as one site":   {sites: "--a", acked: first(2), need: 2},
		"labelled and unlabelled":        {sites: "--a", acked: []int{1, 2}, need: 2, published: true, forgettable: true},
		"three sites, two are enough":    {sites: "aabbc", acked: []int{0, 1, 2}, need: 3, published: true, forgettable: true},
		"three sites, one is too little": {sites: "aaabc", acked: first(3), need: 3},
	} {
		t.Run(name, func(t *testing.T) {
			ids := someHubs(len(c.sites))
			var r transport.Receipt
			for i, site := range c.sites {
				g := fleet.Grant{Member: ids[i], Site: string(site)}
				if site == '-' {
					g.Site = ""
				}
				r.Targets = append(r.Targets, g)
			}
			for _, i := range c.acked {
				r.Acked = append(r.Acked, ids[i])
			}
			if r.Need() != c.need || r.Published() != c.published || r.Forgettable() != c.forgettable || r.Complete() != c.complete {
				t.Errorf("need %d, published %v, forgettable %v, complete %v; want %d, %v, %v, %v",
					r.Need(), r.Published(), r.Forgettable(), r.Complete(), c.need, c.published, c.forgettable, c.complete)
			}
		})
	}
}
