// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// ErrClone is wrapped when a member is refused because another machine with its key is alive.
var ErrClone = errors.New("another machine with this key is alive: revoke the key if that is a copy, and enrol this machine anew")

const (
	patience    = 5 * time.Second         // then this side says hello where the other one has not
	gateLimit   = probeLimit + helloLimit // a member's streams wait this long for the hello of their connection
	probeLimit  = 5 * time.Second         // a connection that gives no answer within this is dead
	alarmPause  = time.Hour               // no alarm is repeated within this
	maxReported = 4096
)

// twins remembers from which boot each connection of a member is. The boot is the kernel's, so that programs on one machine that share a key are no
// clones, nor is a machine that has moved to another address, or that has rebooted: its old connection is dead. A connection serves nothing but the
// fleet protocol until its hello was judged; each connection has one of its own, since two nodes that dial each other at once have two.
type twins struct {
	node *Node

	mu       sync.Mutex
	met      map[network.Conn]journal.BootID
	waiting  map[network.Conn]chan struct{} // closed when the connection is met, or gone
	reported map[[32]byte]time.Time
}

func newTwins(n *Node) *twins {
	return &twins{node: n, met: map[network.Conn]journal.BootID{}, waiting: map[network.Conn]chan struct{}{}, reported: map[[32]byte]time.Time{}}
}

// meet judges the hello of a connection. An error wraps ErrClone: another boot of the same member answers on an older connection.
func (t *twins) meet(ctx context.Context, c network.Conn, boot journal.BootID) error {
	for {
		old, other := t.admit(c, boot)
		if old == nil {
			return nil
		}
		if t.alive(ctx, old, other) {
			t.report(old, c, [2]journal.BootID{other, boot})
			return fmt.Errorf("p2p: hello of %s from %s, it is alive at %s: %w", c.RemotePeer(), c.RemoteMultiaddr(), old.RemoteMultiaddr(), ErrClone)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("p2p: judging hello of %s: %w", c.RemotePeer(), ctx.Err())
		}
		_ = old.Close()
	}
}

// admit notes the boot of a connection, unless an open connection of the same member has another one, which it returns.
func (t *twins) admit(c network.Conn, boot journal.BootID) (network.Conn, journal.BootID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for old, other := range t.met {
		if old != c && other != boot && old.RemotePeer() == c.RemotePeer() && !old.IsClosed() {
			return old, other
		}
	}
	if !c.IsClosed() { // else gone was called, or is about to be
		t.met[c] = boot
	}
	t.wake(c)
	return nil, boot
}

// wake ends the waits for a connection. t.mu is held.
func (t *twins) wake(c network.Conn) {
	if wait, there := t.waiting[c]; there {
		close(wait)
		delete(t.waiting, c)
	}
}

// gone forgets a closed connection.
func (t *twins) gone(c network.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.met, c)
	t.wake(c)
}

// known reports whether the connection's hello was judged, and found good. If not, change is closed when there is news; nil: there will be none.
func (t *twins) known(c network.Conn) (met bool, change <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, met = t.met[c]; met || c.IsClosed() {
		return met, nil
	}
	wait, there := t.waiting[c]
	if !there {
		wait = make(chan struct{})
		t.waiting[c] = wait
	}
	return false, wait
}

// gate waits until a connection's hello was judged. The other end says it when it has dialled; where it does not, this one does after a while.
func (t *twins) gate(c network.Conn) bool {
	met, change := t.known(c)
	if change == nil {
		return met
	}
	ctx, cancel := context.WithTimeout(t.node.life, gateLimit)
	defer cancel()
	ask := time.NewTimer(patience)
	defer ask.Stop()
	for {
		select {
		case <-change:
			met, _ = t.known(c)
			return met
		case <-ask.C:
			t.node.meetSoon(c)
		case <-ctx.Done():
			return false
		}
	}
}

// alive asks on this very connection, not on any to the same key.
func (t *twins) alive(ctx context.Context, c network.Conn, boot journal.BootID) bool {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	talk, err := openTalkOn(ctx, c)
	if err != nil {
		return false
	}
	defer func() { _ = talk.s.Reset() }()
	defer talk.during(ctx)()
	if talk.within(probeLimit) != nil {
		return false
	}
	id, _ := memberID(c.RemotePeer())
	w, err := t.node.sayHello(talk, id)
	return err == nil && w.Boot == boot
}

func (t *twins) report(old, c network.Conn, boots [2]journal.BootID) {
	if !t.news(boots[0][:], boots[1][:]) {
		return
	}
	id, _ := memberID(c.RemotePeer())
	t.node.alarm(Alarm{Kind: AlarmClone, Member: id, Boots: boots,
		Addrs: [2]string{old.RemoteMultiaddr().String(), c.RemoteMultiaddr().String()}})
}

// news reports whether an alarm is due: not if the same one was raised a short time ago, since who is refused comes again.
func (t *twins) news(what ...[]byte) bool {
	key := sha256.Sum256(bytes.Join(what, nil))
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, told := t.reported[key]; told && time.Since(last) < alarmPause {
		return false
	}
	if len(t.reported) >= maxReported {
		clear(t.reported)
	}
	t.reported[key] = time.Now()
	return true
}

// alarm tells the program, and the log.
func (n *Node) alarm(a Alarm) {
	n.log.Warn("alarm", "kind", string(a.Kind), "member", a.Member, "boots", a.Boots, "addrs", a.Addrs, "err", a.Err)
	if n.o.Alarm != nil {
		n.o.Alarm(a)
	}
}

// StandingError is returned when a peer does not take this node for a member.
type StandingError struct {
	Peer     edge.ID
	Standing Standing
}

func (e *StandingError) Error() string {
	return fmt.Sprintf("p2p: %s says that this node is no member but %s: ask an operator", e.Peer.Short(), e.Standing)
}
