// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"sync"

	"github.com/streembit/edge/journal"
)

// agreement is what several sinks have of each chain. Hubs may let go no more than all of them have. Safe for concurrent use.
type agreement struct {
	mu   sync.Mutex
	have map[*Collector]map[journal.Chain]journal.Link // nil for a chain: nothing yet
}

// say notes what one sink has of a chain, and returns what all have; false while one has nothing.
func (a *agreement) say(c *Collector, chain journal.Chain, link journal.Link) (least journal.Link, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if own, counts := a.have[c]; counts && own[chain].Seq <= link.Seq {
		own[chain] = link
	}
	least = link
	for _, all := range a.have {
		l, has := all[chain]
		if !has {
			return journal.Link{}, false
		}
		if l.Seq < least.Seq {
			least = l
		}
	}
	return least, true
}

// leave lets the others agree without a sink.
func (a *agreement) leave(c *Collector) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.have, c)
}
