// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// hubs is a Putter whose hubs behave as told: by the position of the hub in the world.
type hubs struct {
	t     *testing.T
	world *transporttest.World
	put   func(ctx context.Context, hub, try int) error // hub answers its try-th call, from 1

	mu    sync.Mutex
	asked map[int]int
	has   map[int]int // acks
	ended map[int]int
}

func (h *hubs) Put(ctx context.Context, hub edge.ID, _ []byte) error {
	i := slices.Index(h.world.HubIDs(), hub)
	h.mu.Lock()
	h.asked[i]++
	try := h.asked[i]
	h.mu.Unlock()
	err := h.put(ctx, i, try)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended[i]++
	if err == nil {
		h.has[i]++
	}
	return err
}

// count returns what was counted of a hub.
func (h *hubs) count(of map[int]int, hub int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return of[hub]
}

// sites of the hubs by position: 0 and 1 stand together, so that they alone are no quorum of three.
var sites = []string{"a", "a", "b", "b", "c"}

// worldOf is a fleet of n hubs and its device's first segment.
func worldOf(t *testing.T, n int) (*transporttest.World, *journal.Segment) {
	t.Helper()
	w := transporttest.NewWorld(t, n, 1)
	for i, id := range w.HubIDs() {
		w.Grant(t, fleet.Grant{Member: id, Name: fmt.Sprintf("hub-%d", i), Roles: fleet.Hub, Site: sites[i]})
	}
	return w, w.Chain(t, w.Devices[0], "main").Next(1)
}

// publishing runs a test in virtual time with n hubs that behave as put says.
func publishing(t *testing.T, n int, put func(ctx context.Context, hub, try int) error, test func(*testing.T, *hubs, *transport.Publisher, *journal.Segment)) {
	t.Helper()
	w, seg := worldOf(t, n)
	synctest.Test(t, func(t *testing.T) {
		h := &hubs{t: t, world: w, put: put, asked: map[int]int{}, has: map[int]int{}, ended: map[int]int{}}
		p := transport.NewPublisher(h, w.Fleet)
		defer p.Close()
		test(t, h, p, seg)
	})
}

// after answers when d has passed, or as soon as the caller gives up.
func after(ctx context.Context, d time.Duration, err error) error {
	select {
	case <-time.After(d):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func refusal(r transport.Reason) error { return &transport.Refusal{Reason: r} }

func TestPublishReturnsAtQuorum(t *testing.T) {
	delays := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 10 * time.Second, 20 * time.Second}
	publishing(t, 5, func(ctx context.Context, hub, _ int) error { return after(ctx, delays[hub], nil) },
		func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
			var mu sync.Mutex
			var observed []edge.ID
			p.Observe(func(hub edge.ID, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("observed %v", err)
				}
				observed = append(observed, hub)
			})
			began := time.Now()
			r, err := p.Publish(t.Context(), seg, nil)
			if err != nil || !r.Published() || !r.Forgettable() || r.Complete() || len(r.Acked) != 3 || len(r.Targets) != 5 {
				t.Fatalf("%+v, %v", r, err)
			}
			if took := time.Since(began); took != 3*time.Second {
				t.Errorf("took %s, the third hub answered after 3 s", took)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if h.count(h.has, 3) != 1 || h.count(h.has, 4) != 1 || len(observed) != 5 {
				t.Errorf("the slower hubs did not get it after the return: %v, observed %d", h.has, len(observed))
			}
		})
}

// Two hubs of one site answer at once; only the third, elsewhere, makes it published.
func TestPublishWaitsForSecondSite(t *testing.T) {
	publishing(t, 3, func(ctx context.Context, hub, _ int) error {
		return after(ctx, time.Duration(hub/2)*4*time.Second, nil)
	},
		func(t *testing.T, _ *hubs, p *transport.Publisher, seg *journal.Segment) {
			began := time.Now()
			r, err := p.Publish(t.Context(), seg, nil)
			if err != nil || len(r.Acked) != 3 || time.Since(began) != 4*time.Second {
				t.Errorf("%d acks, %v after %s", len(r.Acked), err, time.Since(began))
			}
		})
}

// Of two hubs one is enough to be published; for the second copy, which makes it forgettable, there is a short grace.
func TestPublishGrace(t *testing.T) {
	for name, c := range map[string]struct {
		second time.Duration
		acks   int
		took   time.Duration
	}{
		"second in time":  {300 * time.Millisecond, 2, 300 * time.Millisecond},
		"second too late": {3 * time.Second, 1, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			publishing(t, 2, func(ctx context.Context, hub, _ int) error { return after(ctx, time.Duration(hub)*c.second, nil) },
				func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
					began := time.Now()
					r, err := p.Publish(t.Context(), seg, nil)
					if err != nil || !r.Published() || len(r.Acked) != c.acks || time.Since(began) != c.took {
						t.Errorf("%d acks after %s, %v; want %d after %s", len(r.Acked), time.Since(began), err, c.acks, c.took)
					}
					time.Sleep(3 * time.Second)
					synctest.Wait()
					if h.count(h.has, 1) != 1 {
						t.Error("the second hub never got it")
					}
				})
		})
	}
}

// A hub whose queue is full is asked again while its copy is needed …
func TestPublishAsksBusyHubAgain(t *testing.T) {
	publishing(t, 3, func(_ context.Context, hub, try int) error {
		if hub == 0 || hub == 2 && try < 5 {
			return refusal(transport.RefusedBusy)
		}
		return nil
	}, func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
		r, err := p.Publish(t.Context(), seg, nil)
		if err != nil || len(r.Acked) != 2 {
			t.Fatalf("%d acks, %v", len(r.Acked), err)
		}
		if n := h.count(h.asked, 2); n != 5 {
			t.Errorf("asked %d times", n)
		}
		// … and no longer.
		synctest.Wait()
		before := h.count(h.asked, 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := h.count(h.asked, 0); before < 2 || n != before {
			t.Errorf("the busy hub was asked %d times before the return and %d after", before, n)
		}
	})
}

// Every other refusal is final for the call.
func TestPublishDoesNotAskRefuserAgain(t *testing.T) {
	for reason := transport.RefusedInvalid; reason < transport.RefusedBusy; reason++ {
		publishing(t, 1, func(context.Context, int, int) error { return refusal(reason) },
			func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
				r, err := p.Publish(t.Context(), seg, nil)
				var why *transport.Refusal
				if !errors.Is(err, transport.ErrNotQuorum) || !errors.As(err, &why) || why.Reason != reason || len(r.Errors) != 1 {
					t.Errorf("%v: got %v", reason, err)
				}
				if n := h.count(h.asked, 0); n != 1 {
					t.Errorf("%v: asked %d times", reason, n)
				}
			})
	}
}

// A frozen hub holds neither the call nor, after its limit, anything else.
func TestPublishWithFrozenHub(t *testing.T) {
	publishing(t, 3, func(ctx context.Context, hub, _ int) error {
		if hub == 0 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}, func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
		began := time.Now()
		r, err := p.Publish(t.Context(), seg, nil)
		if err != nil || !r.Published() || time.Since(began) != 0 {
			t.Errorf("%d acks after %s, %v", len(r.Acked), time.Since(began), err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.count(h.ended, 0) != 1 {
			t.Error("the put on the frozen hub is still under way after a minute")
		}
	})
}

// All frozen: the call ends by the limit of the puts, and the error says how many have it and why.
func TestPublishAllFrozen(t *testing.T) {
	publishing(t, 3, func(ctx context.Context, _, _ int) error { <-ctx.Done(); return ctx.Err() },
		func(t *testing.T, _ *hubs, p *transport.Publisher, seg *journal.Segment) {
			began := time.Now()
			r, err := p.Publish(t.Context(), seg, nil)
			if !errors.Is(err, transport.ErrNotQuorum) || !errors.Is(err, context.DeadlineExceeded) || len(r.Errors) != 3 {
				t.Errorf("%+v, %v", r, err)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("took %s", took)
			}
		})
}

func TestPublishEndsWithItsContext(t *testing.T) {
	publishing(t, 3, func(ctx context.Context, hub, _ int) error { return after(ctx, time.Duration(hub)*10*time.Second, nil) },
		func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			r, err := p.Publish(ctx, seg, nil)
			if !errors.Is(err, transport.ErrNotQuorum) || !errors.Is(err, context.DeadlineExceeded) || len(r.Acked) != 1 {
				t.Errorf("%d acks, %v", len(r.Acked), err)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if h.count(h.has, 2) != 1 {
				t.Error("the end of the call took the segment from the slow hub")
			}
		})
}

// Close ends what is under way and comes back only when nothing is.
func TestPublisherClose(t *testing.T) {
	w, seg := worldOf(t, 3)
	synctest.Test(t, func(t *testing.T) {
		h := &hubs{t: t, world: w, asked: map[int]int{}, has: map[int]int{}, ended: map[int]int{}}
		h.put = func(ctx context.Context, hub, _ int) error {
			if hub != 0 {
				return nil
			}
			<-ctx.Done()
			time.Sleep(time.Second) // until the connection is torn down
			return ctx.Err()
		}
		p := transport.NewPublisher(h, w.Fleet)
		p.Observe(func(hub edge.ID, err error) {
			if err != nil {
				t.Errorf("an abandoned put is no answer of the hub, but observed %v", err)
			}
		})
		if _, err := p.Publish(t.Context(), seg, nil); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.Close()
		if h.count(h.ended, 0) != 1 || time.Since(began) != time.Second {
			t.Errorf("Close came back after %s with %d puts ended", time.Since(began), h.count(h.ended, 0))
		}
		if _, err := p.Publish(t.Context(), seg, nil); !errors.Is(err, transport.ErrClosed) || h.count(h.asked, 1) != 1 {
			t.Errorf("after Close a publication gives %v, and hub 1 was asked %d times", err, h.count(h.asked, 1))
		}
	})
}

// A majority on one site is none where there are two, and the error says what is missing.
func TestPublishNeedsTwoSites(t *testing.T) {
	publishing(t, 3, func(_ context.Context, hub, _ int) error {
		if sites[hub] == "b" {
			return transport.ErrUnreachable
		}
		return nil
	}, func(t *testing.T, _ *hubs, p *transport.Publisher, seg *journal.Segment) {
		r, err := p.Publish(t.Context(), seg, nil)
		if !errors.Is(err, transport.ErrNotQuorum) || !strings.Contains(err.Error(), "2 of 3 hubs have it, all on one site") || r.Published() {
			t.Errorf("two hubs of one site: %v", err)
		}
	})
}

// The error says how far it is and wraps why; hubs that have it are not asked again.
func TestPublishGoesOnWhereItStood(t *testing.T) {
	down := fmt.Errorf("dialling: %w", transport.ErrUnreachable)
	publishing(t, 5, func(_ context.Context, hub, try int) error {
		if hub >= 2 && try == 1 {
			return down
		}
		return nil
	}, func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
		r, err := p.Publish(t.Context(), seg, nil)
		if !errors.Is(err, transport.ErrNotQuorum) || !errors.Is(err, transport.ErrUnreachable) {
			t.Fatalf("got %v", err)
		}
		if want := "transport: publishing: 2 of 5 hubs have it, 3 needed: "; len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("got %q", err)
		}
		if len(r.Acked) != 2 || len(r.Errors) != 3 || r.Published() {
			t.Errorf("receipt %+v", r)
		}
		r, err = p.Publish(t.Context(), seg, r.Acked)
		if err != nil || !r.Published() || len(r.Acked) < 3 {
			t.Errorf("%d acks, %v", len(r.Acked), err)
		}
		synctest.Wait()
		for hub := range 5 {
			want := 1
			if hub >= 2 {
				want = 2
			}
			if n := h.count(h.asked, hub); n != want {
				t.Errorf("hub %d was asked %d times, want %d", hub, n, want)
			}
		}
	})
}

// Hubs come and go between calls: acks of those that are no hub any more do not count.
func TestPublishAfterFleetChange(t *testing.T) {
	w, seg := worldOf(t, 3)
	revoked, late := w.Hubs[0].ID(), transporttest.NewKey(t)
	synctest.Test(t, func(t *testing.T) {
		h := &hubs{t: t, world: w, asked: map[int]int{}, has: map[int]int{}, ended: map[int]int{}}
		h.put = func(_ context.Context, hub, _ int) error {
			if hub == 1 {
				return nil
			}
			return transport.ErrUnreachable
		}
		p := transport.NewPublisher(h, w.Fleet)
		defer p.Close()
		w.Grant(t, fleet.Grant{Member: revoked, Name: "hub-0", Roles: fleet.Device},
			fleet.Grant{Member: late.ID(), Name: "late", Roles: fleet.Hub, Site: "d"})
		r, err := p.Publish(t.Context(), seg, []edge.ID{revoked})
		if !errors.Is(err, transport.ErrNotQuorum) || len(r.Targets) != 3 || !slices.Equal(r.Acked, []edge.ID{w.Hubs[1].ID()}) {
			t.Errorf("the ack of a hub that is none any more must not count: %d of %d, %v", len(r.Acked), len(r.Targets), err)
		}
		if h.count(h.asked, 0) != 0 || h.count(h.asked, -1) != 1 {
			t.Errorf("asked %v: not the former hub, and the new one (-1) once", h.asked)
		}
	})
}

func TestPublishWithoutHubs(t *testing.T) {
	publishing(t, 0, nil, func(t *testing.T, _ *hubs, p *transport.Publisher, seg *journal.Segment) {
		_, err := p.Publish(t.Context(), seg, nil)
		if !errors.Is(err, transport.ErrNotQuorum) || !errors.Is(err, transport.ErrNoHubs) {
			t.Errorf("got %v", err)
		}
	})
}
