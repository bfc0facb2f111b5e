// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/transporttest"
)

// uplink is a Courier to hubs with real keys, which behave as told.
type uplink struct {
	world *transporttest.World
	dead  map[edge.ID]bool // takes nothing
	// show, where set, is what a hub does in place of handing on.
	show func(hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) error

	mu       sync.Mutex
	carried  map[edge.ID][]uint64 // seqs by hub
	confirms []journal.Custody
}

func (u *uplink) Connected(edge.ID) bool { return false }

func (u *uplink) Put(_ context.Context, hub edge.ID, raw []byte) error {
	if u.dead[hub] {
		return fmt.Errorf("dead: %w", transport.ErrUnreachable)
	}
	seg, err := journal.Open(raw, u.world.Fleet().ID())
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.carried[hub] = append(u.carried[hub], seg.Seq)
	return nil
}

func (u *uplink) Confirm(_ context.Context, hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) error {
	u.mu.Lock()
	u.confirms = append(u.confirms, want)
	u.mu.Unlock()
	if u.show != nil {
		return u.show(hub, want, visit)
	}
	for _, key := range u.world.Hubs {
		if key.ID() == hub || u.dead[key.ID()] {
			continue
		}
		c := want
		c.Storer = key.ID()
		signature, err := c.Sign(key)
		if err != nil {
			return err
		}
		if !visit(c.Storer, signature) {
			return nil
		}
	}
	return nil
}

func (u *uplink) carriers() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.carried)
}

// metered runs a test in virtual time with five hubs.
func metered(t *testing.T, test func(*testing.T, *uplink, *transport.Metered, []*journal.Segment)) {
	t.Helper()
	w := transporttest.NewWorld(t, 5, 1)
	segs := w.Chain(t, w.Devices[0], "main").Many(70)
	synctest.Test(t, func(t *testing.T) {
		u := &uplink{world: w, dead: map[edge.ID]bool{}, carried: map[edge.ID][]uint64{}}
		p := transport.NewPublisher(u, w.Fleet)
		m := transport.NewMetered(p, u, 10*time.Second, nil)
		defer m.Close()
		test(t, u, m, segs)
	})
}

func publishAll(t *testing.T, m *transport.Metered, segs []*journal.Segment) {
	t.Helper()
	var all sync.WaitGroup
	for _, s := range segs {
		all.Go(func() {
			if r, err := m.Publish(t.Context(), s, nil); err != nil || !r.Published() || !r.Forgettable() {
				t.Errorf("seq %d: %d of %d copies: %v", s.Seq, len(r.Acked), len(r.Targets), err)
			}
		})
	}
	all.Wait()
}

// TestMeteredOneCopy: each segment crosses the uplink once, and those of a bucket share their proofs.
func TestMeteredOneCopy(t *testing.T) {
	metered(t, func(t *testing.T, u *uplink, m *transport.Metered, segs []*journal.Segment) {
		began := time.Now()
		publishAll(t, m, segs[:10])
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %s, gathering takes 10 s", took)
		}
		if len(u.carried) != 1 || len(u.confirms) != 1 || u.confirms[0].From != 0 || u.confirms[0].To != 9 {
			t.Errorf("carried by %v, asked %+v", u.carried, u.confirms)
		}
		began = time.Now()
		publishAll(t, m, segs[10:26]) // as many as are asked about at once
		if took := time.Since(began); took != 0 {
			t.Errorf("a full run took %s", took)
		}
		publishAll(t, m, segs[26:]) // over the end of a bucket
		for _, c := range u.confirms {
			if c.From/journal.BucketSize != c.To/journal.BucketSize {
				t.Errorf("asked about two buckets at once: %d to %d", c.From, c.To)
			}
		}
		if u.carriers() != 1 {
			t.Errorf("carried by %d hubs without need", u.carriers())
		}
		seen := map[[16]byte]bool{}
		for _, c := range u.confirms {
			if seen[c.Nonce] {
				t.Error("a nonce was used twice")
			}
			seen[c.Nonce] = true
		}
	})
}

// TestMeteredLies: what a hub shows counts for nothing unless the storers signed just that.
func TestMeteredLies(t *testing.T) {
	old := map[edge.ID][]byte{} // signatures over another nonce
	lies := map[string]func(u *uplink, hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool){
		"signs for others": func(u *uplink, hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) {
			for _, key := range u.world.Hubs {
				c := want
				c.Storer = hub
				for _, own := range u.world.Hubs {
					if own.ID() == hub && key.ID() != hub {
						signature, _ := c.Sign(own)
						visit(key.ID(), signature)
					}
				}
			}
		},
		"shows old proofs": func(u *uplink, hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) {
			for _, key := range u.world.Hubs {
				c := want
				c.Storer, c.Nonce = key.ID(), [16]byte{}
				old[key.ID()], _ = c.Sign(key)
				if key.ID() != hub {
					visit(key.ID(), old[key.ID()])
				}
			}
		},
		"invents hubs": func(_ *uplink, _ edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) {
			for range 5 {
				key := transporttest.NewKey(t)
				c := want
				c.Storer = key.ID()
				signature, _ := c.Sign(key)
				visit(key.ID(), signature)
			}
		},
		"repeats one":   repeat,
		"shows nothing": func(*uplink, edge.ID, journal.Custody, func(edge.ID, []byte) bool) {},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			metered(t, func(t *testing.T, u *uplink, m *transport.Metered, segs []*journal.Segment) {
				u.show = func(hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) error {
					lie(u, hub, want, visit)
					return nil
				}
				r, err := m.Publish(t.Context(), segs[0], nil)
				if !errors.Is(err, transport.ErrNotQuorum) || r.Published() {
					t.Fatalf("published on the word of one hub: %+v, %v", r, err)
				}
				liar := r.Acked[0]
				u.show = nil
				if r, err = m.Publish(t.Context(), segs[0], nil); err != nil || !r.Published() {
					t.Fatalf("%+v, %v", r, err)
				}
				if len(u.carried[liar]) != 1 || u.carriers() != 2 {
					t.Errorf("carried again by the liar: %v", u.carried)
				}
			})
		})
	}
}

// repeat is a hub that shows one good proof many times.
func repeat(u *uplink, hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) {
	for _, key := range u.world.Hubs {
		if key.ID() != hub {
			c := want
			c.Storer = key.ID()
			signature, _ := c.Sign(key)
			for range 5 {
				visit(key.ID(), signature)
			}
			return
		}
	}
}

// TestMeteredDeadHubs: hubs that cannot be reached cost a try each; without a majority nothing is published, and what was proven is kept.
func TestMeteredDeadHubs(t *testing.T) {
	metered(t, func(t *testing.T, u *uplink, m *transport.Metered, segs []*journal.Segment) {
		order := transport.Place(segs[0].Chain.Bucket(0).Key(), u.world.HubIDs())
		u.dead[order[0]], u.dead[order[1]] = true, true
		r, err := m.Publish(t.Context(), segs[0], nil)
		if err != nil || len(r.Acked) != 3 || len(r.Errors) != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
		u.dead[order[3]] = true
		r, err = m.Publish(t.Context(), segs[1], nil)
		if !errors.Is(err, transport.ErrNotQuorum) || len(r.Acked) != 2 {
			t.Fatalf("published on two of five: %+v, %v", r, err)
		}
		delete(u.dead, order[3])
		if r, err = m.Publish(t.Context(), segs[1], r.Acked); err != nil || len(r.Acked) != 3 {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

// TestMeteredOneHub: the only hub's answer is all there is.
func TestMeteredOneHub(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	seg := w.Chain(t, w.Devices[0], "main").Next(1)
	synctest.Test(t, func(t *testing.T) {
		u := &uplink{world: w, dead: map[edge.ID]bool{}, carried: map[edge.ID][]uint64{}}
		m := transport.NewMetered(transport.NewPublisher(u, w.Fleet), u, time.Minute, nil)
		defer m.Close()
		if r, err := m.Publish(t.Context(), seg, nil); err != nil || !r.Published() || len(u.confirms) != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestMeteredSites: a majority on one site is not enough, where there are two.
func TestMeteredSites(t *testing.T) {
	metered(t, func(t *testing.T, u *uplink, m *transport.Metered, segs []*journal.Segment) {
		far := transport.Place(segs[0].Chain.Bucket(0).Key(), u.world.HubIDs())[4]
		for i, id := range u.world.HubIDs() {
			site := "near"
			if id == far {
				site = "far"
			}
			u.world.Grant(t, fleet.Grant{Member: id, Name: fmt.Sprintf("hub-%d", i), Roles: fleet.Hub, Site: site})
		}
		u.dead[far] = true
		if r, err := m.Publish(t.Context(), segs[0], nil); !errors.Is(err, transport.ErrNotQuorum) || len(r.Acked) != 4 {
			t.Fatalf("published on one site: %+v, %v", r, err)
		}
		delete(u.dead, far)
		r, err := m.Publish(t.Context(), segs[0], nil)
		if err != nil || !slices.Contains(r.Acked, far) {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

// TestMeteredClose ends what is being gathered.
func TestMeteredClose(t *testing.T) {
	metered(t, func(t *testing.T, _ *uplink, m *transport.Metered, segs []*journal.Segment) {
		done := make(chan error, 1)
		go func() {
			_, err := m.Publish(t.Context(), segs[0], nil)
			done <- err
		}()
		synctest.Wait()
		m.Close()
		if err := <-done; !errors.Is(err, transport.ErrNotQuorum) {
			t.Errorf("%v", err)
		}
		if _, err := m.Publish(t.Context(), segs[0], nil); err == nil {
			t.Error("published after Close")
		}
	})
}
