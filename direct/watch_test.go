// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"bytes"
	"context"
	"errors"
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
)

var boot = journal.BootID{7, 7}

// watchable is a world whose device takes readings.
func watchable(tb testing.TB, recent int, change func(*direct.Options)) (*world, *live.Feed) {
	tb.Helper()
	feed := live.NewFeed(recent)
	return newWorld(tb, func(o *direct.Options) {
		o.Feed, o.Boot = feed, boot
		if change != nil {
			change(o)
		}
	}), feed
}

// take has the device take a reading of the lamp, in the stream main, and one of the air, in the stream secret, at each ms.
func take(f *live.Feed, ms ...int64) {
	for _, n := range ms {
		at := edge.Instant{Mono: n, Wall: 1_760_000_000_000 + n}
		f.Offer([]edge.Reading{{Sensor: "relay", Sample: edge.Sample{Quantity: edge.Quantity{Name: "switch", Kind: edge.State}, Value: float64(n % 2)}, At: at}})
		f.Offer([]edge.Reading{{Sensor: "air", Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: float64(n)}, At: at}})
	}
}

// seen collects what a watch tells.
type seen struct {
	mu    sync.Mutex
	all   []direct.Live
	began chan struct{}
	end   chan error
}

// watch begins a watch and returns once the device has confirmed it.
func watch(ctx context.Context, tb testing.TB, s *direct.Session, name string, since *direct.Place) *seen {
	tb.Helper()
	w := &seen{began: make(chan struct{}), end: make(chan error, 1)}
	go func() {
		w.end <- s.Watch(ctx, name, since, func(l direct.Live) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.all = append(w.all, l); len(w.all) == 1 {
				close(w.began)
			}
		})
	}()
	select {
	case <-w.began:
	case err := <-w.end:
		tb.Fatalf("the watch of %q: %v", name, err)
	}
	return w
}

// got returns what was told, one word a reading.
func (w *seen) got() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.all {
		if l.Lost > 0 {
			out = append(out, fmt.Sprintf("lost %d", l.Lost))
		}
		for _, r := range l.Readings {
			word := fmt.Sprintf("%s@%d", r.Sensor, r.At.Mono)
			if !r.At.Synced() {
				word += " unsynced"
			}
			if l.Late {
				word += " late"
			}
			out = append(out, word)
		}
	}
	return out
}

func (w *seen) place() direct.Place {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[len(w.all)-1].Next
}

func (w *seen) want(tb testing.TB, want ...string) {
	tb.Helper()
	if got := w.got(); !slices.Equal(got, want) {
		tb.Errorf("got %q, want %q", got, want)
	}
}

// wantCut wants a watch to have ended as one that can go on.
func wantCut(tb testing.TB, w *seen) {
	tb.Helper()
	if err := <-w.end; !direct.Resumable(err) {
		tb.Errorf("%v: and yet it is over for good", err)
	}
}

// TestWatch: readings come in order as they are taken, all or one property's, with the time as the device knows it, and end when the watcher wants.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, feed := watchable(t, 0, nil)
		defer w.server.Close()
		s := w.open(operator)
		defer s.Close()
		take(feed, 1, 2) // before: nobody asked for it
		ctx, cancel := context.WithCancel(t.Context())
		all, one := watch(ctx, t, s, "", nil), watch(ctx, t, s, "air/temperature", nil)
		take(feed, 3, 4)
		feed.Offer([]edge.Reading{{Sensor: "relay", Sample: edge.Sample{Quantity: edge.Quantity{Name: "switch", Kind: edge.State}}, At: edge.Instant{Mono: 5}},
			{Sensor: "relay", Sample: edge.Sample{Quantity: edge.Quantity{Name: "switch", Kind: edge.State}}, At: edge.Instant{Mono: 6, Wall: 1_760_000_000_000}}})
		synctest.Wait()
		all.want(t, "relay@3", "air@3", "relay@4", "air@4", "relay@5 unsynced", "relay@6")
		one.want(t, "air@3", "air@4")
		if l := all.all[1]; l.Boot != boot || l.Readings[0].At.Wall != 1_760_000_000_003 || l.Readings[0].Value != 1 {
			t.Errorf("%+v", l)
		}
		cancel()
		for _, end := range []chan error{all.end, one.end} {
			if err := <-end; direct.ReasonOf(err) != direct.Cancelled && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if called, _, _ := w.audit.counts(); called != 2 {
			t.Errorf("%d watches in the audit, want 2", called)
		}
	})
}

// TestWatch_Rights: the device shows each watcher the streams that the fleet lets it read, and says where there is nothing to see.
func TestWatch_Rights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, feed := watchable(t, 0, nil)
		defer w.server.Close()
		w.grantRelay() // the right to switch it is none to read the stream
		s, theirs := w.open(reader), w.open(stranger)
		defer s.Close()
		defer theirs.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		mine := watch(ctx, t, s, "", nil)
		take(feed, 1, 2)
		synctest.Wait()
		mine.want(t, "relay@1", "relay@2")
		for name, reason := range map[string]direct.Reason{"air/temperature": direct.NoRight, "relay/interval": direct.NotThere, "x/y": direct.NotThere} {
			wantReason(t, s.Watch(ctx, name, nil, nil), reason)
		}
		for _, name := range []string{"", "relay/switch"} {
			wantReason(t, theirs.Watch(ctx, name, nil, nil), direct.NoRight)
		}
		blind := newWorld(t, nil)
		defer blind.server.Close()
		b := blind.open(operator)
		defer b.Close()
		wantReason(t, b.Watch(ctx, "", nil, nil), direct.NotThere)
		if err := b.Watch(ctx, "", nil, nil); direct.Resumable(err) {
			t.Errorf("%v: and yet it is to be tried again", err)
		}
	})
}

// TestWatch_RevokedInMidWatch: from the moment at which the device knows, no reading more goes to who has lost the right.
func TestWatch_RevokedInMidWatch(t *testing.T) {
	for name, change := range map[string]func(*world){
		"revoked": func(w *world) { w.revoke(reader.ID()) },
		"less":    func(w *world) { w.grant(fleet.Grant{Member: reader.ID(), Name: "eve", Roles: fleet.Collector}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, feed := watchable(t, 0, nil)
				defer w.server.Close()
				s := w.open(reader)
				defer s.Close()
				mine := watch(t.Context(), t, s, "", nil)
				take(feed, 1)
				synctest.Wait()
				change(w)
				take(feed, 2) // the fleet has changed, and nobody has reviewed the sessions yet
				synctest.Wait()
				w.server.Review()
				err := <-mine.end
				wantReason(t, err, direct.NoRight)
				if direct.Resumable(err) {
					t.Errorf("%v: and yet it is to be tried again", err)
				}
				take(feed, 3)
				synctest.Wait()
				mine.want(t, "relay@1")
			})
		})
	}
	t.Run("one of two streams", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, feed := watchable(t, 0, nil)
			defer w.server.Close()
			s := w.open(operator)
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			mine := watch(ctx, t, s, "", nil)
			take(feed, 1)
			synctest.Wait()
			w.grant(fleet.Grant{Member: operator.ID(), Name: "ann", Roles: fleet.Operator, Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"secret"}}}})
			w.server.Review()
			take(feed, 2)
			synctest.Wait()
			mine.want(t, "relay@1", "air@1", "air@2")
		})
	})
}

// TestWatch_NeverReads: a watcher that takes nothing holds up neither the sampler nor the others, and loses its session.
func TestWatch_NeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, feed := watchable(t, 0, nil)
		defer w.server.Close()
		end, over := w.serve(operator.ID())
		raw := wire{t, end}
		raw.greet()
		raw.send('Q', []any{direct.NewID(), 5, "", 3_000_000, nil, []byte{}}) // and then nothing is read any more
		s := w.open(operator)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		other := watch(ctx, t, s, "air/temperature", nil)
		began := time.Now()
		for n := range int64(1000) {
			take(feed, n+1)
			synctest.Wait()
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the sampler was held up for %s", took)
		}
		if got := other.got(); len(got) != 1000 {
			t.Errorf("the other watcher got %d of 1000", len(got))
		}
		if err := <-over; time.Since(began) != 10*time.Second {
			t.Errorf("its session ended after %s, want 10 s: %v", time.Since(began), err)
		}
	})
}

// TestWatch_Slow: who reads, but too slowly, is told how many readings it has missed, and is not put out.
func TestWatch_Slow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, feed := watchable(t, 16, nil)
		defer w.server.Close()
		s := w.open(operator)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var lost, got uint64
		begun := make(chan struct{}, 1)
		end := make(chan error, 1)
		go func() {
			end <- s.Watch(ctx, "", nil, func(l direct.Live) {
				select {
				case begun <- struct{}{}:
				default:
				}
				got, lost = got+uint64(len(l.Readings)), lost+l.Lost
				time.Sleep(time.Second) // of the bubble
			})
		}()
		<-begun
		for n := range int64(200) {
			take(feed, n+1)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		cancel()
		wantReason(t, <-end, direct.Cancelled)
		if got+lost != 400 || lost < 200 {
			t.Errorf("%d got and %d told as lost of 400", got, lost)
		}
	})
}

// TestWatch_Resumes: a watch that goes on where it was cut off gets what was taken meanwhile, once; what the device has let go is counted; after a start of the
// device's program it gets what that still has.
func TestWatch_Resumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, feed := watchable(t, 8, nil)
		defer w.server.Close()
		again := func(since *direct.Place) (*seen, func()) {
			s := w.open(operator)
			return watch(context.Background(), t, s, "", since), func() { _ = s.Close() }
		}
		first, cut := again(nil)
		take(feed, 1)
		synctest.Wait()
		cut()
		wantCut(t, first)
		take(feed, 2, 3)
		place := first.place()
		second, cut := again(&place)
		take(feed, 4)
		synctest.Wait()
		second.want(t, "relay@2 late", "air@2 late", "relay@3 late", "air@3 late", "relay@4", "air@4")
		cut()
		wantCut(t, second)
		take(feed, 5, 6, 7, 8, 9, 10)
		place = second.place()
		third, cut := again(&place)
		synctest.Wait()
		third.want(t, "lost 4", "relay@7 late", "air@7 late", "relay@8 late", "air@8 late", "relay@9 late", "air@9 late", "relay@10 late", "air@10 late")
		cut()
		wantCut(t, third)
		feed = live.NewFeed(8)
		w.restart(func(o *direct.Options) { o.Feed, o.Boot = feed, boot })
		defer w.server.Close()
		take(feed, 11)
		place = third.place()
		fourth, cut := again(&place)
		synctest.Wait()
		fourth.want(t, "relay@11 late", "air@11 late")
		if fourth.place().Run == place.Run {
			t.Error("the watcher cannot see that the program has started anew")
		}
		cut()
		wantCut(t, fourth)
	})
}

// TestWatch_LongTexts: readings that do not fit one frame come in several, none is lost.
func TestWatch_LongTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, feed := watchable(t, 0, nil)
		defer w.server.Close()
		s := w.open(operator)
		defer s.Close()
		place := direct.Place{}
		text := make([]byte, edge.MaxTextLength)
		for i := range text {
			text[i] = 'x'
		}
		for n := range int64(100) {
			feed.Offer([]edge.Reading{{Sensor: "relay", Sample: edge.Sample{Quantity: edge.Quantity{Name: "switch", Kind: edge.Text}, Text: string(text)}, At: edge.Instant{Mono: n}}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all := watch(ctx, t, s, "", &place)
		synctest.Wait()
		got := all.got()
		if len(got) != 100 || got[99] != "relay@99 unsynced late" {
			t.Errorf("%d readings: %q", len(got), got)
		}
	})
}

// TestWatch_Many: 200 watchers, each in a session of its own, get every reading.
func TestWatch_Many(t *testing.T) {
	const watchers, readings = 200, 50
	w, feed := watchable(t, 0, func(o *direct.Options) { o.Sessions, o.PerPeer = 2*watchers, watchers })
	defer w.server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	done := make(chan int, watchers)
	begun := make(chan struct{}, watchers)
	for range watchers {
		s := w.open(operator)
		defer s.Close()
		all.Go(func() {
			n, once := 0, false
			_ = s.Watch(ctx, "", nil, func(l direct.Live) {
				if !once {
					once = true
					begun <- struct{}{}
				}
				if n += len(l.Readings) + int(l.Lost); n == 2*readings {
					done <- n
				}
			})
		})
	}
	limit := time.After(2 * time.Minute)
	for range watchers {
		select {
		case <-begun:
		case <-limit:
			t.Fatal("not all watches have begun")
		}
	}
	for n := range int64(readings) {
		take(feed, n+1)
	}
	for range watchers {
		select {
		case <-done:
		case <-limit:
			t.Fatal("not everybody has got everything")
		}
	}
	cancel()
	all.Wait()
}

// FuzzWatch: a device says anything where readings are due. What is handed on is valid, in bounded time.
func FuzzWatch(f *testing.F) {
	id := direct.RequestID{1}
	pack, err := edge.MarshalSenML(device.ID(), 9, []edge.Reading{{Sensor: "air", Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: 20.5}, At: edge.Instant{Mono: 7}}})
	ok(f, err)
	h := frame(f, 'H', []any{1, direct.Nonce{7}, 60000, 1})
	word := func(mono, wall uint64, pack []byte) []byte {
		return frame(f, 'W', []any{id, boot, mono, wall, [16]byte{3}, 5, 1, 2, pack})
	}
	for _, seed := range [][]byte{word(9, 0, pack), word(9, 1_760_000_000_000, pack), word(0, 0, nil), word(3, 0, pack), word(1<<63, 0, pack), word(9, 0, []byte{0x81}),
		append(word(9, 0, pack), frame(f, 'R', []any{id, 9, "as you asked", nil})...)} {
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
		_, _ = direct.WatchAs(ctx, c, id, func(l direct.Live) {
			for _, r := range l.Readings {
				if err := r.Validate(); err != nil {
					t.Error(err)
				}
			}
		})
		if ctx.Err() != nil {
			t.Error("no end")
		}
	})
}
