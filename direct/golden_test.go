// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

var update = flag.Bool("update", false, "rewrite testdata")

// TestGolden keeps what both sides say: whoever changes a frame changes the protocol.
func TestGolden(t *testing.T) {
	var got strings.Builder
	synctest.Test(t, func(t *testing.T) {
		got.WriteString("# An operator, to a device whose nonce is 07…07: open, set, a destructive call, cancel.\n")
		operatorFrames(t, &got)
	})
	bubble(t, func(o *direct.Options) { o.Alive = time.Second }, func(t *testing.T, w *world) {
		got.WriteString("# A device, its nonce put to zero: hello, progress, data, result, refusal, alive, end.\n")
		deviceFrames(t, w, &got)
	})
	path := filepath.Join("testdata", "session.golden")
	if *update {
		ok(t, os.MkdirAll("testdata", 0o755))
		ok(t, os.WriteFile(path, []byte(got.String()), 0o600))
	}
	want, err := os.ReadFile(path)
	ok(t, err)
	if got.String() != string(want) {
		t.Errorf("the frames changed:\n%s", got.String())
	}
}

// lines writes frames, one a line.
func lines(t *testing.T, out *strings.Builder, raw []byte) {
	t.Helper()
	for r := bytes.NewReader(raw); r.Len() > 0; {
		kind, body, err := readFrame(r)
		ok(t, err)
		fmt.Fprintf(out, "%c %x\n", kind, body)
	}
}

func operatorFrames(t *testing.T, out *strings.Builder) {
	mine, theirs := net.Pipe()
	tape := &recording{Conn: mine}
	go func() {
		_, _ = theirs.Write(frame(t, 'H', []any{1, direct.Nonce(bytes.Repeat([]byte{7}, 16)), 3600000, 1}))
		for { // answer each request but the last
			kind, body, err := readFrame(theirs)
			if err != nil {
				return
			}
			if kind == 'Q' && !bytes.Contains(body, []byte("work")) {
				_, _ = theirs.Write(frame(t, 'R', []any{direct.RequestID(body[2:18]), 0, "", nil}))
			}
		}
	}()
	s, err := direct.Open(t.Context(), tape, direct.Config{Signer: operator, Device: device.ID()})
	ok(t, err)
	defer s.Close()
	id := func(b byte) direct.RequestID { return direct.RequestID(bytes.Repeat([]byte{b}, 16)) }
	for _, r := range []direct.Request{{ID: id(1), Op: direct.Set, Name: "relay/switch", Value: true},
		{ID: id(2), Op: direct.Call, Name: "reboot", Value: map[string]any{"in": 2.5, "hard": true}, Sign: true}} {
		_, err := s.Do(t.Context(), r)
		ok(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, cancel)
	if _, err := s.Do(ctx, direct.Request{ID: id(3), Op: direct.Call, Name: "work"}); err == nil {
		t.Error("answered")
	}
	lines(t, out, tape.sent())
}

func deviceFrames(t *testing.T, w *world, out *strings.Builder) {
	w.doer.do["look"] = func(_ context.Context, o *direct.Order) (any, error) {
		o.Progress(0.25, "a quarter")
		_, err := o.Write([]byte("data"))
		return map[string]any{"a": 1.5, "b": true, "c": "text", "d": nil}, err
	}
	end, _ := w.serve(operator.ID())
	kind, body, err := readFrame(end)
	ok(t, err)
	var h hello
	ok(t, journal.Decode(body, &h))
	_, err = end.Write(frame(t, 'O', []any{1, h.Nonce}))
	ok(t, err)
	h.Nonce = direct.Nonce{}
	fmt.Fprintf(out, "%c %x\n", kind, frame(t, kind, h)[5:])
	id := direct.RequestID(bytes.Repeat([]byte{1}, 16))
	var raw []byte
	read := func() byte {
		kind, body, err := readFrame(end)
		ok(t, err)
		raw = append(append(binary.BigEndian.AppendUint32(raw, uint32(1+len(body))), kind), body...)
		return kind
	}
	for _, q := range []any{[]any{id, direct.Call, "look", 5000, nil, []byte{}}, []any{id, direct.Set, "relay/switch", 5000, 3, []byte{}}} {
		_, err = end.Write(frame(t, 'Q', q))
		ok(t, err)
		for read() != 'R' {
		}
	}
	for read() != 'K' {
	}
	w.grant(fleet.Grant{Member: key(77).ID(), Name: "other", Roles: fleet.Device})
	w.revoke(operator.ID())
	go w.server.Review()
	for read() != 'E' {
	}
	lines(t, out, raw)
}
