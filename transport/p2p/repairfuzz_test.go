// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// FuzzRepairRequest: what is accepted has exactly one encoding, and a store can answer it.
func FuzzRepairRequest(f *testing.F) {
	chain := journal.Chain{Stream: "main", Device: edge.ID{1}}
	for _, q := range []any{
		[]any{uint8(1), transport.RangeQuery{Target: edge.ID{2}}},
		[]any{uint8(1), transport.RangeQuery{Chain: &chain, Span: transport.Span{Last: 127}, Width: 64}},
		[]any{uint8(2), transport.RangeQuery{Chain: &chain, Span: transport.Span{First: 3, Last: 9}}},
		[]any{uint8(3), transport.RangeQuery{}},
	} {
		raw, err := journal.Encode(q)
		f.Add(must(f, raw, err))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		q, err := p2p.DecodeRepairRequest(in)
		if err != nil {
			return
		}
		again, err := journal.Encode(q)
		if err != nil || !bytes.Equal(again, in) {
			t.Fatalf("%x became %x: %v", in, again, err)
		}
		one, s := q.Query.Chain != nil, q.Query.Span
		whole := s.First%64 == 0 && s.Last%64 == 63 && q.Query.Width%64 == 0
		switch {
		case q.Op == 1 && !one && s == (transport.Span{}) && q.Query.Width == 0:
		case q.Op == 1 && one && whole && s.First <= s.Last && journal.ValidStream(q.Query.Chain.Stream):
		case q.Op == 2 && one && s.First <= s.Last && journal.ValidStream(q.Query.Chain.Stream):
		case q.Op == 3 && s.First <= s.Last:
		default:
			t.Fatalf("accepted %+v", q)
		}
	})
}

// FuzzRepairAnswer: ranges that are accepted are one chain's and have one encoding; a dated segment is its date and its bytes.
func FuzzRepairAnswer(f *testing.F) {
	chain := journal.Chain{Stream: "main", Device: edge.ID{1}}
	one := []any{transport.Span{Last: 63}, uint64(2), uint64(5), journal.Hash{7}}
	raw, err := journal.Encode([]any{chain, uint64(64), []any{one, one}})
	f.Add(byte('R'), must(f, raw, err))
	f.Add(byte('D'), append(binary.BigEndian.AppendUint64(nil, 1_700_000_000_000), "segment"...))
	f.Add(byte('D'), bytes.Repeat([]byte{0xff}, 9))
	f.Add(byte('S'), []byte("segment"))
	f.Fuzz(func(t *testing.T, kind byte, in []byte) {
		if ranges, err := p2p.DecodeRanges(kind, in); err == nil {
			rows := []any{}
			for _, r := range ranges {
				if r.Chain != ranges[0].Chain || r.Floor != ranges[0].Floor {
					t.Fatalf("two chains in one frame: %+v", ranges)
				}
				rows = append(rows, []any{r.Span, r.Count, r.Mask, r.Sum})
			}
			if again, err := journal.Encode([]any{ranges[0].Chain, ranges[0].Floor, rows}); err != nil || kind != 'R' || !bytes.Equal(again, in) {
				t.Fatalf("%q %x became %x: %v", kind, in, again, err)
			}
		}
		if at, segment, err := p2p.DecodeDated(kind, in); err == nil {
			again := append(binary.BigEndian.AppendUint64(nil, uint64(at)), segment...)
			if kind != 'D' || len(segment) == 0 || at < 0 || at > journal.MaxTime || !bytes.Equal(again, in) {
				t.Fatalf("%q %x became %d and %x", kind, in, at, segment)
			}
		}
	})
}
