// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/agent/live"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// tape is a stream whose other side has said everything beforehand.
type tape struct {
	mu     sync.Mutex
	in     io.Reader
	out    bytes.Buffer
	opened func(hello hello) []byte // what to say first, once the hello is there
	ended  chan struct{}
	once   sync.Once
}

func (t *tape) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened != nil {
		var h hello
		_, body, err := readFrame(bytes.NewReader(t.out.Bytes()))
		if err != nil || journal.Decode(body, &h) != nil {
			return 0, io.EOF
		}
		t.in, t.opened = io.MultiReader(bytes.NewReader(t.opened(h)), t.in), nil
	}
	n, err := t.in.Read(p)
	return n, err
}

func (t *tape) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.Write(p)
}

func (t *tape) Close() error {
	t.once.Do(func() { close(t.ended) })
	return nil
}

// FuzzServe: an operator with rights on one property and nothing else says anything. The device answers in frames that the protocol knows, does nothing but that
// property, and nothing twice.
//
// The fleet is founded once: it takes longer than all that is fuzzed. How requests that are under way at once interleave differs from run to run, and so does what they cover; the engine takes
// that for news and tries for a minute to make the input smaller, at 0 executions a second. Hence -fuzzminimizetime 1x, as make fuzz has it.
func FuzzServe(f *testing.F) {
	id := direct.RequestID{1}
	for _, seed := range [][]byte{
		frame(f, 'Q', []any{id, 2, "relay/switch", 5000, nil, []byte{}}),
		frame(f, 'Q', []any{id, 3, "relay/switch", 5000, true, []byte{}}),
		frame(f, 'Q', []any{id, 4, "relay/switch", 5000, map[string]any{"value": true, "for": 2.5}, []byte{}}),
		frame(f, 'Q', []any{id, 4, "reboot", 5000, nil, []byte{1, 2, 3}}),
		append(frame(f, 'Q', []any{id, 3, "relay/switch", 5000, false, []byte{}}), frame(f, 'Q', []any{id, 3, "relay/switch", 5000, false, []byte{}})...),
		append(frame(f, 'Q', []any{id, 1, "", 5000, nil, []byte{}}), frame(f, 'C', id)...),
		frame(f, 'Q', []any{id, 5, "", 5000, map[string]any{"run": "00", "next": 3}, []byte{}}), frame(f, 'Q', []any{id, 5, "air/temperature", 5000, nil, []byte{}}),
		{0, 0, 0, 1, 'Q'}, {0xff, 0xff, 0xff, 0xff},
	} {
		f.Add(seed)
	}
	founded := newWorld(f, nil)
	founded.grantRelay()
	ok(f, founded.server.Close())
	f.Fuzz(func(t *testing.T, in []byte) {
		feed := live.NewFeed(16)
		take(feed, 1, 2) // which the operator may not read
		w := founded.again(t, func(o *direct.Options) { o.Feed, o.Boot, o.Acts, o.AtOnce = feed, boot, 1000, 1000 })
		s := &tape{in: bytes.NewReader(in), ended: make(chan struct{}), opened: func(h hello) []byte { return frame(t, 'O', []any{1, h.Nonce}) }}
		_ = w.server.Serve(context.Background(), s, stranger.ID())
		ok(t, w.server.Close())
		for _, did := range w.doer.done {
			switch did {
			case "get relay/switch", "set relay/switch", "call relay/switch":
			default:
				t.Fatalf("%q was done", did)
			}
		}
		w.book.mu.Lock()
		defer w.book.mu.Unlock()
		acts := 0
		for _, did := range w.doer.done {
			if did != "get relay/switch" {
				acts++
			}
		}
		if acts != len(w.book.past) {
			t.Fatalf("%d acts were done, %d noted", acts, len(w.book.past))
		}
		for r := bytes.NewReader(s.out.Bytes()); r.Len() > 0; {
			kind, _, err := readFrame(r)
			if err != nil || !bytes.ContainsRune([]byte("HRPDKE"), rune(kind)) {
				t.Fatalf("the device said %q: %v", kind, err)
			}
		}
	})
}

// FuzzSession: a device says anything. What comes out is a result of ours or an error, in bounded time, and a description only if the device signed it.
func FuzzSession(f *testing.F) {
	id := direct.RequestID{1}
	h := frame(f, 'H', []any{1, direct.Nonce{7}, 60000, 1})
	for _, seed := range [][]byte{
		frame(f, 'R', []any{id, 0, "", map[string]any{"a": []any{1, 2.5, "x"}}}),
		append(frame(f, 'P', []any{id, 500, "half"}), frame(f, 'D', []any{id, []byte("data")})...),
		frame(f, 'E', []any{3, "no"}), frame(f, 'K', nil), {0, 0, 0, 1, 'K'}, {0, 1, 0, 1},
	} {
		f.Add(append(bytes.Clone(h), seed...))
	}
	f.Add(frame(f, 'E', []any{6, "busy"}))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &tape{in: bytes.NewReader(in), ended: make(chan struct{})}
		c, err := direct.Open(context.Background(), s, direct.Config{Signer: operator, Device: device.ID()})
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		v, err := c.Do(ctx, direct.Request{ID: id, Op: direct.Get, Name: "x", Data: io.Discard, Progress: func(done float64, text string) {
			if done < -1 || done > 1 || len(text) > 512 {
				t.Errorf("progress %v %q", done, text)
			}
		}})
		if err == nil {
			if _, err := journal.Encode(v); err != nil {
				t.Errorf("%v cannot be written: %v", v, err)
			}
		}
		if ctx.Err() != nil {
			t.Error("no answer and no error")
		}
		if _, _, err := c.Describe(ctx); err == nil {
			t.Error("a description out of nothing")
		} else if errors.Is(err, thing.ErrBadDescription) {
			t.Errorf("judged before it was proven: %v", err)
		}
		_ = c.Close()
	})
}
