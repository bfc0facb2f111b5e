// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/live"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// hearable is a world whose device tells of alarms, and of its sensors' faults.
func hearable(tb testing.TB, recent int) (*world, *live.Ring[direct.Occurrence]) {
	tb.Helper()
	events := live.NewRing[direct.Occurrence](recent)
	w := newWorld(tb, func(o *direct.Options) { o.Events = events })
	w.thing.Events = map[string]thing.Event{"alarm": {}, "sensor-fault": {Streams: true}}
	w.thing.NextVersion(1)
	var err error
	w.record, err = thing.Sign(device, w.thing)
	ok(tb, err)
	return w, events
}

// happen has an alarm and a fault of the sensors of both streams take place.
func happen(events *live.Ring[direct.Occurrence], ms ...int64) {
	for _, n := range ms {
		at := edge.Instant{Mono: n, Wall: 1_760_000_000_000 + n}
		for _, e := range []direct.Occurrence{{Name: "alarm", Data: map[string]any{"kind": "fork"}}, {Name: "sensor-fault", Stream: "main", Data: map[string]any{"sensor": "relay"}},
			{Name: "sensor-fault", Stream: "secret", Data: map[string]any{"sensor": "air", "count": uint64(n)}}} {
			e.At = at
			events.Offer([]direct.Occurrence{e})
		}
	}
}

// listener collects what a subscription tells, one word each.
type listener struct {
	mu    sync.Mutex
	words []string
	began chan struct{}
	end   chan error
}

func listen(ctx context.Context, tb testing.TB, s *direct.Session, name string) *listener {
	tb.Helper()
	l := &listener{began: make(chan struct{}), end: make(chan error, 1)}
	first := true
	go func() {
		l.end <- s.Subscribe(ctx, name, func(o direct.Occurrence) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if first {
				first = false
				close(l.began)
				return
			}
			word := fmt.Sprintf("%s@%d %v", o.Name, o.At.Mono, o.Data)
			if o.Lost > 0 {
				word = fmt.Sprintf("lost %d; %s", o.Lost, word)
			}
			l.words = append(l.words, word)
		})
	}()
	select {
	case <-l.began:
	case err := <-l.end:
		l.end <- err
	}
	return l
}

func (l *listener) want(tb testing.TB, want ...string) {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.words, want) {
		tb.Errorf("heard %q, want %q", l.words, want)
	}
}

// TestSubscribe: who may command an event's name hears of it, who may read a sensor's stream of that sensor's, as they take place and no earlier ones; nobody else of any.
func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, events := hearable(t, 64)
		defer w.server.Close()
		w.grant(fleet.Grant{Member: stranger.ID(), Name: "bob", Roles: fleet.Collector, Rights: []fleet.Right{{Do: fleet.Command, On: []string{"pi-1"}, What: []string{"alarm"}}}})
		ann, eve, bob := w.open(operator), w.open(reader), w.open(stranger)
		defer ann.Close()
		defer eve.Close()
		defer bob.Close()
		happen(events, 1) // before anybody asked
		ctx, cancel := context.WithCancel(t.Context())
		all, alarms, mains, bobs := listen(ctx, t, ann, ""), listen(ctx, t, ann, "alarm"), listen(ctx, t, eve, ""), listen(ctx, t, bob, "")
		happen(events, 2)
		synctest.Wait()
		all.want(t, "alarm@2 map[kind:fork]", "sensor-fault@2 map[sensor:relay]", "sensor-fault@2 map[count:2 sensor:air]")
		alarms.want(t, "alarm@2 map[kind:fork]")
		mains.want(t, "sensor-fault@2 map[sensor:relay]")
		bobs.want(t, "alarm@2 map[kind:fork]")
		wantReason(t, <-listen(ctx, t, eve, "alarm").end, direct.NoRight)
		wantReason(t, <-listen(ctx, t, bob, "sensor-fault").end, direct.NoRight)
		wantReason(t, <-listen(ctx, t, ann, "earthquake").end, direct.NotThere)
		cancel()
		if err := <-all.end; !direct.Resumable(err) {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestSubscribe_RightTaken: a subscription ends within the change of the fleet that takes the last right to it.
func TestSubscribe_RightTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, events := hearable(t, 64)
		defer w.server.Close()
		eve := w.open(reader)
		defer eve.Close()
		l := listen(t.Context(), t, eve, "")
		happen(events, 1)
		synctest.Wait()
		w.grant(fleet.Grant{Member: reader.ID(), Name: "eve", Roles: fleet.Collector, Rights: []fleet.Right{{Do: fleet.Read, On: []string{"elsewhere"}, What: []string{"main"}}}})
		w.server.Review()
		happen(events, 2)
		wantReason(t, <-l.end, direct.NoRight)
		l.want(t, "sensor-fault@1 map[sensor:relay]")
	})
}

// TestSubscribe_NeverReads: who does not take what it subscribed to loses its session, keeps nobody waiting, and what is not kept so long is counted for who is slow.
func TestSubscribe_NeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, events := hearable(t, 6)
		defer w.server.Close()
		end, over := w.serve(operator.ID())
		(wire{t, end}).greet()
		(wire{t, end}).send('Q', []any{direct.RequestID{1}, 6, "", 60000, nil, []byte{}})
		synctest.Wait()
		began := time.Now()
		for i := range int64(1000) {
			happen(events, i)
		}
		if time.Since(began) > 0 {
			t.Error("what happened waited for who hears of it")
		}
		if err := <-over; err != nil { // the device has closed it
			t.Log(err)
		}
		s := w.open(operator)
		defer s.Close()
		release, held := make(chan struct{}), make(chan struct{})
		var words []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			n := 0
			_ = s.Subscribe(t.Context(), "alarm", func(o direct.Occurrence) {
				switch n++; n {
				case 1:
					close(held)
					<-release
				default:
					words = append(words, fmt.Sprint(o.Name, o.Lost))
				}
			})
		}()
		<-held
		for i := range int64(10) {
			happen(events, i)
		}
		close(release)
		synctest.Wait()
		_ = s.Close()
		<-done
		told, lost := 0, 0
		for _, word := range words {
			var n int
			if _, err := fmt.Sscanf(word, "alarm%d", &n); err == nil {
				told++
			} else if _, err := fmt.Sscanf(word, "%d", &n); err != nil {
				t.Errorf("%q", word)
			}
			lost += n
		}
		if lost == 0 || told == 0 || lost+3*told > 30+3 || lost+3*told < 30-3 {
			t.Errorf("of 30 events %d were lost and %d alarms told: %q", lost, told, words)
		}
	})
}

// FuzzSubscribe: a device tells anything. What comes out is an event that can be written down, or an end.
func FuzzSubscribe(f *testing.F) {
	id := direct.RequestID{1}
	h := frame(f, 'H', []any{1, direct.Nonce{7}, 60000, 1})
	word := func(name string, mono, wall uint64, data any) []byte {
		return frame(f, 'V', []any{id, name, mono, wall, 1, data})
	}
	for _, seed := range [][]byte{word("", 0, 0, nil), word("alarm", 5, 0, map[string]any{"kind": "fork", "n": 3}), word("alarm", 1<<63, 0, nil), word("alarm", 1, 1, []any{1}), word("alarm", 1, 1, 7),
		append(word("alarm", 1, 1_760_000_000_000, nil), frame(f, 'R', []any{id, 9, "as you asked", nil})...)} {
		f.Add(append(slices.Clone(h), seed...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &tape{in: bytes.NewReader(in), ended: make(chan struct{})}
		c, err := direct.Open(context.Background(), s, direct.Config{Signer: operator, Device: device.ID()})
		if err != nil {
			return
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = direct.SubscribeAs(ctx, c, id, func(o direct.Occurrence) {
			if _, err := journal.Encode(o.Data); err != nil || o.At.Mono < 0 || o.At.Wall < 0 || len(o.Name) > 128 {
				t.Errorf("%+v: %v", o, err)
			}
		})
		if ctx.Err() != nil {
			t.Error("no end")
		}
	})
}
