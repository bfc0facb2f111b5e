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
	"github.com/multiformats/go-multistream"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// ErrClone is wrapped when a member is refused because another machine with its key is alive.
var ErrClone = errors.New("another machine with this key is alive: revoke the key if that is a copy, and enrol this machine anew")

const (
	probeLimit  = 5 * time.Second // a connection that gives no answer within this is dead
	alarmPause  = time.Hour       // no alarm is repeated within this
	maxReported = 4096
)

// twins remembers from which boot each connection of a member is. The boot is the kernel's, so that programs on one machine that share a key are no
// clones, nor is a machine that has moved to another address, or that has rebooted: its old connection is dead.
type twins struct {
	node *Node

	mu       sync.Mutex
	boots    map[network.Conn]journal.BootID
	reported map[[32]byte]time.Time
}

func newTwins(n *Node) *twins {
	return &twins{node: n, boots: map[network.Conn]journal.BootID{}, reported: map[[32]byte]time.Time{}}
}

// met notes the boot of a connection. An error wraps ErrClone: another boot of the same member answers on an older connection.
func (t *twins) met(ctx context.Context, c network.Conn, boot journal.BootID) error {
	for old, other := range t.others(c, boot) {
		if !t.alive(ctx, old, other) {
			t.forget(old)
			_ = old.Close()
			continue
		}
		t.report(old, c, [2]journal.BootID{other, boot})
		return fmt.Errorf("p2p: hello of %s from %s, it is alive at %s: %w", c.RemotePeer(), c.RemoteMultiaddr(), old.RemoteMultiaddr(), ErrClone)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.IsClosed() {
		t.boots[c] = boot
	}
	return nil
}

// others returns the open connections of the same member whose boot is another one.
func (t *twins) others(c network.Conn, boot journal.BootID) map[network.Conn]journal.BootID {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[network.Conn]journal.BootID{}
	for old, other := range t.boots {
		switch {
		case old.IsClosed():
			delete(t.boots, old)
		case old != c && other != boot && old.RemotePeer() == c.RemotePeer():
			out[old] = other
		}
	}
	return out
}

func (t *twins) forget(c network.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.boots, c)
}

// alive asks on this very connection, not on any to the same key.
func (t *twins) alive(ctx context.Context, c network.Conn, boot journal.BootID) bool {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	s, err := c.NewStream(ctx)
	if err != nil {
		return false
	}
	defer func() { _ = s.Reset() }()
	talk := newTalk(s)
	defer talk.during(ctx)()
	if talk.within(probeLimit) != nil || multistream.SelectProtoOrFail(fleetProtocol, s) != nil {
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
