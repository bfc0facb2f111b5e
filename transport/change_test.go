// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/transporttest"
)

// demote makes a hub a mere device, which for quorums is the same as a revocation.
func demote(t *testing.T, w *transporttest.World, hub int) {
	t.Helper()
	w.Grant(t, fleet.Grant{Member: w.Hubs[hub].ID(), Name: "former", Roles: fleet.Device})
}

// Two hubs have a segment when one of them is revoked; the third copy makes it published by the old count and not by the new one.
func TestRevokedHub_CountsInNoQuorumUnderWay(t *testing.T) {
	delays := []time.Duration{time.Second, time.Second, 4 * time.Second, 8 * time.Second, time.Hour}
	publishing(t, 5, func(ctx context.Context, hub, _ int) error { return after(ctx, delays[hub], nil) },
		func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
			began := time.Now()
			go func() {
				time.Sleep(2 * time.Second)
				demote(t, h.world, 0)
			}()
			r, err := p.Publish(t.Context(), seg, nil)
			if err != nil || time.Since(began) != 8*time.Second {
				t.Errorf("published after %s: %v; of the four hubs that are left three have it after 8 s", time.Since(began), err)
			}
			if len(r.Targets) != 4 || slices.Contains(r.Acked, h.world.Hubs[0].ID()) || len(r.Acked) != 3 {
				t.Errorf("receipt of %d targets, acked %v", len(r.Targets), r.Acked)
			}
		})
}

// The hubs that are left have it all already: the revocation of a silent one must not be waited for.
func TestRevokedHub_IsNotWaitedFor(t *testing.T) {
	publishing(t, 3, func(ctx context.Context, hub, _ int) error {
		if hub == 0 {
			return nil
		}
		return after(ctx, time.Hour, nil)
	}, func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
		began := time.Now()
		go func() {
			time.Sleep(2 * time.Second)
			demote(t, h.world, 1)
			demote(t, h.world, 2)
			p.FleetChanged()
		}()
		r, err := p.Publish(t.Context(), seg, nil)
		if err != nil || len(r.Targets) != 1 || time.Since(began) != 2*time.Second {
			t.Errorf("after %s: %d targets, %v", time.Since(began), len(r.Targets), err)
		}
	})
}

// A hub that is enrolled while a segment waits is asked for it at once.
func TestNewHub_IsAskedForWhatIsUnderWay(t *testing.T) {
	w, seg := worldOf(t, 1)
	late := transporttest.NewKey(t)
	synctest.Test(t, func(t *testing.T) {
		h := &hubs{t: t, world: w, asked: map[int]int{}, has: map[int]int{}, ended: map[int]int{}}
		h.put = func(ctx context.Context, hub, _ int) error {
			if hub == 0 {
				return after(ctx, 20*time.Second, nil)
			}
			return nil
		}
		p := transport.NewPublisher(h, w.Fleet)
		defer p.Close()
		go func() {
			time.Sleep(3 * time.Second)
			w.Grant(t, fleet.Grant{Member: late.ID(), Name: "late", Roles: fleet.Hub, Site: "z"})
			p.FleetChanged()
		}()
		began := time.Now()
		r, err := p.Publish(t.Context(), seg, nil)
		if took := time.Since(began); err != nil || len(r.Targets) != 2 || !slices.Equal(r.Acked, []edge.ID{late.ID()}) || took != 3*time.Second+500*time.Millisecond {
			t.Errorf("after %s: acked %v of %d, %v", took, r.Acked, len(r.Targets), err)
		}
	})
}

func TestCount_ByTheFleetAsItIsNow(t *testing.T) {
	publishing(t, 3, func(context.Context, int, int) error { return nil }, func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
		acked := []edge.ID{h.world.Hubs[0].ID(), h.world.Hubs[2].ID()}
		if r := p.Count(seg.Chain, seg.Seq, acked); !r.Forgettable() || len(r.Targets) != 3 {
			t.Errorf("two of three on two sites: %+v", r)
		}
		demote(t, h.world, 0)
		if r := p.Count(seg.Chain, seg.Seq, acked); len(r.Acked) != 1 || r.Forgettable() {
			t.Errorf("after a revocation: %+v", r)
		}
		demote(t, h.world, 1)
		demote(t, h.world, 2)
		if r := p.Count(seg.Chain, seg.Seq, acked); r.Published() {
			t.Errorf("without hubs: %+v", r)
		}
		synctest.Wait()
	})
}
