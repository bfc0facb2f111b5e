// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/live"
)

// tap is what the agent hands readings to as they are taken: the rules, and those who watch. nil: neither is there.
func (p *program) tap() func([]edge.Reading) {
	if p.directs() {
		p.feed = live.NewFeed(0)
	}
	switch feed, rules := p.feed, p.rules; {
	case feed == nil && rules == nil:
		return nil
	case feed == nil:
		return rules.Offer
	case rules == nil:
		return feed.Offer
	default:
		return func(r []edge.Reading) { rules.Offer(r); feed.Offer(r) }
	}
}
