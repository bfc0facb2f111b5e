// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// bubble runs a test in simulated time, with a world whose server is closed at the end.
func bubble(t *testing.T, change func(*direct.Options), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		defer func() { ok(t, w.server.Close()) }()
		f(t, w)
	})
}

func TestSession(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.open(operator)
		defer s.Close()
		w.doer.do["relay/switch"] = func(_ context.Context, o *direct.Order) (any, error) {
			if o.Op == direct.Get {
				return true, nil
			}
			return map[string]any{"was": false, "for": o.Value.(map[string]any)["for"]}, nil
		}
		w.doer.do["look"] = func(_ context.Context, o *direct.Order) (any, error) {
			o.Progress(0.5, "half")
			o.Progress(-1, "on")
			_, err := o.Write(bytes.Repeat([]byte("x"), 100_000))
			return []any{1.5, "two", nil}, err
		}
		ctx := t.Context()
		d, record, err := s.Describe(ctx)
		if err != nil || d.Version.Number() != s.Thing() || !bytes.Equal(record, w.record) {
			t.Fatalf("%v %v", d, err)
		}
		if v, err := s.Do(ctx, direct.Request{Op: direct.Get, Name: "relay/switch"}); err != nil || v != true {
			t.Errorf("get: %v %v", v, err)
		}
		v, err := s.Do(ctx, direct.Request{Op: direct.Call, Name: "relay/switch", Value: map[string]any{"value": true, "for": 5}})
		if err != nil || fmt.Sprint(v) != "map[for:5 was:false]" {
			t.Errorf("call: %v %v", v, err)
		}
		var said []string
		var data bytes.Buffer
		v, err = s.Do(ctx, direct.Request{Op: direct.Call, Name: "look", Progress: func(done float64, text string) { said = append(said, fmt.Sprint(done, text)) }, Data: &data})
		if err != nil || fmt.Sprint(v) != "[1.5 two <nil>]" || fmt.Sprint(said) != "[0.5half -1on]" || data.Len() != 100_000 {
			t.Errorf("look: %v %v %v %d", v, err, said, data.Len())
		}
		if called, ended, refused := w.audit.counts(); called != 3 || ended != 1 || refused != 0 {
			t.Errorf("audit: %d %d %d", called, ended, refused)
		}
	})
}

// TestReplay_OtherSession: what an operator said in one session is worth nothing in another.
func TestReplay_OtherSession(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		end, _ := w.serve(operator.ID())
		tape := &recording{Conn: end}
		s, err := direct.Open(t.Context(), tape, direct.Config{Signer: operator, Device: device.ID()})
		ok(t, err)
		for _, r := range []direct.Request{{Op: direct.Set, Name: "relay/switch", Value: true}, {Op: direct.Call, Name: "reboot", Sign: true}} {
			_, err = s.Do(t.Context(), r)
			ok(t, err)
		}
		ok(t, s.Close())
		again, _ := w.serve(operator.ID())
		if _, _, err := readFrame(again); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = again.Write(tape.sent()) }()
		wire{t, again}.wantEnd(direct.BadRequest)
		if n := w.doer.times(); n != 2 {
			t.Errorf("done %d times", n)
		}
		// With the new session's nonce put in its place: the same ids are answered from what is noted, and the signature is of another session.
		third, _ := w.serve(operator.ID())
		wr := wire{t, third}
		wr.greet()
		go func() { _, _ = third.Write(tape.sent()[4+binary.BigEndian.Uint32(tape.sent()):]) }()
		var reasons []direct.Reason
		for range 2 {
			kind, body := wr.recv()
			var r result
			ok(t, journal.Decode(body, &r))
			if kind != 'R' {
				t.Fatalf("frame %q", kind)
			}
			reasons = append(reasons, r.Reason)
		}
		if n := w.doer.times(); n != 2 {
			t.Errorf("done %d times after the replay", n)
		}
		if !strings.Contains(fmt.Sprint(reasons), direct.NotSigned.String()) {
			t.Errorf("%v", reasons)
		}
	})
}

// recording keeps what is sent.
type recording struct {
	net.Conn
	mu  sync.Mutex
	out bytes.Buffer
}

func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.out.Write(p)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

func (r *recording) sent() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.out.Bytes())
}

// TestDuplicate: the same request again, in this session or the next, one after the other or at once, is done once and told as often as it is asked.
func TestDuplicate(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.doer.do["work"] = func(ctx context.Context, _ *direct.Order) (any, error) {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			return "done", ctx.Err()
		}
		id := direct.NewID()
		r := direct.Request{ID: id, Op: direct.Call, Name: "work"}
		var all sync.WaitGroup
		for range 3 {
			s := w.open(operator)
			defer s.Close()
			all.Go(func() {
				if v, err := s.Do(t.Context(), r); err != nil || v != "done" {
					t.Errorf("%v %v", v, err)
				}
			})
		}
		all.Wait()
		s := w.open(operator)
		defer s.Close()
		if v, err := s.Do(t.Context(), r); err != nil || v != "done" {
			t.Errorf("%v %v", v, err)
		}
		if n := w.doer.times(); n != 1 {
			t.Errorf("done %d times", n)
		}
		_, err := s.Do(t.Context(), direct.Request{ID: id, Op: direct.Set, Name: "relay/switch", Value: true})
		wantReason(t, err, direct.Conflict)
	})
}

// TestCrash: a power cut at any moment of a request, and the same request again. It is never done twice.
func TestCrash(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		r := direct.Request{ID: direct.NewID(), Op: direct.Call, Name: "reboot", Sign: true}
		var during *book
		w.doer.do["reboot"] = func(context.Context, *direct.Order) (any, error) {
			during = w.book.disk() // the intent is on the disk before anything is done
			return "off", nil
		}
		before := w.book.disk()
		s := w.open(operator)
		_, err := s.Do(t.Context(), r)
		ok(t, err)
		ok(t, s.Close())
		for _, c := range []struct {
			name  string
			disk  *book
			want  direct.Reason
			times int
		}{{"after", w.book.disk(), 0, 1}, {"during", during, direct.Unknown, 1}, {"before", before, 0, 2}} {
			ok(t, w.server.Close())
			w.book = c.disk
			w.restart(nil)
			s := w.open(operator)
			v, err := s.Do(t.Context(), r)
			if direct.ReasonOf(err) != c.want || c.want == 0 && v != "off" {
				t.Errorf("%s: %v %v", c.name, v, err)
			}
			if n := w.doer.times(); n != c.times {
				t.Errorf("%s: done %d times", c.name, n)
			}
			ok(t, s.Close())
		}
	})
}

// TestLedger_Fails: what cannot be noted is not done.
func TestLedger_Fails(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.book.fail = errors.New("disk full")
		s := w.open(operator)
		defer s.Close()
		_, err := s.Do(t.Context(), direct.Request{Op: direct.Set, Name: "relay/switch", Value: true})
		wantReason(t, err, direct.Busy)
		if w.doer.times() != 0 || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("%d times, %v", w.doer.times(), err)
		}
	})
}

// TestLostConnection: what acts goes on when the line is cut, and who asks again hears what came of it.
func TestLostConnection(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		begun := make(chan struct{})
		w.doer.do["work"] = func(ctx context.Context, _ *direct.Order) (any, error) {
			close(begun)
			select {
			case <-time.After(time.Minute):
				return "done", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		r := direct.Request{ID: direct.NewID(), Op: direct.Call, Name: "work"}
		end, _ := w.serve(operator.ID())
		s, err := direct.Open(t.Context(), end, direct.Config{Signer: operator, Device: device.ID()})
		ok(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		go func() { <-begun; _ = end.Close() }()
		if _, err := s.Do(ctx, r); !errors.Is(err, direct.ErrLost) {
			t.Fatalf("%v", err)
		}
		ok(t, s.Close())
		s = w.open(operator)
		defer s.Close()
		if v, err := s.Do(ctx, r); err != nil || v != "done" || w.doer.times() != 1 {
			t.Errorf("%v %v, %d times", v, err, w.doer.times())
		}
	})
}

func TestCancel(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		for _, name := range []string{"work", "look"} { // one that acts, one that does not
			stopped := make(chan error, 1)
			w.doer.do[name] = func(ctx context.Context, _ *direct.Order) (any, error) {
				<-ctx.Done()
				stopped <- ctx.Err()
				return nil, ctx.Err()
			}
			s := w.open(operator)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := s.Do(ctx, direct.Request{Op: direct.Call, Name: name})
			wantReason(t, err, direct.Cancelled)
			if <-stopped == nil {
				t.Error("not stopped")
			}
			ok(t, s.Close())
		}
	})
}

// TestExpired: a request that comes after its deadline is not done, one that lasts beyond it is cancelled, and a session ends after its time.
func TestExpired(t *testing.T) {
	bubble(t, func(o *direct.Options) { o.Life = time.Minute }, func(t *testing.T, w *world) {
		end, _ := w.serve(operator.ID())
		wr := wire{t, end}
		wr.greet()
		time.Sleep(5 * time.Second)
		id := direct.NewID()
		wr.send('Q', []any{id, direct.Set, "relay/switch", 4999, true, []byte{}})
		wr.wantResult(id, direct.Expired)
		wr.send('Q', []any{id, direct.Set, "relay/switch", uint64(1) << 40, true, []byte{}})
		wr.wantResult(id, direct.BadRequest)
		if w.doer.times() != 0 {
			t.Error("it was done")
		}
		w.doer.do["work"] = func(ctx context.Context, _ *direct.Order) (any, error) { <-ctx.Done(); return nil, ctx.Err() }
		wr.send('Q', []any{id, direct.Call, "work", 7000, nil, []byte{}})
		wr.wantResult(id, direct.Cancelled)
		wr.wantEnd(direct.Expired)
	})
}

func TestIdle(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.open(operator)
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		_, err := s.Do(t.Context(), direct.Request{Op: direct.Get, Name: "relay/switch"})
		wantReason(t, err, direct.Expired)
		ok(t, s.Close())
	})
}

// TestDeadDevice: a device that shows no life is not waited for.
func TestDeadDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(frame(t, 'H', []any{1, direct.Nonce{1}, 1000, 1}))
			_, _ = io.Copy(io.Discard, theirs)
		}()
		s, err := direct.Open(t.Context(), mine, direct.Config{Signer: operator, Device: device.ID()})
		ok(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := s.Do(ctx, direct.Request{Op: direct.Get, Name: "x"}); !errors.Is(err, direct.ErrLost) {
			t.Errorf("%v", err)
		}
		ok(t, s.Close())
	})
}

func TestNoRight(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.grant(fleet.Grant{Member: stranger.ID(), Name: "bob", Roles: fleet.Collector,
			Rights: []fleet.Right{{Do: fleet.Command, On: []string{"pi-1"}, What: []string{"relay/*", "air/*", "look"}}, {Do: fleet.Command, On: []string{"pi-2"}, What: []string{"*"}}}})
		ask := func(as journal.SoftKey, r direct.Request) error {
			s := w.open(as)
			defer s.Close()
			_, err := s.Do(t.Context(), r)
			return err
		}
		set := direct.Request{Op: direct.Set, Name: "relay/switch", Value: true}
		for _, c := range []struct {
			as   journal.SoftKey
			r    direct.Request
			want direct.Reason
		}{
			{owner, set, 0}, {operator, set, 0}, {stranger, set, 0}, {reader, set, direct.NoRight},
			{reader, direct.Request{Op: direct.Get, Name: "relay/switch"}, 0},
			{reader, direct.Request{Op: direct.Get, Name: "air/temperature"}, direct.NoRight}, // another stream
			{reader, direct.Request{Op: direct.Get, Name: "relay/interval"}, direct.NoRight},
			{stranger, direct.Request{Op: direct.Get, Name: "relay/interval"}, 0},
			{stranger, direct.Request{Op: direct.Get, Name: "air/temperature"}, direct.NoRight},
			{stranger, direct.Request{Op: direct.Call, Name: "look"}, 0},
			{stranger, direct.Request{Op: direct.Call, Name: "work"}, direct.NoRight},
			{stranger, direct.Request{Op: direct.Call, Name: "reboot", Sign: true}, direct.NoRight},
			{device, set, direct.NoRight},
		} {
			before := w.doer.times()
			err := ask(c.as, c.r)
			if direct.ReasonOf(err) != c.want || err == nil != (c.want == 0) {
				t.Errorf("%s %s as %s: %v, want %v", c.r.Op, c.r.Name, c.as.ID().Short(), err, c.want)
			}
			if did := w.doer.times() != before; did != (c.want == 0) {
				t.Errorf("%s %s as %s: done: %t", c.r.Op, c.r.Name, c.as.ID().Short(), did)
			}
		}
		end, _ := w.serve(key(99).ID())
		wire{t, end}.wantEnd(direct.NoRight)
	})
}

// TestRevoked_InMidSession: the session of somebody who is put out ends at once, with all that is under way; who loses a right loses what is under way with it.
func TestRevoked_InMidSession(t *testing.T) {
	for name, change := range map[string]func(*world){
		"revoked": func(w *world) { w.revoke(operator.ID()) },
		"less":    func(w *world) { w.grant(fleet.Grant{Member: operator.ID(), Name: "ann", Roles: fleet.Operator}) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				begun := make(chan struct{}, 2)
				for _, n := range []string{"work", "look"} {
					w.doer.do[n] = func(ctx context.Context, _ *direct.Order) (any, error) {
						begun <- struct{}{}
						<-ctx.Done()
						return nil, ctx.Err()
					}
				}
				s := w.open(operator)
				defer s.Close()
				errs := make(chan error, 2)
				for _, n := range []string{"work", "look"} {
					go func() { _, err := s.Do(t.Context(), direct.Request{Op: direct.Call, Name: n}); errs <- err }()
				}
				<-begun
				<-begun
				at := time.Now()
				change(w)
				w.server.Review()
				wantReason(t, <-errs, direct.NoRight)
				wantReason(t, <-errs, direct.NoRight)
				if d := time.Since(at); d > time.Second {
					t.Errorf("it took %s", d)
				}
				_, err := s.Do(t.Context(), direct.Request{Op: direct.Set, Name: "relay/switch", Value: true})
				wantReason(t, err, direct.NoRight)
			})
		})
	}
}

// TestDestructive: without a signature of its own over this request, session and device, nothing happens.
func TestDestructive(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.open(operator)
		defer s.Close()
		_, err := s.Do(t.Context(), direct.Request{Op: direct.Call, Name: "reboot"})
		wantReason(t, err, direct.NotSigned)

		end, _ := w.serve(operator.ID())
		other, err := direct.Open(t.Context(), end, direct.Config{Signer: operator, Device: key(9).ID()}) // wrong device
		ok(t, err)
		defer other.Close()
		_, err = other.Do(t.Context(), direct.Request{Op: direct.Call, Name: "reboot", Sign: true})
		wantReason(t, err, direct.NotSigned)

		end, _ = w.serve(operator.ID())
		foreign, err := direct.Open(t.Context(), end, direct.Config{Signer: owner, Device: device.ID()}) // not the channel's key
		ok(t, err)
		defer foreign.Close()
		_, err = foreign.Do(t.Context(), direct.Request{Op: direct.Call, Name: "reboot", Sign: true})
		wantReason(t, err, direct.NotSigned)
		if w.doer.times() != 0 {
			t.Fatal("it was done")
		}

		_, err = s.Do(t.Context(), direct.Request{Op: direct.Call, Name: "reboot", Sign: true})
		ok(t, err)
		w.audit.mu.Lock()
		defer w.audit.mu.Unlock()
		signed := w.audit.called[len(w.audit.called)-1].Signed
		if _, err := journal.OpenRecord(operator.ID(), direct.TypeCommand, signed); err != nil {
			t.Errorf("the audit's signature: %v", err)
		}
	})
}

func TestArguments_JudgedByTheDevice(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.open(operator)
		defer s.Close()
		for _, c := range []struct {
			r    direct.Request
			want direct.Reason
			says string
		}{
			{direct.Request{Op: direct.Set, Name: "relay/switch", Value: 3}, direct.BadArgument, "relay/switch is 3: want on or off"},
			{direct.Request{Op: direct.Call, Name: "look", Value: map[string]any{"level": 11}}, direct.BadArgument, "level is 11: want a whole number from 0 to 10"},
			{direct.Request{Op: direct.Call, Name: "look", Value: map[string]any{"depth": 1}}, direct.BadArgument, "depth is not known"},
			{direct.Request{Op: direct.Call, Name: "relay/switch"}, direct.BadArgument, "value is missing: want on or off"},
			{direct.Request{Op: direct.Call, Name: "work", Value: 1}, direct.BadArgument, "want no value at all"},
			{direct.Request{Op: direct.Set, Name: "air/temperature", Value: 3.0}, direct.NotThere, "can be read and not set"},
			{direct.Request{Op: direct.Get, Name: "pond/level"}, direct.NotThere, "no property"},
			{direct.Request{Op: direct.Call, Name: "format"}, direct.NotThere, "no action"},
			{direct.Request{Op: 9, Name: "x"}, direct.BadRequest, "operation 9"},
		} {
			_, err := s.Do(t.Context(), c.r)
			if direct.ReasonOf(err) != c.want || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s %s %v: %v", c.r.Op, c.r.Name, c.r.Value, err)
			}
		}
		if w.doer.times() != 0 {
			t.Error("something was done")
		}
	})
}

// TestOversize: both sides refuse a frame by its length, and the result of a device is bounded.
func TestOversize(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		end, _ := w.serve(operator.ID())
		wr := wire{t, end}
		wr.greet()
		_, err := end.Write(binary.BigEndian.AppendUint32(nil, direct.MaxAsk+1))
		ok(t, err)
		wr.wantEnd(direct.BadRequest)

		s := w.open(operator)
		_, err = s.Do(t.Context(), direct.Request{Op: direct.Call, Name: "look", Value: map[string]any{"x": strings.Repeat("x", direct.MaxAsk)}})
		if !errors.Is(err, journal.ErrOversize) {
			t.Errorf("%v", err)
		}
		w.doer.do["look"] = func(context.Context, *direct.Order) (any, error) { return strings.Repeat("x", direct.MaxTell), nil }
		_, err = s.Do(t.Context(), direct.Request{Op: direct.Call, Name: "look"})
		wantReason(t, err, direct.Failed)
		ok(t, s.Close())

		mine, theirs := net.Pipe()
		go func() { _, _ = theirs.Write(binary.BigEndian.AppendUint32(nil, direct.MaxTell+1)) }()
		if _, err := direct.Open(t.Context(), mine, direct.Config{Signer: operator, Device: device.ID()}); !errors.Is(err, direct.ErrFrame) {
			t.Errorf("%v", err)
		}
	})
}

// TestSlowReader: who does not read loses its session after a while, and holds up nobody else.
func TestSlowReader(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.doer.do["look"] = func(_ context.Context, o *direct.Order) (any, error) {
			_, err := o.Write(make([]byte, 1<<20))
			return nil, err
		}
		end, over := w.serve(operator.ID())
		wr := wire{t, end}
		wr.greet()
		wr.send('Q', []any{direct.NewID(), direct.Call, "look", 5000, nil, []byte{}})
		began := time.Now()
		other := w.open(owner)
		defer other.Close()
		if _, err := other.Do(t.Context(), direct.Request{Op: direct.Get, Name: "relay/switch"}); err != nil || time.Since(began) > time.Second {
			t.Errorf("held up for %s: %v", time.Since(began), err)
		}
		if err := <-over; err != nil {
			t.Logf("it ended for %v", err) // that depends on who notices first
		}
		if d := time.Since(began); d > 15*time.Second {
			t.Errorf("the session lasted %s", d)
		}
	})
}

// TestLimits: sessions in all and of a peer, requests at once, and how often somebody may act.
func TestLimits(t *testing.T) {
	bubble(t, func(o *direct.Options) { o.Sessions, o.PerPeer, o.AtOnce, o.Acts = 3, 2, 2, 0.1 }, func(t *testing.T, w *world) {
		first := w.open(operator)
		second := w.open(operator)
		end, _ := w.serve(operator.ID())
		wire{t, end}.wantEnd(direct.Busy)
		third := w.open(owner)
		end, _ = w.serve(reader.ID())
		wire{t, end}.wantEnd(direct.Busy)

		var all sync.WaitGroup
		release := make(chan struct{})
		w.doer.do["look"] = func(context.Context, *direct.Order) (any, error) { <-release; return nil, nil }
		for range 2 {
			all.Go(func() { _, _ = first.Do(t.Context(), direct.Request{Op: direct.Call, Name: "look"}) })
		}
		synctest.Wait()
		_, err := first.Do(t.Context(), direct.Request{Op: direct.Get, Name: "relay/switch"})
		wantReason(t, err, direct.Busy)
		close(release)
		all.Wait()

		refused := 0
		for range 5 {
			if _, err := third.Do(t.Context(), direct.Request{Op: direct.Set, Name: "relay/switch", Value: true}); direct.ReasonOf(err) == direct.Busy {
				refused++
			}
		}
		if refused != 3 { // 2.5 at once
			t.Errorf("%d of 5 refused", refused)
		}
		for _, s := range []*direct.Session{first, second, third} {
			ok(t, s.Close())
		}
		synctest.Wait()
		ok(t, w.open(reader).Close())
	})
}

// TestPlacesAreKept: members that open all the sessions that they can get leave places to operators, and operators that do so leave some to the owner, whose word ends it.
func TestPlacesAreKept(t *testing.T) {
	bubble(t, func(o *direct.Options) { o.Sessions, o.PerPeer = 32, 4 }, func(t *testing.T, w *world) {
		var all []*direct.Session
		swarm := func(first byte, role fleet.Role, wanted int) {
			held := 0
			for i := range byte(12) {
				g := fleet.Grant{Member: key(first + i).ID(), Name: fmt.Sprint("m", first+i), Roles: role}
				if role == fleet.Operator {
					g.Rights = fleet.Everything()
				}
				w.grant(g)
				for range 4 {
					end, _ := w.serve(key(first + i).ID())
					s, err := direct.Open(t.Context(), end, direct.Config{Signer: key(first + i), Device: device.ID()})
					if err == nil {
						held++
						all = append(all, s)
					} else if direct.ReasonOf(err) != direct.Busy {
						t.Error(err)
					}
				}
			}
			if held != wanted {
				t.Errorf("%d sessions of 12 that are %s, want %d", held, role, wanted)
			}
		}
		swarm(100, fleet.Collector, 24)
		end, _ := w.serve(reader.ID())
		wire{t, end}.wantEnd(direct.Busy)
		s := w.open(operator) // who is none of them
		ok(t, s.Close())
		synctest.Wait()
		swarm(150, fleet.Operator, 4)
		end, _ = w.serve(operator.ID())
		wire{t, end}.wantEnd(direct.Busy)
		mine := w.open(owner)
		for i := range byte(12) {
			w.revoke(key(100 + i).ID())
		}
		w.server.Review()
		synctest.Wait()
		ok(t, w.open(operator).Close())
		for _, s := range append(all, mine) {
			ok(t, s.Close())
		}
	})
}

// TestProtocolBreaches: what is no frame of the protocol ends the session, and nothing is done.
func TestProtocolBreaches(t *testing.T) {
	id := direct.NewID()
	for name, send := range map[string][]byte{
		"unknown kind":    frame(t, 'Z', nil),
		"device's frame":  frame(t, 'R', []any{id, 0, "", nil}),
		"not canonical":   append([]byte{0, 0, 0, 4, 'C'}, 0x5a, 0, 0),
		"empty":           {0, 0, 0, 0},
		"bytes as value":  frame(t, 'Q', []any{id, 3, "relay/switch", 1000, []byte{1}, []byte{}}),
		"field by number": frame(t, 'Q', []any{id, 4, "look", 1000, map[int]any{1: 2}, []byte{}}),
		"deep":            frame(t, 'Q', []any{id, 4, "look", 1000, map[string]any{"a": []any{[]any{[]any{1}}}}, []byte{}}),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				end, _ := w.serve(operator.ID())
				wr := wire{t, end}
				wr.greet()
				_, err := end.Write(send)
				ok(t, err)
				wr.wantEnd(direct.BadRequest)
				if w.doer.times() != 0 {
					t.Error("something was done")
				}
			})
		})
	}
	t.Run("wrong nonce", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, w *world) {
			end, _ := w.serve(operator.ID())
			wr := wire{t, end}
			wr.recv()
			wr.send('O', []any{1, direct.Nonce{}})
			wr.wantEnd(direct.BadRequest)
		})
	})
	t.Run("silence", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, w *world) {
			end, _ := w.serve(operator.ID())
			wr := wire{t, end}
			wr.recv()
			wr.wantEnd(direct.Expired)
		})
	})
}

// TestAfter: what ends the program waits until the outcome is noted and told, and is not repeated.
func TestAfter(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		noted := make(chan bool, 2)
		r := direct.Request{ID: direct.NewID(), Op: direct.Call, Name: "work"}
		w.doer.do["work"] = func(_ context.Context, o *direct.Order) (any, error) {
			o.After(func() { noted <- w.book.disk().past[r.ID].Ended != nil })
			return nil, nil
		}
		s := w.open(operator)
		defer s.Close()
		for range 2 {
			_, err := s.Do(t.Context(), r)
			ok(t, err)
		}
		synctest.Wait()
		if len(noted) != 1 || !<-noted {
			t.Error("what comes after came too early, twice or never")
		}
	})
}

// TestDescribe_Foreign: a description that another device signed is not taken.
func TestDescribe_Foreign(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		d := thing.Build(thing.Device{ID: key(9).ID()})
		d.NextVersion(0)
		var err error
		w.record, err = thing.Sign(key(9), d)
		ok(t, err)
		s := w.open(operator)
		defer s.Close()
		if _, _, err := s.Describe(t.Context()); !errors.Is(err, journal.ErrForeignSigner) {
			t.Errorf("%v", err)
		}
	})
}
