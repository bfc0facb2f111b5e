// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multistream"
	"golang.org/x/sync/semaphore"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
)

const (
	tellPlaces  = 8                // members that this node compares fleets with at once, as the asking side and as the answering one
	largePlaces = 1                // large bundles, and offers of strangers, that are gathered and proven at once
	placeLimit  = 30 * time.Second // who waits longer for one of these is told to come again
	meetLimit   = time.Minute      // one comparison
)

// place waits for one of few places.
func (n *Node) place(ctx context.Context, places *semaphore.Weighted) (free func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, placeLimit)
	defer cancel()
	if err := places.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("p2p: waiting for others to be told: %w", err)
	}
	return func() { places.Release(1) }, nil
}

// openTalk opens a stream of the fleet protocol on an open connection. talk must not outlive ctx.
func openTalk(ctx context.Context, h host.Host, to peer.ID) (*talk, error) {
	dial, cancel := context.WithTimeout(network.WithNoDial(ctx, "connected before"), helloLimit)
	defer cancel()
	s, err := h.NewStream(dial, to, fleetProtocol)
	if err != nil {
		return nil, fmt.Errorf("p2p: opening %s: %w: %w", fleetProtocol, transport.ErrUnreachable, err)
	}
	return newTalk(s), nil
}

// openTalkOn is openTalk on this very connection, not on any to the same peer.
func openTalkOn(ctx context.Context, c network.Conn) (*talk, error) {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	s, err := c.NewStream(ctx)
	if err == nil {
		if err = s.SetProtocol(fleetProtocol); err != nil {
			_ = s.Reset()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("p2p: opening %s: %w: %w", fleetProtocol, transport.ErrUnreachable, err)
	}
	t, lazy := newTalk(s), multistream.NewMSSelect(s, fleetProtocol) // agrees on the protocol along with the first request
	t.r.Reset(lazy)
	t.w.Reset(lazy)
	return t, nil
}

// sayHello tells who this is and reads who the other one is.
func (n *Node) sayHello(t *talk, to edge.ID) (welcome, error) {
	var w welcome
	h := hello{Boot: n.o.Boot, Version: n.o.Version, Hash: n.o.Fleet().Digest().Hash()}
	if err := t.say(askHello, h); err != nil {
		return w, err
	}
	err := t.hear(tellWelcome, &w, to)
	return w, err
}

// meet says hello to a connected member and brings both to the same fleet. An error may be a *StandingError.
func (n *Node) meet(ctx context.Context, p peer.ID) error {
	return n.meetBy(ctx, p, func(ctx context.Context) (*talk, error) { return openTalk(ctx, n.parts.host, p) })
}

// meetOn is meet on this very connection.
func (n *Node) meetOn(ctx context.Context, c network.Conn) error {
	return n.meetBy(ctx, c.RemotePeer(), func(ctx context.Context) (*talk, error) { return openTalkOn(ctx, c) })
}

func (n *Node) meetBy(ctx context.Context, p peer.ID, open func(context.Context) (*talk, error)) error {
	err := n.meetOnce(ctx, p, open)
	if errors.Is(err, ErrFrame) {
		// Between two of our questions the other one may have come to know us by another way, and so have answered a member where a newcomer
		// asked. On a new stream it knows from the start.
		err = n.meetOnce(ctx, p, open)
	}
	return err
}

func (n *Node) meetOnce(ctx context.Context, p peer.ID, open func(context.Context) (*talk, error)) error {
	id, ok := memberID(p)
	if !ok {
		return fmt.Errorf("p2p: comparing fleets: %s is no member", p)
	}
	ctx, cancel := context.WithTimeout(ctx, meetLimit)
	defer cancel()
	t, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = t.s.Reset() }()
	defer t.during(ctx)()
	if err := errors.Join(t.within(helloLimit), n.greet(ctx, t, id)); err != nil {
		return fmt.Errorf("p2p: comparing fleets with %s: %w", id.Short(), err)
	}
	_ = t.s.Close()
	return nil
}

func (n *Node) greet(ctx context.Context, t *talk, id edge.ID) error {
	w, err := n.sayHello(t, id)
	if err != nil {
		return err
	}
	if w.Standing != Member {
		if err := n.introduce(t, id, w.Standing); err != nil {
			return err
		}
		if w, err = n.sayHello(t, id); err != nil {
			return err
		}
		if w.Standing != Member {
			return &StandingError{id, w.Standing}
		}
	}
	if err := n.twins.meet(ctx, t.s.Conn(), w.Boot); err != nil {
		_ = t.s.Conn().Close()
		return err
	}
	if w.Hash == n.o.Fleet().Digest().Hash() {
		return nil
	}
	free, err := n.place(ctx, n.telling)
	if err != nil {
		return err
	}
	defer free()
	if err := t.within(meetLimit); err != nil {
		return err
	}
	return n.compare(ctx, t, id)
}

// compare is the asking side of a comparison: it takes first, so that what it gives then is nothing that the other one has told.
func (n *Node) compare(ctx context.Context, t *talk, id edge.ID) error {
	if err := t.say(askSync, n.o.Fleet().Digest()); err != nil {
		return err
	}
	var theirs fleet.Digest
	if err := t.hear(tellDigest, &theirs, id); err != nil {
		return err
	}
	b, err := t.take(id, func() (func(), error) { return n.place(ctx, n.large) })
	if err != nil {
		return err
	}
	var taken error
	if n.o.Merge != nil {
		taken = n.takeIn(b, id, t.s.Conn().RemoteMultiaddr().String())
	}
	if err := t.give(n.o.Fleet().Delta(theirs)); err != nil {
		return errors.Join(taken, err)
	}
	return errors.Join(taken, t.settled(id))
}

// introduce proves to a peer that has not heard of it that this node is a member.
func (n *Node) introduce(t *talk, id edge.ID, as Standing) error {
	f := n.o.Fleet()
	if !f.IsMember(n.self) {
		return &StandingError{id, as}
	}
	b := proofs(f, n.self)
	if err := t.say(askSync, digestOf(f.Digest(), b.logs)); err != nil {
		return err
	}
	var theirs fleet.Digest
	if err := t.hear(tellDigest, &theirs, id); err != nil {
		return errors.Join(&StandingError{id, as}, err)
	}
	offer := b.after(f, theirs)
	if enc, err := offer.Encode(); err != nil || len(enc) > strangerBundle {
		return fmt.Errorf("p2p: introducing to %s: it lacks %d bytes of the fleet, a newcomer may bring %d: let it meet another hub first: %w",
			id.Short(), len(enc), strangerBundle, errors.Join(&StandingError{id, as}, err))
	}
	t.chunk = strangerChunk
	defer func() { t.chunk = memberChunk }()
	if err := t.give(offer); err != nil {
		return err
	}
	if err := t.settled(id); err != nil {
		return errors.Join(&StandingError{id, as}, err)
	}
	return nil
}

// proof is the logs that say that somebody is a member, as far as they say it.
type proof struct{ logs map[logName]int } // segments that are needed

type logName struct {
	writer edge.ID
	life   [16]byte
}

// proofs finds the logs that name the member, and the owner's, which names those that wrote them. Entries are in clear, so that a key shows.
func proofs(f *fleet.Fleet, member edge.ID) proof {
	d, all := f.Digest(), f.Delta(fleet.Digest{})
	p := proof{logs: map[logName]int{}}
	owner := logName{f.State().LogWriter, f.State().LogLife}
	for i, l := range d.Logs {
		name := logName{l.Writer, l.Incarnation}
		for seq := len(all.Logs[i]); seq > 0; seq-- {
			if bytes.Contains(all.Logs[i][seq-1], member[:]) {
				p.logs[name] = seq
				break
			}
		}
	}
	for i, l := range d.Logs {
		if (logName{l.Writer, l.Incarnation}) != owner {
			continue
		}
		for seq := len(all.Logs[i]); seq > p.logs[owner]; seq-- {
			for name := range p.logs {
				if name != owner && bytes.Contains(all.Logs[i][seq-1], name.writer[:]) {
					p.logs[owner] = seq
				}
			}
		}
	}
	return p
}

// digestOf is the part of a digest that is about some logs.
func digestOf(d fleet.Digest, logs map[logName]int) fleet.Digest {
	out := fleet.Digest{Version: d.Version, State: d.State}
	for _, l := range d.Logs {
		if logs[logName{l.Writer, l.Incarnation}] > 0 {
			out.Logs = append(out.Logs, l)
		}
	}
	return out
}

// after is the part of the proof that somebody lacks.
func (p proof) after(f *fleet.Fleet, theirs fleet.Digest) fleet.Bundle {
	known := map[logName]int{}
	for _, l := range theirs.Logs {
		known[logName{l.Writer, l.Incarnation}] = int(min(l.Length, 1<<31))
	}
	d, all := f.Digest(), f.Delta(fleet.Digest{})
	out := fleet.Bundle{States: f.Delta(theirs).States}
	for i, l := range d.Logs {
		name := logName{l.Writer, l.Incarnation}
		if need, has := p.logs[name], known[name]; need > has {
			out.Logs = append(out.Logs, all.Logs[i][has:need])
		}
	}
	return out
}

// meetings are the comparisons under way, one on each connection, which is repeated when something changes meanwhile.
type meetings struct {
	mu    sync.Mutex
	again map[network.Conn]bool
}

// meetSoon says hello on a connection and compares fleets, in the background.
func (n *Node) meetSoon(c network.Conn) {
	n.meetings.mu.Lock()
	defer n.meetings.mu.Unlock()
	if _, running := n.meetings.again[c]; running {
		n.meetings.again[c] = true
		return
	}
	begun := n.spawn(func() {
		for {
			if err := n.meetOn(n.life, c); err != nil && n.life.Err() == nil {
				n.log.Debug("fleets not compared", "peer", c.RemotePeer(), "err", err)
			}
			if !n.meetAgain(c) {
				return
			}
		}
	})
	if begun {
		n.meetings.again[c] = false
	}
}

func (n *Node) meetAgain(c network.Conn) bool {
	n.meetings.mu.Lock()
	defer n.meetings.mu.Unlock()
	if n.meetings.again[c] && n.life.Err() == nil && !c.IsClosed() {
		n.meetings.again[c] = false
		return true
	}
	delete(n.meetings.again, c)
	return false
}

// meetAll passes on a change to every connected member. Where there are two connections nobody knows which one is dead.
func (n *Node) meetAll() {
	for _, c := range n.parts.host.Network().Conns() {
		if n.isMember(c.RemotePeer()) {
			n.meetSoon(c)
		}
	}
}

// keepUp compares fleets with all connected members now and then, and notices grants that expire.
func (n *Node) keepUp(ctx context.Context) {
	every := time.NewTicker(n.o.Sync)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			n.apply()
			n.meetAll()
		}
	}
}
