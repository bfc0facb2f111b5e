// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// FuzzFrames cuts any input into frames; put together again they must be the input, as far as it was read.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7}, 16)
	f.Add([]byte{0, 0, 0, 0}, 16)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2}, 1<<20)
	f.Add([]byte{0, 0, 0, 5, 1, 2}, 16)
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		limit = max(1, min(limit, journal.MaxSegment))
		r := bytes.NewReader(in)
		var again bytes.Buffer
		w := bufio.NewWriter(&again)
		for {
			left := r.Len()
			body, err := p2p.ReadFrame(r, limit)
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && left == 0 {
				break
			}
			if err != nil {
				checkFrameError(t, in[len(in)-left:], limit, err)
				break
			}
			if len(body) == 0 || len(body) > limit {
				t.Fatalf("frame of %d bytes, limit %d", len(body), limit)
			}
			if err := errors.Join(p2p.WriteFrame(w, body[:1], body[1:]), w.Flush()); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, again.Bytes()) {
			t.Fatalf("%x became %x", in, again.Bytes())
		}
	})
}

// checkFrameError is the oracle: what is wrong with the rest of the input, and how that must be called.
func checkFrameError(t *testing.T, rest []byte, limit int, err error) {
	t.Helper()
	if len(rest) < 4 {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("half a length: %v", err)
		}
		return
	}
	switch n := uint64(binary.BigEndian.Uint32(rest)); {
	case n == 0 && !errors.Is(err, p2p.ErrFrame):
		t.Fatalf("no bytes: %v", err)
	case n > uint64(limit) && !errors.Is(err, journal.ErrOversize):
		t.Fatalf("%d bytes, limit %d: %v", n, limit, err)
	case n > 0 && n <= uint64(limit) && (uint64(len(rest)-4) >= n || !errors.Is(err, io.ErrUnexpectedEOF)):
		t.Fatalf("%d bytes, %d there: %v", n, len(rest)-4, err)
	}
}

// FuzzRequest: what is accepted has exactly one encoding, and its fields are in range.
func FuzzRequest(f *testing.F) {
	chain := journal.Chain{Stream: "main", Device: edge.ID{1}}
	for _, q := range []any{
		[]any{uint8(1), edge.ID{2}, journal.Chain{}, transport.Span{}},
		[]any{uint8(2), edge.ID{}, chain, transport.Span{First: 3, Last: 1 << 60}},
		[]any{uint8(3), edge.ID{}, journal.Chain{}, transport.Span{}},
		[]any{uint8(9), edge.ID{}, chain, transport.Span{First: 3, Last: 1}},
	} {
		raw, err := journal.Encode(q)
		must(f, raw, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		q, err := p2p.DecodeRequest(in)
		if err != nil {
			return
		}
		again, err := journal.Encode(q)
		if err != nil || !bytes.Equal(again, in) {
			t.Fatalf("%x became %x: %v", in, again, err)
		}
		if q.Op < 1 || q.Op > 4 || q.Op == 2 && (q.Span.First > q.Span.Last || !journal.ValidStream(q.Chain.Stream)) {
			t.Fatalf("accepted %+v", q)
		}
	})
}

// FuzzStatus: reason and detail survive the wire.
func FuzzStatus(f *testing.F) {
	f.Add(uint8(4), "quota of 1 GB")
	f.Add(uint8(0), "")
	f.Fuzz(func(t *testing.T, reason uint8, detail string) {
		hub := edge.ID{9}
		var in error
		if reason != 0 {
			in = &transport.Refusal{Hub: hub, Reason: transport.Reason(reason), Detail: detail}
		}
		out, ok := p2p.DecodeStatus(p2p.EncodeStatus(in), hub)
		if !ok {
			t.Fatalf("%v is no status any more", in)
		}
		var r *transport.Refusal
		switch {
		case reason == 0 && out != nil:
			t.Fatalf("success became %v", out)
		case reason != 0 && (!errors.As(out, &r) || r.Reason != transport.Reason(reason) || r.Detail != detail[:min(len(detail), 512)]):
			t.Fatalf("%v became %v", in, out)
		}
	})
}
