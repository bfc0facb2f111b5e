// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
)

// uplink is the way of one device to the hubs of a cluster: it can be dead, and the hubs give the device a share of so many segments a second.
type uplink struct {
	*cluster
	dead atomic.Bool
	rate float64

	mu    sync.Mutex
	share map[edge.ID]*bucket
	sent  []*sent          // since the link is alive, in the order in which the device sent them first
	seen  map[string]*sent // by the last bytes of a segment, which are those of its AEAD tag: proving each try costs minutes under -race
}

// sent is one segment that was sent.
type sent struct {
	seq  uint64
	made int64     // ms since boot, of its newest reading
	has  []edge.ID // hubs
	at   time.Time // when the second of them had it
}

// bucket is a token bucket.
type bucket struct {
	tokens float64
	last   time.Time
}

func (u *uplink) Put(ctx context.Context, hub edge.ID, segment []byte) error {
	if u.dead.Load() {
		return fmt.Errorf("test: %w", transport.ErrUnreachable)
	}
	entry := u.sending(segment)
	if !u.take(hub) {
		return &transport.Refusal{Hub: hub, Reason: transport.RefusedRate, Detail: "test"}
	}
	if err := u.cluster.Put(ctx, hub, segment); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if entry.has = append(entry.has, hub); len(entry.has) == 2 {
		entry.at = time.Now()
	}
	return nil
}

func (u *uplink) sending(segment []byte) *sent {
	u.mu.Lock()
	defer u.mu.Unlock()
	tag := string(segment[len(segment)-16:])
	if s := u.seen[tag]; s != nil {
		return s
	}
	seg, err := journal.Open(segment, u.Fleet().ID())
	check(u.t, err)
	s := &sent{seq: seg.Seq, made: seg.Mono}
	u.sent = append(u.sent, s)
	if u.seen == nil {
		u.seen = map[string]*sent{}
	}
	u.seen[tag] = s
	return s
}

// take counts a segment against the device's share at a hub: bursts of a second, or of one.
func (u *uplink) take(hub edge.ID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.share[hub]
	if b == nil {
		b = &bucket{tokens: u.rate, last: time.Now()}
		u.share[hub] = b
	}
	b.tokens = min(max(u.rate, 1), b.tokens+u.rate*time.Since(b.last).Seconds())
	b.last = time.Now()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// run starts a device behind the uplink whose one sensor counts once in every interval. stop returns its last status.
func (u *uplink) run(o outbox.Options, every time.Duration, stream agent.Stream) (a *agent.Agent, logs *swarm.Buffer, stop func() agent.Status) {
	u.t.Helper()
	key := u.Devices[0]
	o.Fleet, o.Signer = u.Fleet().ID(), key
	logs = &swarm.Buffer{}
	logger := slog.New(slog.NewTextHandler(logs, nil))
	o.Logger = logger
	box, rec, err := outbox.Open(u.t.Context(), o)
	check(u.t, err)
	publisher := transport.NewPublisher(u, u.Fleet)
	hubs := agent.NewHubs(logger)
	publisher.Observe(hubs.Answered)
	a, err = agent.New(agent.Config{Boot: journal.BootID{1}, Clock: agent.NewClock(0, time.Now(), func() bool { return true }, time.Time{}),
		Probes: []agent.Probe{probe("count", every, &steady{})}, Streams: []agent.Stream{stream}, Unsealed: rec.Spooled,
		Readers: func(s string) ([]journal.Reader, error) { return u.Fleet().Readers(key.ID(), s) },
		Outbox:  box, Publisher: publisher, Rivals: u, Hubs: hubs, Logger: logger})
	check(u.t, err)
	ctx, cancel := context.WithCancel(u.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, logs, func() agent.Status {
		cancel()
		check(u.t, <-done)
		publisher.Close()
		st := a.Status()
		check(u.t, box.Close())
		return st
	}
}

// A device behind a dead uplink for seven days: when the link is back, what waited comes in its order, a new segment is on its hubs within seconds of
// its sealing all the while, the hubs' limit of the rate fails nothing, and the device remembers little.
func TestUplink_DeadForSevenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, batch, rate = 20 * time.Second, 10 * time.Minute, 0.5 // 1 000 segments; each hub takes one in two seconds
		u := &uplink{cluster: newCluster(t, 3), rate: rate, share: map[edge.ID]*bucket{}}
		defer u.close()
		u.dead.Store(true)
		began := time.Now()
		a, logs, stop := u.run(outbox.Options{Dir: t.TempDir()}, every, agent.Stream{Name: "main", Age: batch, Readings: 1000})
		time.Sleep(time.Hour)
		before := heap()
		time.Sleep(7*24*time.Hour - time.Hour)
		synctest.Wait()
		waited := a.Status()
		main := waited.Streams[0]
		if main.Pending.Segments < 1000 || main.Published.Segments != 0 || waited.Outbox.GivenUp != 0 || waited.Outbox.Bytes > waited.Outbox.Quota {
			t.Fatalf("%+v, %+v", main, waited.Outbox)
		}
		if w := main.OldestPending; w == nil || w.Seq != 0 || w.Age == nil || time.Duration(*w.Age)*time.Millisecond < 7*24*time.Hour-2*batch {
			t.Errorf("oldest pending after seven days: %+v", w)
		}
		if grown := heap() - before; grown > 2<<20 { // an entry of the index each, not the segments
			t.Errorf("%d segments cost %d bytes of memory", main.Pending.Segments, grown)
		}
		if n := logs.Count("nothing is published"); n != 1 {
			t.Errorf("the outage was logged %d times", n)
		}
		back := time.Now()
		u.dead.Store(false)
		for a.Status().Streams[0].Pending.Segments > 3 && time.Since(back) < 12*time.Hour {
			time.Sleep(time.Minute)
		}
		if took, least := time.Since(back), time.Duration(float64(main.Pending.Segments)*2/rate/3)*time.Second; took > 3*least {
			t.Errorf("%d segments took %s, two of three hubs take them in %s", main.Pending.Segments, took, least)
		} else {
			t.Logf("%d segments in %s, at best %s", main.Pending.Segments, took, least)
		}
		time.Sleep(10 * time.Minute)
		st := stop()
		u.inOrder(began, back)
		if n := logs.Count("level=WARN") + logs.Count("level=ERROR"); n > 5 {
			t.Errorf("%d alarms:\n%s", n, logs)
		}
		got := u.readings(u.Recovery)
		for v := 1.0; v <= float64(len(got)); v++ {
			if got[v] != 1 {
				t.Fatalf("reading %v is there %d times", v, got[v])
			}
		}
		made := int(time.Since(began)/every) + 1
		if len(got)+int(st.Outbox.Readings) < made || st.Outbox.LostReadings != 0 || st.Streams[0].Lost != 0 {
			t.Errorf("%d of %d readings on hubs, %+v", len(got), made, st.Outbox)
		}
	})
}

// inOrder checks what was sent since the link is alive: the old segments in their order, but for the newest of them, which pass the
// others as new ones do, and each new one within seconds.
func (u *uplink) inOrder(began, back time.Time) {
	u.t.Helper()
	var old []uint64
	worst, fresh := time.Duration(0), 0
	for _, s := range u.sent {
		if made := began.Add(time.Duration(s.made) * time.Millisecond); made.After(back) {
			fresh++
			worst = max(worst, s.at.Sub(made))
			continue
		}
		old = append(old, s.seq)
	}
	passed := 0
	for i, least := len(old)-1, uint64(math.MaxUint64-32); i >= 0; i-- {
		if old[i] > least+32 { // so many are on their way at once
			passed++
		}
		least = min(least, old[i])
	}
	if passed > 64+8 { // the newest of them, and the first segments of the epochs, with which the device tried whether the link is back
		u.t.Errorf("%d segments come before older ones", passed)
	}
	if fresh < 3 || worst > 4*time.Minute { // of the half hour that the backlog takes; hubs take a segment in two seconds, and some of it passes before it is sealed
		u.t.Errorf("%d new segments, one of them %s after its last reading", fresh, worst)
	}
	u.t.Logf("%d new segments, at most %s after their last reading", fresh, worst)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An outage that is longer than the quota: the oldest segments go, each reading is counted once, and readers are told which.
func TestUplink_DeadBeyondTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &uplink{cluster: newCluster(t, 3), rate: 1e6, share: map[edge.ID]*bucket{}}
		defer u.close()
		u.dead.Store(true)
		const every = time.Minute
		a, _, stop := u.run(outbox.Options{Dir: t.TempDir(), Quota: 1 << 20}, every, agent.Stream{Name: "main", Age: 4 * time.Minute, Readings: 1000})
		most := int64(0)
		for range 7 * 24 {
			time.Sleep(time.Hour)
			most = max(most, a.Status().Outbox.Bytes)
		}
		out := a.Status().Outbox
		if most > 1<<20 || out.GivenUp == 0 || out.LostReadings == 0 {
			t.Fatalf("at most %d bytes, %+v", most, out)
		}
		u.dead.Store(false)
		time.Sleep(time.Hour + time.Millisecond)
		st := stop()
		values, told := u.readings(u.Recovery), u.gaps(u.Recovery)
		made := int((7*24+1)*time.Hour/every) + 1
		if sum := len(values) + int(told) + int(st.Outbox.Readings); sum != made || told != st.Outbox.LostReadings {
			t.Errorf("%d readings on hubs, %d told to be lost (%d by the device), %d wait: %d of %d", len(values), told, st.Outbox.LostReadings, st.Outbox.Readings, sum, made)
		}
	})
}

// gaps opens the notes on all hubs and returns how many readings they say are lost.
func (c *cluster) gaps(k journal.ReaderKey) (readings uint64) {
	c.t.Helper()
	seen := map[string]bool{}
	c.each(k, func(ring *journal.Keyring, seg *journal.Segment) {
		if seg.Kind != journal.KindNote || seen[seg.Hash.String()] {
			return
		}
		if n, err := ring.Note(seg); err == nil {
			seen[seg.Hash.String()] = true
			if n.Gap != nil {
				readings += n.Gap.Readings
			}
		}
	})
	return readings
}

// brittle is a card that can be made to fail.
type brittle struct {
	wal.File
	sync  *atomic.Bool  // fsync fails
	write *atomic.Bool  // it is full
	slow  *atomic.Int64 // ns that an fsync takes
}

func (f brittle) Sync() error {
	if d := f.slow.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
	if f.sync.Load() {
		return syscall.EIO
	}
	return f.File.Sync()
}

func (f brittle) WriteAt(p []byte, off int64) (int, error) {
	if f.write.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}

// A card that fails at each fsync, or is full, or takes half a minute for each write, for a while: the device says so once, holds or counts every
// reading, and goes on by itself.
func TestUplink_BadCard(t *testing.T) {
	for name, c := range map[string]struct {
		durability outbox.Durability
		bad        func(card brittle, now bool)
		span       time.Duration
		alarms     int // lines of the log, at most
		lost       bool
	}{
		"EIO at fsync, balanced":            {outbox.Balanced, func(f brittle, now bool) { f.sync.Store(now) }, 20 * time.Minute, 3, false},
		"EIO at fsync, strict":              {outbox.Strict, func(f brittle, now bool) { f.sync.Store(now) }, 5 * time.Minute, 4, false},
		"full":                              {outbox.Balanced, func(f brittle, now bool) { f.write.Store(now) }, 20 * time.Minute, 2, false},
		"full, strict":                      {outbox.Strict, func(f brittle, now bool) { f.write.Store(now) }, 5 * time.Minute, 3, false},
		"full for longer than memory holds": {outbox.Balanced, func(f brittle, now bool) { f.write.Store(now) }, 10 * time.Hour, 2, true},
		"slow": {outbox.Balanced, func(f brittle, now bool) {
			f.slow.Store(map[bool]int64{true: int64(30 * time.Second)}[now])
		}, 20 * time.Minute, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &uplink{cluster: newCluster(t, 3), rate: 1e6, share: map[edge.ID]*bucket{}}
				defer u.close()
				card := brittle{nil, &atomic.Bool{}, &atomic.Bool{}, &atomic.Int64{}}
				o := outbox.Options{Dir: t.TempDir(), Durability: c.durability, Wrap: func(f wal.File) wal.File { return brittle{f, card.sync, card.write, card.slow} }}
				a, logs, stop := u.run(o, time.Second, agent.Stream{Name: "main", Age: 10 * time.Second, Readings: 1000})
				time.Sleep(time.Minute)
				c.bad(card, true)
				time.Sleep(c.span)
				synctest.Wait()
				if st := a.Status(); c.alarms > 0 && st.Streams[0].Error == "" {
					t.Errorf("the status says nothing: %+v", st.Streams[0])
				}
				c.bad(card, false)
				time.Sleep(5*time.Minute + time.Millisecond)
				if st := a.Status(); st.Streams[0].Error != "" || st.Outbox.Error != "" {
					t.Errorf("afterwards it still says %q, %q", st.Streams[0].Error, st.Outbox.Error)
				}
				st := stop()
				if n := logs.Count("level=ERROR") + logs.Count("level=WARN"); n > c.alarms {
					t.Errorf("%d alarms:\n%s", n, logs)
				}
				got, made := u.readings(u.Recovery), int((c.span+6*time.Minute)/time.Second)+1
				lost := int(st.Streams[0].Lost)
				if (lost > 0) != c.lost || len(got)+lost+int(st.Outbox.Readings) != made || uint64(lost) != u.gaps(u.Recovery) {
					t.Errorf("%d readings on hubs, %d wait, %d lost, %d told to be lost, of %d", len(got), st.Outbox.Readings, lost, u.gaps(u.Recovery), made)
				}
				for v, n := range got {
					if n != 1 {
						t.Fatalf("reading %v is there %d times", v, n)
					}
				}
			})
		})
	}
}
