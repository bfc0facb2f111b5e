// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
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
	contactFirst = time.Second
	contactLast  = 5 * time.Minute
	contactLimit = time.Minute
)

// keepContact compares the fleet with the hubs at the start and now and then, until ctx ends: a device that was off line learns what happened, even
// if it has nothing to publish. Who was put out goes on asking, slowly: an operator may take it back.
func (p *program) keepContact(ctx context.Context) error {
	pause := contactFirst
	for {
		err := p.contact(ctx)
		if err == nil || errors.As(err, new(*p2p.StandingError)) {
			pause = contactLast
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		pause = min(2*pause, contactLast)
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

// hubWords is what the hubs say of this member, which is no proof: a hub may lie or know less. Safe for concurrent use.
type hubWords struct {
	mu   sync.Mutex
	text string
}

func (h *hubWords) hear(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if se, ok := errors.AsType[*p2p.StandingError](err); ok {
		h.text = se.Error()
	} else if err == nil {
		h.text = ""
	}
}

func (h *hubWords) say() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text
}
