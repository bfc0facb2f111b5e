// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

// dates returns the receipts of what is held of a chain, as time since the bubble began; unknown ones as -1.
func dates(t testing.TB, s *store.Store, c *chain) (out []time.Duration) {
	t.Helper()
	check(t, s.FetchDated(context.Background(), c.w.Chain(), transport.Span{Last: end}, func(_ []byte, received int64) error {
		d := time.Duration(-1)
		if received != 0 {
			d = time.UnixMilli(received).Sub(start(nil))
		}
		out = append(out, d)
		return nil
	}))
	return out
}

// TestClockThatJumps: a clock that is set decades ahead by mistake lets nothing go while somebody can still set it right, over a restart too; and no
// receipt keeps its date.
func TestClockThatJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		s := open(t, dir, w.options())
		c := w.chain(t, w.device, "main")
		put(t, s, append(c.epoch(3), c.epoch(2)...)...)
		sweep(t, s)
		w.off = 38 * 365 * day
		for i := range 10 { // twice less than what a jump is doubted for
			put(t, s, c.epoch(2)...)
			sweep(t, s)
			if i == 4 {
				check(t, s.Close())
				s = open(t, dir, w.options())
			}
			time.Sleep(time.Hour)
		}
		w.off = 0
		c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 24})
		sweep(t, s)
		c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 24})
	})
}

// TestClockIsSetRight: what was received while the clock was wrong is dated anew when it is right, and goes at its age.
func TestClockIsSetRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		s := open(t, dir, w.options())
		c := w.chain(t, w.device, "main")
		put(t, s, c.epoch(3)...)
		sweep(t, s)
		w.off = 38 * 365 * day
		time.Sleep(time.Hour)
		put(t, s, c.epoch(2)...)
		sweep(t, s)
		time.Sleep(time.Hour)
		w.off = 0
		sweep(t, s)
		for range 2 {
			if d := dates(t, s, c); d[0] != 0 || d[4] != 2*time.Hour {
				t.Fatalf("received after %v", d)
			}
			check(t, s.Close())
			s = open(t, dir, w.options())
		}
		put(t, s, c.epoch(1)...)
		time.Sleep(7*day + time.Minute)
		sweep(t, s)
		c.wants(s, 5, transport.PastAge, transport.Span{First: 5, Last: 5})
	})
}

// TestOffForLong: a hub that was switched off for longer than the maximum age believes its clock after some hours.
func TestOffForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		s := open(t, dir, w.options())
		c := w.chain(t, w.device, "main")
		put(t, s, append(c.epoch(3), c.epoch(2)...)...)
		sweep(t, s)
		check(t, s.Close())
		time.Sleep(20 * day)
		s = open(t, dir, w.options())
		sweep(t, s)
		put(t, s, c.epoch(1)...)
		c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 5})
		time.Sleep(6*time.Hour + time.Minute)
		sweep(t, s)
		c.wants(s, 3, transport.PastAge, transport.Span{First: 3, Last: 5}) // the second epoch ended when the third came
		if d := dates(t, s, c); d[2] != 20*day {
			t.Errorf("received after %v", d)
		}
	})
}

// TestClockNotKnown: while nobody vouches for the clock nothing ages; from when somebody does, all that is there ages from then, over restarts.
func TestClockNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		w.unknown = true
		s := open(t, dir, w.options())
		c := w.chain(t, w.device, "main")
		segs := append(c.epoch(3), c.epoch(2)...)
		put(t, s, segs[:4]...)
		check(t, s.PutDated(t.Context(), segs[4].Bytes(), 5)) // without a clock a claim is not believed either
		time.Sleep(20 * day)
		sweep(t, s)
		c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 4})
		if d := dates(t, s, c); d[0] != -1 || d[4] != -1 || s.Stats().Undated != 5 {
			t.Errorf("received after %v", d)
		}
		w.unknown = false
		sweep(t, s)
		check(t, s.Close())
		w.unknown = true
		s = open(t, dir, w.options())
		if d := dates(t, s, c); d[0] != 20*day || d[4] != 20*day || s.Stats().Undated != 0 {
			t.Errorf("received after %v", d)
		}
		time.Sleep(7*day + time.Minute)
		sweep(t, s)
		c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 4})
		w.unknown = false
		sweep(t, s) // the time that passes while nobody vouches for it is time
		c.wants(s, 3, transport.PastAge, transport.Span{First: 3, Last: 4})
	})
}

// TestClaimedReceipts: what another hub says of when it received a segment is believed within bounds.
func TestClaimedReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		s := open(t, dir, w.options())
		time.Sleep(100 * day)
		at := func(d time.Duration) int64 { return start(nil).Add(d).UnixMilli() }
		c := w.chain(t, w.device, "main")
		first := c.next(1)
		put(t, s, first)
		for _, tc := range []struct {
			name          string
			wall          time.Duration // of the newest reading; 0 = the device did not know
			claimed, want time.Duration
		}{
			{"true", 97 * day, 98 * day, 98 * day},
			{"to the ms", 97 * day, 98*day + 1234*time.Millisecond, 98*day + 1234*time.Millisecond},
			{"later than now", 97 * day, 101 * day, 100 * day},
			{"before it was read", 97 * day, 20 * day, 97 * day},
			{"not known", 97 * day, -1, 100 * day},
			{"of a device with a wrong clock", 105 * day, 98 * day, 100 * day},
			{"of a device without a clock", 0, 97 * day, 97 * day},
			{"a lie about one", 0, 10 * day, 100*day - 84*time.Hour},
		} {
			r := edge.Reading{Sensor: "x", At: edge.Instant{Mono: 1000}, Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: 1}}
			if tc.wall != 0 {
				r.At.Wall = at(tc.wall)
			}
			seg, err := c.w.Readings(journal.BootID{1}, []edge.Reading{r})
			check(t, err)
			check(t, c.w.Commit(seg))
			claim := int64(0)
			if tc.claimed > 0 {
				claim = at(tc.claimed)
			}
			check(t, s.PutDated(t.Context(), seg.Bytes(), claim))
			if d := dates(t, s, c); d[len(d)-1] != tc.want {
				t.Errorf("%s: received after %s, want %s", tc.name, d[len(d)-1], tc.want)
			}
		}
		before := dates(t, s, c)
		check(t, s.Close())
		s = open(t, dir, w.options())
		for i, d := range dates(t, s, c) {
			if d != before[i] {
				t.Errorf("seq %d: received after %s, and after a restart %s", i, before[i], d)
			}
		}
	})
}

// TestUndatedLog: a log from before receipts were dated is read, and its segments age from when the time is known.
func TestUndatedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newKeeping(t), t.TempDir()
		c := w.chain(t, w.device, "main")
		segs := append(c.epoch(3), c.epoch(2)...)
		log, _, err := wal.Open(dir, wal.Options{}, nil)
		check(t, err)
		for _, seg := range segs {
			_, err := log.Append(t.Context(), append([]byte("S"), seg.Bytes()...))
			check(t, err)
		}
		check(t, log.Close())
		s := open(t, dir, w.options())
		if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(segs)) || dates(t, s, c)[0] != -1 {
			t.Fatalf("%d segments", len(got))
		}
		time.Sleep(3 * day)
		sweep(t, s)
		time.Sleep(7*day - time.Minute)
		sweep(t, s)
		c.wants(s, 0, transport.PastNone, transport.Span{First: 0, Last: 4})
		time.Sleep(2 * time.Minute)
		sweep(t, s)
		c.wants(s, 3, transport.PastAge, transport.Span{First: 3, Last: 4})
	})
}
