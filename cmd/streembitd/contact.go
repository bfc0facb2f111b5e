// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport/p2p"
)

// standingMember is the standing of who belongs to the fleet.
const standingMember = "member"

// merge takes in what others know of the fleet.
func (p *program) merge(b fleet.Bundle) (*fleet.Fleet, error) {
	before := p.members.get()
	f, err := p.members.merge(b)
	if p.desk != nil {
		if errors.Is(err, fleet.ErrFork) {
			p.desk.policy.forked(b, f.ID())
		}
		if f.Digest().Hash() != before.Digest().Hash() {
			p.desk.policy.poke() // a policy may have come for claims that wait
		}
	}
	return f, err
}

// Times of asking hubs about the fleet. In between, what changes comes by itself over connections that are open.
const (
	contactFirst = 2 * time.Second
	contactLast  = 5 * time.Minute
	contactLimit = time.Minute
)

// keepContact compares the fleet with the hubs at the start, now and then, and when nothing can be published, until ctx ends: a device that was off
// line learns what happened, even if it has nothing to publish, and one that was put out learns why nobody speaks with it. That one goes on
// asking, slowly: an operator may take it back.
func (p *program) keepContact(ctx context.Context) error {
	pause := contactFirst // while there is doubt
	for {
		last, err := time.Now(), p.contact(ctx)
		doubt, wait := p.doubt, contactLast
		if err == nil {
			pause = contactFirst
		} else {
			doubt, wait = nil, pause
			pause = min(2*pause, contactLast)
		}
		t := time.NewTimer(wait/2 + rand.N(wait)) // a site's devices lose a hub all at once, and must not come back as one
		select {
		case <-t.C:
		case <-doubt:
			t.Reset(max(0, contactFirst-time.Since(last)) + rand.N(contactFirst/2))
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// doubtful has the hubs asked soon, since something failed that should not. It does not wait.
func (p *program) doubtful() {
	select {
	case p.doubt <- struct{}{}:
	default:
	}
}

func (p *program) contact(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, contactLimit)
	defer cancel()
	err := p.node.SyncFleet(ctx)
	if ctx.Err() == nil {
		p.said.hear(err)
	}
	if err != nil {
		p.logger.Debug("fleet not compared with hubs", "err", err)
	}
	return err
}

// hubWords is what the hubs say of this member while none of them takes it for one. It is no proof, since a hub may lie or know less, so that it is
// shown and nothing else follows. Safe for concurrent use.
type hubWords struct {
	mu       sync.Mutex
	standing string
	text     string
}

func (h *hubWords) hear(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if se, ok := errors.AsType[*p2p.StandingError](err); ok {
		h.standing, h.text = se.Standing.String(), se.Error()
	} else if err == nil {
		h.standing, h.text = "", ""
	}
}

func (h *hubWords) say() (standing, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.standing, h.text
}
