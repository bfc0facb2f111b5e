// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// TestSweepsAmongOthers: while devices put, collectors mark and readers read, sweeps let go and move; every reader gets all of what is above the floor.
func TestSweepsAmongOthers(t *testing.T) {
	w, dir := newKeeping(t), t.TempDir()
	w.retainStream(t, "main", 7*day, w.one)
	w.retainStream(t, "slow", 7*day)
	o := w.options()
	o.Quota = 640 << 10
	s := open(t, dir, o)
	slow := w.chain(t, w.device, "slow")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg, putting sync.WaitGroup
	var stays atomic.Uint64 // how many of slow are acknowledged
	done := make(chan struct{})
	for range 3 {
		c := w.chain(t, w.device, "main")
		putting.Go(func() {
			for range 40 {
				segs := c.epoch(5)
				for _, seg := range segs {
					if err := s.Put(ctx, seg.Bytes()); err != nil {
						t.Errorf("putting: %v", err)
						return
					}
				}
				if err := s.Mark(ctx, marks(t, w, w.one, segs[4])); err != nil {
					t.Errorf("marking: %v", err)
				}
			}
		})
	}
	putting.Go(func() {
		for range 100 {
			seg := slow.next(20)
			if err := s.Put(ctx, seg.Bytes()); err != nil {
				t.Errorf("putting: %v", err)
				return
			}
			stays.Add(1)
		}
	})
	loop := func(do func() error) {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := do(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loop(func() error { return s.Sweep(ctx) })
	loop(func() error {
		want, got := stays.Load(), uint64(0)
		err := s.Fetch(ctx, slow.w.Chain(), transport.Span{Last: end}, func(raw []byte) error {
			seg, err := journal.Open(raw, w.fleet.ID())
			if err == nil && seg.Seq != got {
				err = errors.New("a segment is missing")
			}
			got++
			return err
		})
		if err == nil && got < want {
			err = errors.New("acknowledged segments are missing")
		}
		return err
	})
	loop(func() error {
		s.Stats()
		s.Waits()
		if _, err := s.Held(ctx, edge.ID{}); err != nil {
			return err
		}
		return s.Ranges(ctx, transport.RangeQuery{}, func(transport.Range) error { return nil })
	})
	putting.Wait()
	close(done)
	wg.Wait()
	for range 20 {
		sweep(t, s)
	}
	st := s.Stats()
	if st.Moved == 0 || st.LetGo[transport.PastCollected] < 500 || st.Damaged > 0 || st.Freed < 100<<10 {
		t.Errorf("%+v", st)
	}
	check(t, s.Close())
	s = open(t, dir, o)
	if got := fetch(t, s, slow.w.Chain(), 0, end); len(got) != 100 {
		t.Errorf("%d of 100 after a restart", len(got))
	}
	if after := s.Stats(); after.Segments != st.Segments || after.Chains != st.Chains {
		t.Errorf("after a restart %+v\nbefore %+v", after, st)
	}
}
