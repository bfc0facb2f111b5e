// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// TestPressureConcurrent: streams that seal at the same time, two publishers whose hubs come and go, and too little
// room. All that was sealed is published or told to be lost.
func TestPressureConcurrent(t *testing.T) {
	o := options(t.TempDir())
	o.Quota = 1 << 20
	k, rs := readerKey(t)
	b, _ := open(t, o)
	h := newHistory(t)
	const streams, segments, each = 3, 250, 300
	sealing, stop := context.WithCancel(ctx)
	defer stop()
	var sealers, publishers sync.WaitGroup
	for i := range streams {
		name := fmt.Sprintf("s%d", i)
		start(t, b, name, rs)
		sealers.Go(func() {
			for n := range segments {
				seal(t, b, name, (i*segments+n)*each, each)
			}
		})
	}
	for range 2 {
		publishers.Go(func() {
			for {
				items, err := b.Take(sealing, 4)
				if err != nil {
					return
				}
				for _, it := range items {
					r := receipt(rand.IntN(4))
					switch rand.IntN(6) {
					case 0:
						r = oneHub()
					case 1, 2, 3:
						r = transport.Receipt{}
					}
					if r.Published() {
						h.add(it.Segment)
					}
					if err := b.Ack(it, r); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	sealers.Wait()
	stop()
	publishers.Wait()
	st := b.Status()
	if st.GivenUp == 0 || st.Bytes > o.Quota || st.Failed != "" {
		t.Fatalf("%+v", st)
	}
	for round := range 2 { // room for the first round may cost a stream that has just told its gaps some more
		for i := range streams {
			seal(t, b, fmt.Sprintf("s%d", i), 1_000_000+round*streams+i, 1)
		}
		h.add(drain(t, b, receipt(3))...)
	}
	values, gaps, _ := h.read(k)
	account(t, h, streams*(segments*each+2), values, gaps)
	t.Logf("%d given up in %d gaps, %d forgotten early", st.GivenUp, len(gaps), st.Forgotten)
}

// TestSpoolOutlivesLog: readings that counted are sealed once even where the log that counted them is gone.
func TestSpoolOutlivesLog(t *testing.T) {
	o := options(t.TempDir())
	o.Durability = outbox.Strict
	k, rs := readerKey(t)
	b, _ := open(t, o)
	start(t, b, "main", rs)
	for i := range 10 {
		check(t, b.Spool(ctx, "main", boot, readings(i*300, 300)))
	}
	for i := range 7 {
		seal(t, b, "main", i*300, 300)
	}
	check(t, b.Close())
	check(t, os.RemoveAll(filepath.Join(o.Dir, "log")))
	h := newHistory(t)
	for round := range 3 {
		b, rec := open(t, o)
		start(t, b, "main", rs)
		for _, s := range rec.Spooled {
			if round == 2 {
				t.Fatalf("%d readings come once more", len(s.Readings))
			}
			_, err := b.Seal(ctx, s.Stream, s.Boot, s.Readings)
			check(t, err)
		}
		h.add(drain(t, b, receipt(3))...)
		check(t, b.Close())
	}
	values, _, _ := h.read(k)
	seen := map[float64]int{}
	for _, v := range values {
		seen[v]++
	}
	for n := 2100; n < 3000; n++ {
		if seen[float64(n)] != 1 {
			t.Fatalf("reading %d is published %d times", n, seen[float64(n)])
		}
	}
}

// TestTakeWaits: Take returns as soon as there is something, and when the outbox is closed.
func TestTakeWaits(t *testing.T) {
	_, rs := readerKey(t)
	b, _ := open(t, options(t.TempDir()))
	got := make(chan error, 2)
	take := func() {
		c, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		items, err := b.Take(c, 1)
		if err == nil && items[0].Segment.Kind != journal.KindEpoch {
			err = fmt.Errorf("kind %d", items[0].Segment.Kind)
		}
		got <- err
	}
	go take()
	start(t, b, "main", rs)
	check(t, <-got)
	go take()
	check(t, b.Close())
	if err := <-got; err == nil {
		t.Error("closed, and Take returns something")
	}
}
