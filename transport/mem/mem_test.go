// SPDX-License-Identifier: Apache-2.0

package mem_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/mem"
	"github.com/streembit/edge/transport/transporttest"
)

func TestContract(t *testing.T) {
	transporttest.Run(t, func(t *testing.T, w *transporttest.World) transporttest.Start {
		net := mem.NewNetwork(w.Fleet)
		return func(t *testing.T, signer journal.Signer, store transport.Store) transporttest.Node {
			n := net.Join(signer.ID(), store)
			t.Cleanup(func() { n.Close() })
			return n
		}
	})
}

func TestSwitches(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	seg := w.Chain(t, w.Devices[0], "main").Next(1)
	hub := w.Hubs[0].ID()
	synctest.Test(t, func(t *testing.T) {
		net := mem.NewNetwork(w.Fleet)
		disk := transporttest.NewStore(w.Fleet, 0)
		net.Join(hub, disk)
		device := net.Join(w.Devices[0].ID(), nil)
		put := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return device.Put(ctx, hub, seg.Bytes())
		}
		expect := func(what string, want error, held int) {
			t.Helper()
			if err := put(); !errors.Is(err, want) || disk.Len() != held {
				t.Errorf("%s: put: %v, %d held; want %v, %d", what, err, disk.Len(), want, held)
			}
		}
		net.Freeze(hub)
		expect("frozen", context.DeadlineExceeded, 0)
		net.Partition(hub)
		expect("cut off", transport.ErrUnreachable, 0)
		net.Heal(hub)
		expect("healed", nil, 1)
		net.Partition(hub, w.Devices[0].ID())
		expect("in one partition", nil, 1)
		net.Kill(hub)
		expect("killed", transport.ErrUnreachable, 1)
		net.Heal(w.Devices[0].ID())
		net.Heal(hub)
		net.Join(hub, disk)
		expect("restarted", nil, 1)
		stranger := net.Join(edge.ID{1}, nil)
		if err := stranger.Put(t.Context(), hub, seg.Bytes()); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("stranger: put: %v", err)
		}
	})
}
