// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// SyncFleet compares the fleet with all connected hubs, and dials those of the bundle when none is: what they know comes by Options.Merge, and they get
// what this node knows. nil means that at least one hub and this node know the same now. An error may hold a *StandingError: this node is no member.
func (n *Node) SyncFleet(ctx context.Context) error {
	if !n.begin() {
		return fmt.Errorf("p2p: comparing fleets: %w", ErrClosed)
	}
	defer n.tasks.Done()
	hubs := n.connectedHubs()
	if len(hubs) == 0 {
		if err := n.dialBootstrap(ctx); err != nil {
			return err
		}
		hubs = n.connectedHubs()
	}
	if len(hubs) == 0 {
		if n.o.Store != nil {
			return nil // the only hub
		}
		return fmt.Errorf("p2p: comparing fleets: no hub is connected: %w", transport.ErrUnreachable)
	}
	var all sync.WaitGroup
	errs := make([]error, len(hubs))
	for i, p := range hubs {
		all.Go(func() { errs[i] = n.meet(ctx, p) })
	}
	all.Wait()
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errors.Join(errs...)
}

func (n *Node) connectedHubs() []peer.ID {
	var out []peer.ID
	for _, p := range n.parts.host.Network().Peers() {
		if n.isHub(p) {
			out = append(out, p)
		}
	}
	return out
}

// OfferTo offers the whole fleet, as this node knows it, to an unclaimed device, whose grant is in it. The approval proves that an operator has seen the
// device's code. nil means that the device is claimed. A *transport.Refusal says why it is not.
func (n *Node) OfferTo(ctx context.Context, to Found, a enroll.Approval) error {
	if !n.begin() {
		return fmt.Errorf("p2p: offering the fleet: %w", ErrClosed)
	}
	defer n.tasks.Done()
	addrs, err := parseAddrs(to.Addrs)
	if err != nil {
		return err
	}
	p := peerID(to.ID)
	defer n.parts.guard.call(p)()
	if err := n.connect(ctx, peer.AddrInfo{ID: p, Addrs: addrs}); err != nil {
		return fmt.Errorf("p2p: offering the fleet to %s: %w: %w", to.ID.Short(), transport.ErrUnreachable, err)
	}
	t, err := openTalk(ctx, n.parts.host, p)
	if err != nil {
		return err
	}
	defer func() { _ = t.s.Reset() }()
	defer t.during(ctx)()
	if err := t.within(talkLimit); err != nil {
		return err
	}
	err = t.say(askOffer, a)
	if err == nil {
		err = t.settled(to.ID)
	}
	if err == nil {
		err = t.give(n.o.Fleet().Delta(fleet.Digest{}))
	}
	if err == nil {
		err = t.settled(to.ID)
	}
	if err != nil {
		return fmt.Errorf("p2p: offering the fleet to %s: %w", to.ID.Short(), errors.Join(err, ctx.Err()))
	}
	return nil
}

// Claims returns the queue of a hub, oldest first. For operators.
func (n *Node) Claims(ctx context.Context, hub edge.ID) ([]Pending, error) {
	var all []Pending
	err := n.atDesk(ctx, hub, func(t *talk) error {
		if err := t.say(askClaims, nil); err != nil {
			return err
		}
		return t.parts(tellClaim, hub, func(body []byte) error {
			var p Pending
			if err := journal.Decode(body, &p); err != nil {
				return fmt.Errorf("p2p: reading claim: %w: %w", ErrFrame, err)
			}
			if !plain(p.Claim.Name) {
				return fmt.Errorf("p2p: reading claim: its name is not text: %w", ErrFrame)
			}
			all = append(all, p)
			return nil
		})
	})
	return all, err
}

// DropClaim removes a device's claim from a hub's queue. For operators.
func (n *Node) DropClaim(ctx context.Context, hub, device edge.ID) error {
	return n.atDesk(ctx, hub, func(t *talk) error {
		if err := t.say(askDrop, device); err != nil {
			return err
		}
		return t.settled(hub)
	})
}

// Deposit leaves an approval at a hub until its device asks for it. For operators.
func (n *Node) Deposit(ctx context.Context, hub edge.ID, a enroll.Approval) error {
	return n.atDesk(ctx, hub, func(t *talk) error {
		if err := t.say(askDeposit, a); err != nil {
			return err
		}
		return t.settled(hub)
	})
}

// atDesk speaks with a hub about its queue.
func (n *Node) atDesk(ctx context.Context, hub edge.ID, speak func(*talk) error) error {
	if !n.begin() {
		return fmt.Errorf("p2p: asking hub %s: %w", hub.Short(), ErrClosed)
	}
	defer n.tasks.Done()
	if err := n.reach(ctx, hub); err != nil {
		return err
	}
	t, err := openTalk(ctx, n.parts.host, peerID(hub))
	if err != nil {
		return err
	}
	defer func() { _ = t.s.Reset() }()
	defer t.during(ctx)()
	if err := t.within(talkLimit); err != nil {
		return err
	}
	if err := speak(t); err != nil {
		return fmt.Errorf("p2p: asking hub %s: %w", hub.Short(), errors.Join(err, ctx.Err()))
	}
	return nil
}
