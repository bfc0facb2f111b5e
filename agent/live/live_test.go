// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/live"
)

func reading(n int) []edge.Reading {
	return []edge.Reading{{Sensor: "air", Sample: edge.Sample{Quantity: edge.Quantity{Name: "count"}, Value: float64(n)}, At: edge.Instant{Mono: int64(n)}}}
}

// follow reads until it has the reading last, checks that none is doubled or in disorder, and returns how many it got and missed.
func follow(tb testing.TB, f *live.Feed, from uint64, last int) (got, missed uint64) {
	tb.Helper()
	into := make([]edge.Reading, 7)
	for {
		n, first, err := f.Read(context.Background(), from, into)
		if err != nil {
			tb.Error(err)
			return got, missed
		}
		missed += first - from
		for i, r := range into[:n] {
			if r.Value != float64(first)+float64(i) {
				tb.Errorf("reading %g at place %d", r.Value, first+uint64(i))
				return got, missed
			}
		}
		got += uint64(n)
		if from = first + uint64(n); from > uint64(last) {
			return got, missed
		}
	}
}

// TestWatcherThatNeverReads: it costs the sampler nothing, the feed does not grow, and when it does read it is told exactly how many it has missed.
func TestWatcherThatNeverReads(t *testing.T) {
	f := live.NewFeed(100)
	into := make([]edge.Reading, 1)
	f.Offer(reading(0))
	if n, first, err := f.Read(t.Context(), 0, into); n != 1 || first != 0 || err != nil {
		t.Fatal(n, first, err)
	}
	for n := 1; n < 100_000; n++ { // nobody reads: were Offer to wait for it, this would never end
		f.Offer(reading(n))
	}
	got, missed := follow(t, f, 1, 99_999)
	if got != 100 || missed != 99_999-100 {
		t.Errorf("%d readings and %d missed, want 100 and %d", got, missed, 99_999-100)
	}
	one := reading(1)
	if n := testing.AllocsPerRun(1000, func() { f.Offer(one) }); n != 0 {
		t.Errorf("offering a reading allocates %g times", n)
	}
}

// TestManyWatchers: 200, each as fast as it gets to run. What each has got and has missed adds up to all there was.
func TestManyWatchers(t *testing.T) {
	const watchers, readings = 200, 2000
	f := live.NewFeed(512)
	var all sync.WaitGroup
	var mu sync.Mutex
	sum := uint64(0)
	for range watchers {
		all.Go(func() {
			got, missed := follow(t, f, 0, readings-1)
			if got+missed != readings {
				t.Errorf("%d got and %d missed of %d", got, missed, readings)
			}
			mu.Lock()
			defer mu.Unlock()
			sum += got
		})
	}
	for n := range readings {
		f.Offer(reading(n))
	}
	all.Wait()
	if sum < watchers*512 {
		t.Errorf("%d readings in all, want at least the last 512 for each of %d", sum, watchers)
	}
}

// TestReadWaits: until there is a reading, or the end of ctx.
func TestReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := live.NewFeed(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		time.AfterFunc(time.Second, func() { f.Offer(reading(0)) })
		into := make([]edge.Reading, 4)
		began := time.Now()
		if n, first, err := f.Read(ctx, 99, into); n != 1 || first != 0 || err != nil || time.Since(began) != time.Second { // 99 is beyond the head: it is taken as the head
			t.Fatal(n, first, err, time.Since(began))
		}
		if _, _, err := f.Read(ctx, 1, into); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Fatal(err, time.Since(began))
		}
		if f.Head() != 1 || f.Run() == live.NewFeed(0).Run() {
			t.Error("head", f.Head(), "run", f.Run())
		}
	})
}

// BenchmarkOffer: what a sampler pays with 200 watchers that wait.
func BenchmarkOffer(b *testing.B) {
	f := live.NewFeed(0)
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			into, from := make([]edge.Reading, 256), uint64(0)
			for {
				n, first, err := f.Read(ctx, from, into)
				if err != nil {
					return
				}
				from = first + uint64(n)
			}
		})
	}
	one := reading(1)
	for b.Loop() {
		f.Offer(one)
	}
	cancel()
	all.Wait()
}
