// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// onLAN listens on loopback, and finds and is found there.
func onLAN(addr string) func(*p2p.Options) {
	return func(o *p2p.Options) { o.Listen, o.MDNS = []string{addr}, true }
}

// TestLAN_MembersFindEachOther: two members of a fleet without any hub reach each other by multicast DNS; one that has left the fleet is not answered.
func TestLAN_MembersFindEachOther(t *testing.T) {
	w := transporttest.NewWorld(t, 0, 3)
	device, other, quiet := sail(t, w.Devices[0], w.Fleet(), onLAN(tcpAddr)), sail(t, w.Devices[1], w.Fleet(), onLAN(quicAddr)), sail(t, w.Devices[2], w.Fleet(), nil)
	var r p2p.Route
	transporttest.WaitFor(t, "the other member is reached", func() (bool, string) {
		var err error
		r, err = other.Reach(deadline(t), device.key.ID())
		if err != nil && !errors.Is(err, transport.ErrUnreachable) {
			t.Fatal(err)
		}
		return err == nil, fmt.Sprint(err)
	})
	last := r.Steps[len(r.Steps)-1]
	if !r.Direct || last.Way != "local network" || !slices.Contains(last.Tried, device.Addrs()[0]) {
		t.Errorf("%+v", r)
	}
	r, err := other.Reach(deadline(t), quiet.key.ID())
	if !errors.Is(err, transport.ErrUnreachable) || !slices.ContainsFunc(r.Steps, func(s p2p.Step) bool {
		return s.Way == "local network" && s.Why() == "nobody there answers to its name"
	}) {
		t.Errorf("one that does not answer: %+v, %v", r, err)
	}
}

// TestLAN_WhatStrangersLearn: a question is answered once and only by the member it is made for; no two look alike; only addresses of the network on which it came are told.
func TestLAN_WhatStrangersLearn(t *testing.T) {
	w, elsewhere := transporttest.NewWorld(t, 0, 2), transporttest.NewWorld(t, 0, 0)
	self := w.Devices[0].ID()
	answer, err := p2p.LANResponder(w.Fleet(), self, []string{"/ip4/127.0.0.1/tcp/7", "/ip4/198.18.77.9/tcp/7", "/ip6/fe80::1/tcp/7"})
	ok(t, err)
	lo := lo(t).Index
	mine, name, err := p2p.Question(w.Fleet(), self)
	ok(t, err)
	again, _, err := p2p.Question(w.Fleet(), self)
	ok(t, err)
	if bytes.Equal(mine, again) {
		t.Error("two questions are alike: who listens can follow the member")
	}
	got, answered := answer(mine, lo)
	if !answered {
		t.Fatal("the member does not answer to its name")
	}
	if id := self.String(); bytes.Contains(got, []byte(id)) || strings.Contains(name, id) {
		t.Error("the member's id is on the network")
	}
	if told, addrs, ok := p2p.ParseLANAnswer(got); !ok || told != name || len(addrs) != 1 || addrs[0].String() != "/ip4/127.0.0.1/tcp/7" {
		t.Errorf("%q %v %t", told, addrs, ok)
	}
	if _, answered := answer(mine, lo); answered {
		t.Error("an overheard question was answered a second time")
	}
	if _, answered := answer(again, 1<<20); answered {
		t.Error("a question from a network that is not there was answered")
	}
	for what, ask := range map[string]func() ([]byte, string, error){
		"another member":            func() ([]byte, string, error) { return p2p.Question(w.Fleet(), w.Devices[1].ID()) },
		"this one in another fleet": func() ([]byte, string, error) { return p2p.Question(elsewhere.Fleet(), self) },
	} {
		packet, _, err := ask()
		ok(t, err)
		if _, answered := answer(packet, lo); answered {
			t.Errorf("a question for %s was answered", what)
		}
	}
}

// TestLAN_Flood: whoever knows the ids gets no more than the member's rate, and whoever does not costs it nothing that members need.
func TestLAN_Flood(t *testing.T) {
	w := transporttest.NewWorld(t, 0, 1)
	self := w.Devices[0].ID()
	answer, err := p2p.LANResponder(w.Fleet(), self, []string{"/ip4/127.0.0.1/tcp/7"})
	ok(t, err)
	lo := lo(t).Index
	for range 100_000 {
		answer([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"), lo)
	}
	answers := 0
	began := time.Now()
	for range 1000 {
		packet, _, err := p2p.Question(w.Fleet(), self)
		ok(t, err)
		if _, answered := answer(packet, lo); answered {
			answers++
		}
	}
	if most := 40 + int(20*time.Since(began).Seconds()) + 1; answers < 1 || answers > most {
		t.Errorf("%d answers, want 1 to %d", answers, most)
	}
}

// TestLAN_Liar: an answer that points to an address of another network is not dialled.
func TestLAN_Liar(t *testing.T) {
	w := transporttest.NewWorld(t, 0, 2)
	outside, err := net.Listen("tcp4", "127.0.0.1:0")
	ok(t, err)
	defer func() { _ = outside.Close() }()
	group, err := net.ListenMulticastUDP("udp4", lo(t), &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	ok(t, err)
	done := make(chan int)
	go func() {
		heard := 0
		buf := make([]byte, 1500)
		for {
			n, from, err := group.ReadFromUDP(buf)
			if err != nil {
				done <- heard
				return
			}
			id, name, _, asked := p2p.ParseLANQuestion(buf[:n])
			if !asked {
				continue
			}
			heard++
			if packet, err := p2p.LANAnswer(id, name, []string{"/ip4/198.18.77.9/tcp/7", "/dns4/example.org/tcp/443"}); err == nil {
				_, _ = group.WriteToUDP(packet, from)
			}
		}
	}()
	asker := sail(t, w.Devices[0], w.Fleet(), onLAN(tcpAddr))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := asker.Reach(ctx, w.Devices[1].ID())
	if !errors.Is(err, transport.ErrUnreachable) {
		t.Error(err)
	}
	for _, s := range r.Steps {
		if len(s.Tried) > 0 {
			t.Errorf("%s: dialled %v", s.Way, s.Tried)
		}
	}
	ok(t, group.Close())
	if heard := <-done; heard == 0 {
		t.Error("the liar was not asked: this test shows nothing")
	}
}

func lo(t *testing.T) *net.Interface {
	t.Helper()
	i, err := net.InterfaceByName("lo")
	ok(t, err)
	return i
}

// FuzzLAN: what anybody on the LAN sends to members. A question that is read names what it says, and an answer that is read has no more addresses than are allowed.
func FuzzLAN(f *testing.F) {
	w := transporttest.NewWorld(f, 0, 1)
	self := w.Devices[0].ID()
	packet, name, err := p2p.Question(w.Fleet(), self)
	ok(f, err)
	f.Add(packet)
	answer, err := p2p.LANAnswer(7, name, []string{"/ip4/127.0.0.1/tcp/7"})
	ok(f, err)
	f.Add(answer)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if id, name, nonce, ok := p2p.ParseLANQuestion(raw); ok {
			if len(nonce) != 8 {
				t.Errorf("nonce of %d bytes", len(nonce))
			}
			back, err := p2p.LANAnswer(id, name, []string{"/ip4/127.0.0.1/tcp/7"})
			if err != nil {
				t.Fatalf("a question that cannot be answered: %v", err)
			}
			var p dnsmessage.Parser
			if h, err := p.Start(back); err != nil || h.ID != id || !h.Response {
				t.Errorf("%+v, %v", h, err)
			}
			if told, addrs, ok := p2p.ParseLANAnswer(back); !ok || told != name || len(addrs) != 1 {
				t.Errorf("%q, %v, %t", told, addrs, ok)
			}
		}
		if _, addrs, ok := p2p.ParseLANAnswer(raw); ok && len(addrs) > 8 {
			t.Errorf("%d addresses", len(addrs))
		}
	})
}
