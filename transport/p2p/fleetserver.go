// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// strangerOffers is how many bundles of strangers are proven a second, each at most 25 ms of a fast core's time.
const strangerOffers = 2

// visitor is who is at the other end of a stream of the fleet protocol.
type visitor struct {
	id   edge.ID
	conn network.Conn
}

// serveFleet answers the requests of one stream. It is the only handler of ours that strangers reach.
func (n *Node) serveFleet(s network.Stream) {
	id, ok := memberID(s.Conn().RemotePeer())
	if !ok || !n.begin() {
		_ = s.Reset()
		return
	}
	defer n.tasks.Done()
	ctx, cancel := context.WithCancel(n.life)
	defer cancel()
	t, who := newTalk(s), visitor{id, s.Conn()}
	defer t.during(ctx)()
	err := n.answerAll(ctx, t, who)
	if err == nil {
		_ = s.Close()
		_ = s.CloseRead()
		return
	}
	_ = s.Reset()
	n.log.Debug("fleet stream ended", "peer", id, "addr", s.Conn().RemoteMultiaddr(), "err", err)
}

func (n *Node) answerAll(ctx context.Context, t *talk, who visitor) error {
	for range talkRequests {
		limit := talkLimit
		if !n.o.Fleet().IsMember(who.id) {
			t.restrain()
			limit = strangerLimit
		} else {
			t.frame, t.bundle = memberFrame, fleet.MaxBundle
		}
		if err := t.within(limit); err != nil {
			return err
		}
		frame, err := readFrame(t.r, t.frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var a ask
		if err == nil {
			a, err = decodeAsk(frame)
		}
		if err != nil {
			return t.end(refuse(transport.RefusedInvalid, "%v", err)) // a reset would overtake it
		}
		if err := n.answer(ctx, t, who, a); err != nil {
			return err
		}
	}
	return nil
}

// answer fulfils one request. An error ends the stream; a refusal does not.
func (n *Node) answer(ctx context.Context, t *talk, who visitor, a ask) error {
	switch a.Kind {
	case askHello:
		return n.answerHello(ctx, t, who, a.Hello)
	case askSync:
		return n.answerSync(ctx, t, who.id, a.Digest)
	case askClaim:
		return t.end(n.takeClaim(who, a))
	case askPoll:
		return n.answerPoll(t, who.id)
	case askOffer:
		if f := n.o.Fleet().ID(); a.Approval.Fleet != f && n.twins.news([]byte(AlarmOwner)) { // one is enough, however many offer
			n.alarm(Alarm{Kind: AlarmOwner, Member: who.id, Addrs: [2]string{1: who.conn.RemoteMultiaddr().String()},
				Err: fmt.Errorf("p2p: an approval for fleet %s was offered, this node belongs to %s: %w", a.Approval.Fleet, f, fleet.ErrWrongFleet)})
		}
		return t.end(refuse(transport.RefusedNoRight, "this node belongs to a fleet already: streembitd reset --i-am-here makes it free"))
	}
	if n.o.Desk == nil || !n.o.Fleet().Is(who.id, fleet.Operator) {
		return t.end(refuse(transport.RefusedNoRight, "the queue of claims is for operators, at hubs that keep one"))
	}
	switch a.Kind {
	case askClaims:
		return n.answerClaims(t, who.id)
	case askDrop:
		return t.end(n.o.Desk.Drop(who.id, a.Device))
	default:
		return t.end(n.o.Desk.Deposit(who.id, a.Approval))
	}
}

// standing says what a fleet thinks of somebody.
func standing(f *fleet.Fleet, id edge.ID) Standing {
	if f.IsMember(id) {
		return Member
	}
	switch _, revoked, former := f.Former(id); {
	case !former:
		return Stranger
	case revoked != nil:
		return Revoked
	}
	return Expired
}

func (n *Node) answerHello(ctx context.Context, t *talk, who visitor, h hello) error {
	f := n.o.Fleet()
	w := welcome{Standing: standing(f, who.id)}
	if w.Standing == Member {
		if err := n.twins.meet(ctx, who.conn, h.Boot); err != nil {
			_ = t.end(refuse(transport.RefusedNoRight, "%v", err))
			_ = who.conn.Close()
			return err
		}
		w.Boot, w.Version, w.Hash = n.o.Boot, n.o.Version, f.Digest().Hash()
	}
	return t.say(tellWelcome, w)
}

// answerSync is the answering side of a comparison.
func (n *Node) answerSync(ctx context.Context, t *talk, who edge.ID, theirs fleet.Digest) error {
	f := n.o.Fleet()
	if !f.IsMember(who) {
		return n.answerStranger(ctx, t, who, theirs)
	}
	free, err := n.place(ctx, n.served)
	if err != nil {
		return t.end(refuse(transport.RefusedBusy, "%v", err))
	}
	defer free()
	if err := t.say(tellDigest, f.Digest()); err != nil {
		return err
	}
	if err := t.give(f.Delta(theirs)); err != nil {
		return err
	}
	b, err := t.take(who, func() (func(), error) { return n.place(ctx, n.large) })
	if err != nil {
		return err
	}
	return t.end(n.takeIn(b, who, t.s.Conn().RemoteMultiaddr().String()))
}

// answerStranger lets a newcomer prove that it is a member, or anybody bring newer owner state. It tells the lengths of those logs alone that the
// stranger names: their names are random and known to members.
func (n *Node) answerStranger(ctx context.Context, t *talk, who edge.ID, theirs fleet.Digest) error {
	if n.o.Merge == nil || !n.offers.Allow() {
		return t.end(refuse(transport.RefusedBusy, "too many offer something, try again in a minute"))
	}
	if err := t.say(tellDigest, common(n.o.Fleet().Digest(), theirs)); err != nil {
		return err
	}
	b, err := t.take(who, nil)
	if err != nil {
		return err
	}
	free, err := n.place(ctx, n.large)
	if err != nil {
		return err
	}
	defer free()
	f := n.o.Fleet()
	next, err := f.Merge(b)
	switch {
	case err != nil:
		return t.end(refuse(transport.RefusedInvalid, "%v", err))
	case !next.IsMember(who) && next.State().Version <= f.State().Version:
		return t.end(refuse(transport.RefusedNoRight, "it proves neither that you are a member nor a newer state of the fleet"))
	}
	return t.end(n.takeIn(b, who, t.s.Conn().RemoteMultiaddr().String()))
}

// common is what a stranger may know of a digest.
func common(ours, theirs fleet.Digest) fleet.Digest {
	out := fleet.Digest{Version: ours.Version, State: ours.State}
	for _, l := range ours.Logs {
		for _, named := range theirs.Logs {
			if named.Writer == l.Writer && named.Incarnation == l.Incarnation {
				out.Logs = append(out.Logs, l)
				break
			}
		}
	}
	return out
}

// takeIn hands what somebody offers to the program, and applies and passes on what it changed.
func (n *Node) takeIn(b fleet.Bundle, from edge.ID, addr string) error {
	if b.Empty() {
		return nil
	}
	if n.o.Merge == nil {
		return refuse(transport.RefusedNoRight, "this program takes no changes of the fleet")
	}
	before := n.o.Fleet().Digest().Hash()
	_, err := n.o.Merge(b)
	if errors.Is(err, fleet.ErrFork) && n.twins.news(from[:], []byte(err.Error())) {
		n.alarm(Alarm{Kind: AlarmFork, Member: from, Addrs: [2]string{1: addr}, Err: err})
	}
	if n.o.Fleet().Digest().Hash() != before {
		n.FleetChanged()
	}
	if err != nil {
		return refuse(transport.RefusedInvalid, "%v", err)
	}
	return nil
}

func (n *Node) takeClaim(who visitor, a ask) error {
	c := a.Claim
	switch f := n.o.Fleet(); {
	case n.o.Enrol == nil:
		return refuse(transport.RefusedNoRight, "this node queues no claims, ask a hub")
	case c.Device != who.id:
		return refuse(transport.RefusedInvalid, "the claim is another device's")
	case c.Hub != n.self:
		return refuse(transport.RefusedInvalid, "the claim was made for another hub")
	case c.Fleet != f.ID():
		return refuse(transport.RefusedInvalid, "the claim is for another fleet")
	case standing(f, who.id) == Revoked:
		return refuse(transport.RefusedNoRight, "this key was revoked")
	case f.IsMember(who.id):
		return nil // nothing to wait for: poll
	}
	return n.o.Enrol.Claim(Pending{Claim: c, Addr: who.conn.RemoteMultiaddr().String(), At: time.Now().UnixMilli()})
}

// answerPoll gives the fleet to a newcomer once it is a member, not before.
func (n *Node) answerPoll(t *talk, who edge.ID) error {
	f := n.o.Fleet()
	p := pollAnswer{Standing: standing(f, who)}
	if p.Standing != Member {
		if err := t.say(tellPoll, p); err != nil {
			return err
		}
		return t.end(nil)
	}
	if n.o.Enrol != nil {
		if a, there := n.o.Enrol.Approval(who); there {
			p.Approval = &a
		}
	}
	if err := t.say(tellPoll, p); err != nil {
		return err
	}
	return t.give(f.Delta(fleet.Digest{}))
}

func (n *Node) answerClaims(t *talk, operator edge.ID) error {
	all, err := n.o.Desk.Claims(operator)
	for i := 0; err == nil && i < len(all); i++ {
		var body []byte
		if body, err = journal.Encode(all[i]); err == nil {
			err = t.write(tellClaim, body)
		}
	}
	return errors.Join(err, t.end(err))
}

// plain reports whether a stranger's text may be shown: it is short and cannot move a terminal's cursor.
func plain(s string) bool {
	if len(s) > maxWord || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
