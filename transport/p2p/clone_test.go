// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

func withBoot(b byte) func(*p2p.Options) {
	return func(o *p2p.Options) { o.Boot = journal.BootID{b} }
}

// TestClone_TwoBootsAlive: a copied card is noticed, and cannot replace the original.
func TestClone_TwoBootsAlive(t *testing.T) {
	for _, boot := range []byte{2, 0} { // 0: a program that tells none
		t.Run(fmt.Sprint("boot ", boot), func(t *testing.T) { testClone(t, boot) })
	}
}

func testClone(t *testing.T, boot byte) {
	w := transporttest.NewWorld(t, 1, 1)
	hub := crew(t, w)[0]
	first := sail(t, w.Devices[0], hub.now(), withBoot(1))
	ok(t, first.SyncFleet(deadline(t)))
	second := sail(t, w.Devices[0], hub.now(), withBoot(boot))
	chain := w.Chain(t, w.Devices[0], "main")
	for range 3 {
		if err := second.SyncFleet(deadline(t)); err == nil {
			t.Error("the copy is served")
		}
		if err := second.Put(deadline(t), hub.ID(), chain.Next(1).Bytes()); err == nil {
			t.Error("the copy publishes")
		}
	}
	if held, err := hub.Held(deadline(t), hub.ID(), first.ID()); err != nil || len(held) != 0 {
		t.Errorf("the hub holds what the copy sent: %v, %v", held, err)
	}
	transporttest.WaitFor(t, "alarm", func() (bool, string) { return len(hub.raised()) > 0, "" })
	a := hub.raised()
	if len(a) != 1 || a[0].Kind != p2p.AlarmClone || a[0].Member != first.ID() || a[0].Boots != [2]journal.BootID{{1}, {boot}} || a[0].Addrs[0] == "" ||
		a[0].Addrs[0] == a[0].Addrs[1] {
		t.Errorf("alarms: %+v", a)
	}
	ok(t, first.SyncFleet(deadline(t)))
	ok(t, first.Put(deadline(t), hub.ID(), chain.Next(1).Bytes()))
}

// TestClone_NothingBeforeTheHello: a program with a copied key that leaves the hello out is served nothing, beside the original and without it.
func TestClone_NothingBeforeTheHello(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	raw := newRawHostWith(t, must(t, key, err), tcpAddr)
	w.Grant(t, fleet.Grant{Member: raw.key.ID(), Name: "board", Roles: fleet.Device})
	hub := crew(t, w)[0]
	to := raw.dial(t, hub.Node)
	chain := w.Chain(t, raw.key, "main")
	s, err := raw.NewStream(deadline(t), to, "/streembit/store/1")
	must(t, s, err)
	defer func() { _ = s.Reset() }()
	_, err = s.Write(framed(chain.Next(1).Bytes()))
	must(t, s, errors.Join(err, s.SetReadDeadline(time.Now().Add(2*time.Second))))
	r := bufio.NewReader(s)
	if answer, err := readFramed(r); err == nil {
		t.Errorf("a segment before the hello: %x", answer)
	}
	if held, err := hub.Held(deadline(t), hub.ID(), raw.key.ID()); err != nil || len(held) != 0 {
		t.Errorf("the hub holds it: %v, %v", held, err)
	}
	raw.hello(t, to, journal.BootID{1}) // the control: the same stream goes on
	ok(t, s.SetReadDeadline(time.Now().Add(transporttest.Limit)))
	if answer, err := readFramed(r); err != nil || !bytes.Equal(answer, []byte{0}) {
		t.Errorf("after the hello: %x, %v", answer, err)
	}
}

// TestClone_NoFalseAlarm: a second program on the same machine, a reboot, and another address are no clones.
func TestClone_NoFalseAlarm(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	hub := crew(t, w)[0]
	first, beside := sail(t, w.Devices[0], hub.now(), withBoot(1)), sail(t, w.Devices[0], hub.now(), withBoot(1))
	ok(t, errors.Join(first.SyncFleet(deadline(t)), beside.SyncFleet(deadline(t))))
	ok(t, errors.Join(first.Close(), beside.Close()))
	rebooted := sail(t, w.Devices[0], hub.now(), withBoot(2)) // at another port
	ok(t, rebooted.SyncFleet(deadline(t)))
	if a := hub.raised(); len(a) != 0 {
		t.Errorf("alarms: %+v", a)
	}
}

// TestClone_DeadConnection: a machine whose power was cut leaves a connection that nobody answers on; when it is back it is served, and no alarm is raised.
func TestClone_DeadConnection(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	raw := newRawHostWith(t, must(t, key, err), tcpAddr) // it says hello, and never answers one
	w.Grant(t, fleet.Grant{Member: raw.key.ID(), Name: "board", Roles: fleet.Device})
	hub := crew(t, w)[0]
	s, r, err := raw.fleetStream(t, hub.Node)
	must(t, s, err)
	_, err = s.Write(message(t, 'h', []any{journal.BootID{1}, "", journal.Hash{}}))
	must(t, s, err)
	frame, err := readFramed(r)
	if must(t, frame, err); frame[0] != 'W' || frame[2] != 1 {
		t.Fatalf("hello: %x", frame)
	}
	back := sail(t, raw.key, hub.now(), withBoot(2))
	ok(t, back.SyncFleet(deadline(t)))
	if a := hub.raised(); len(a) != 0 {
		t.Errorf("alarms: %+v", a)
	}
}
