// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// start brings up a node of w on loopback and lets the fleet know a hub's address.
func start(t testing.TB, w *transporttest.World, signer journal.Signer, store transport.Store, listen ...string) *p2p.Node {
	t.Helper()
	o := p2p.Options{Signer: signer, Fleet: w.Fleet, Store: store, KeepAlive: time.Second}
	o.Mirror, _ = store.(transport.Mirror)
	o.Books, _ = store.(transport.Bookkeeper)
	if store != nil {
		o.Listen = listen
	}
	n := startWith(t, o)
	if store != nil {
		grant, _ := w.Fleet().Member(signer.ID())
		grant.Addrs = n.Addrs()
		w.Grant(t, grant)
	}
	if err := n.Bootstrap(t.Context()); err != nil {
		t.Fatalf("bootstrapping: %v", err)
	}
	return n
}

func startWith(t testing.TB, o p2p.Options) *p2p.Node {
	t.Helper()
	n, err := p2p.New(t.Context(), o)
	if err != nil {
		t.Fatalf("starting node: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing node: %v", err)
		}
	})
	return n
}

const (
	tcpAddr  = "/ip4/127.0.0.1/tcp/0"
	quicAddr = "/ip4/127.0.0.1/udp/0/quic-v1"
)

func TestContract(t *testing.T) {
	for name, addr := range map[string]string{"TCP": tcpAddr, "QUIC": quicAddr} {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, func(_ *testing.T, w *transporttest.World) transporttest.Start {
				return func(t *testing.T, signer journal.Signer, store transport.Store) transporttest.Node {
					return start(t, w, signer, store, addr)
				}
			})
		})
	}
}

func fixed(f *fleet.Fleet) func() *fleet.Fleet { return func() *fleet.Fleet { return f } }

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*transporttest.Limit)
	t.Cleanup(cancel)
	return ctx
}
