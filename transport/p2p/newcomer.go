// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/semaphore"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// NewcomerOptions say who an unclaimed device is. Signer and Code are required.
type NewcomerOptions struct {
	Signer  journal.Signer // identity, the same that it will have as a member
	Secret  []byte         // as in Options
	Code    enroll.Code    // of this device: an offer must prove its secret
	Listen  []string       // multiaddrs; none = nobody can offer anything, it must claim or poll at hubs
	Offer   Offer          // nil = offers are refused
	MDNS    bool           // answer those on the LAN that look for devices (Discover); needs Listen
	Version string         // of the program, for people
	Logger  *slog.Logger   // nil = no log
}

// Newcomer is an unclaimed device on the network: it has no fleet, no DHT and no store, and speaks nothing but the fleet protocol, with the limits that
// strangers have at a hub. Safe for concurrent use. Close it before the same identity becomes a Node.
type Newcomer struct {
	o     NewcomerOptions
	self  edge.ID
	log   *slog.Logger
	parts *assembly
	mdns  io.Closer // nil = off

	*lifetime
	one *semaphore.Weighted // the offer that is looked at
}

// NewNewcomer starts it. ctx bounds the start only.
func NewNewcomer(ctx context.Context, o NewcomerOptions) (*Newcomer, error) {
	if o.Signer == nil || o.Code.Device != o.Signer.ID() {
		return nil, errors.New("p2p: starting newcomer: an identity and its own code are required")
	}
	own := Options{Secret: o.Secret, Logger: o.Logger}
	if err := own.defaults(); err != nil {
		return nil, err
	}
	key, err := newHostKey(o.Signer, own.Secret)
	if err != nil {
		return nil, err
	}
	listen, err := parseAddrs(o.Listen)
	if err != nil {
		return nil, err
	}
	n := &Newcomer{lifetime: newLifetime(), o: o, self: o.Signer.ID(), log: own.Logger, one: semaphore.NewWeighted(1)}
	if n.parts, err = assemble(assembling{key: key, member: func(peer.ID) bool { return false }}); err != nil {
		return nil, err
	}
	n.parts.host.Start()
	n.parts.host.SetStreamHandler(fleetProtocol, n.serve)
	if len(listen) > 0 {
		if err := n.parts.swarm.Listen(listen...); err != nil {
			return nil, errors.Join(fmt.Errorf("p2p: listening on %v: %w", o.Listen, err), n.Close())
		}
	}
	if o.MDNS && len(listen) > 0 {
		if n.mdns, err = announceNewcomer(n.life, func() Found { return Found{ID: n.self, Addrs: n.Addrs()} }, n.log); err != nil {
			n.log.Warn("not announced on the LAN, it can be enrolled by its code's addresses or at a hub", "err", err)
			n.mdns = nil
		}
	}
	return n, ctx.Err()
}

// Close ends all work, waits for it and frees the addresses. It may be called from no Offer.
func (n *Newcomer) Close() error {
	if !n.end() {
		return nil
	}
	var err error
	if n.mdns != nil {
		err = n.mdns.Close()
	}
	err = errors.Join(err, n.parts.close())
	n.tasks.Wait()
	return err
}

// ID returns the device's identity.
func (n *Newcomer) ID() edge.ID { return n.self }

// Addrs returns the multiaddrs under which others reach it, without the /p2p part.
func (n *Newcomer) Addrs() []string {
	return n.parts.addrs()
}

// serve answers hellos and offers of anybody.
func (n *Newcomer) serve(s network.Stream) {
	id, ok := memberID(s.Conn().RemotePeer())
	if !ok || !n.begin() {
		_ = s.Reset()
		return
	}
	defer n.tasks.Done()
	t := newTalk(s)
	t.restrain()
	defer t.during(n.life)()
	if err := n.answer(t, id); err != nil {
		_ = s.Reset()
		n.log.Debug("fleet stream ended", "peer", id, "err", err)
		return
	}
	_ = s.Close()
	_ = s.CloseRead()
}

func (n *Newcomer) answer(t *talk, from edge.ID) error {
	if err := t.within(strangerLimit); err != nil {
		return err
	}
	frame, err := readFrame(t.r, t.frame)
	if err != nil {
		return err
	}
	a, err := decodeAsk(frame)
	switch {
	case err != nil:
		return t.end(refuse(transport.RefusedInvalid, "%v", err)) // a reset would overtake it
	case a.Kind == askHello:
		return t.say(tellWelcome, welcome{Standing: Stranger})
	case a.Kind != askOffer || n.o.Offer == nil:
		return t.end(refuse(transport.RefusedNoRight, "this device belongs to no fleet yet"))
	}
	if err := a.Approval.Check(n.o.Code); err != nil {
		n.log.Warn("an offer of a fleet without proof was refused", "fleet", a.Approval.Fleet, "from", from, "err", err)
		return t.end(refuse(transport.RefusedInvalid, "%v", err))
	}
	if !n.one.TryAcquire(1) {
		return t.end(refuse(transport.RefusedBusy, "another offer is being looked at"))
	}
	defer n.one.Release(1)
	return n.takeOffer(t, from, a.Approval)
}

// takeOffer goes on with somebody who knows the code: the fleet may be large.
func (n *Newcomer) takeOffer(t *talk, from edge.ID, a enroll.Approval) error {
	t.frame, t.bundle = memberFrame, fleet.MaxBundle
	if err := errors.Join(t.within(talkLimit), t.end(nil)); err != nil {
		return err
	}
	b, err := t.take(from, nil)
	if err != nil {
		return err
	}
	err = n.o.Offer(n.life, a, b)
	if err != nil {
		err = refuse(transport.RefusedInvalid, "%v", err)
	}
	return t.end(err)
}

// ClaimAt makes a claim at a hub. nil means that the hub has queued it, or that the device is a member already: poll. A *transport.Refusal says why not.
func (n *Newcomer) ClaimAt(ctx context.Context, hub fleet.Bootstrap, claim enroll.Claim) error {
	return n.talkTo(ctx, hub, func(t *talk) error {
		if err := t.say(askClaim, claim); err != nil {
			return err
		}
		return t.settled(hub.ID)
	})
}

// PollApproval asks a hub whether the device is a member by now, and for the fleet if it is. What comes proves nothing by itself: check the approval by
// the code, or the fleet by the token's pins.
func (n *Newcomer) PollApproval(ctx context.Context, hub fleet.Bootstrap) (Reply, error) {
	var r Reply
	err := n.talkTo(ctx, hub, func(t *talk) error {
		var p pollAnswer
		if err := t.say(askPoll, nil); err != nil {
			return err
		}
		if err := t.hear(tellPoll, &p, hub.ID); err != nil {
			return err
		}
		if p.Standing == Revoked {
			return &StandingError{hub.ID, p.Standing}
		}
		b, err := t.take(hub.ID, nil)
		if err == nil && p.Standing == Member {
			r = Reply{Granted: true, Approval: p.Approval, Bundle: b}
		}
		return err
	})
	return r, err
}

// talkTo dials a hub for one conversation.
func (n *Newcomer) talkTo(ctx context.Context, hub fleet.Bootstrap, speak func(*talk) error) error {
	if !n.begin() {
		return fmt.Errorf("p2p: asking hub %s: %w", hub.ID.Short(), ErrClosed)
	}
	defer n.tasks.Done()
	addrs, err := parseAddrs(hub.Addrs)
	if err != nil {
		return err
	}
	p := peerID(hub.ID)
	defer n.parts.guard.call(p)()
	dial, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	n.parts.swarm.Backoff().Clear(p)
	if err := n.parts.host.Connect(dial, peer.AddrInfo{ID: p, Addrs: addrs}); err != nil {
		return fmt.Errorf("p2p: asking hub %s: %w: %w", hub.ID.Short(), transport.ErrUnreachable, err)
	}
	defer func() { _ = n.parts.host.Network().ClosePeer(p) }() // a hub has few places for strangers
	t, err := openTalk(ctx, n.parts.host, p)
	if err != nil {
		return err
	}
	defer func() { _ = t.s.Reset() }()
	defer t.during(ctx)()
	if err := t.within(talkLimit); err != nil {
		return err
	}
	if err := speak(t); err != nil {
		return fmt.Errorf("p2p: asking hub %s: %w", hub.ID.Short(), errors.Join(err, ctx.Err()))
	}
	return nil
}
