// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"encoding/hex"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestWireOfRepair holds what docs/wire.md says of repair, marks and floors against bytes that must not change unnoticed.
func TestWireOfRepair(t *testing.T) {
	chain := journal.Chain{Fleet: journal.FleetID{0xf1}, Device: edge.ID{0xd1}, Stream: "main", Incarnation: journal.Incarnation{0x1c}}
	span := transport.Span{First: 64, Last: 191}
	ranges := []transport.Range{
		{Chain: chain, Floor: 70, Span: transport.Span{First: 64, Last: 127}, Count: 2, Mask: 1<<7 | 1<<63, Sum: journal.Hash{1}},
		{Chain: chain, Floor: 70, Span: transport.Span{First: 128, Last: 191}, Count: 1, Mask: 1, Sum: journal.Hash{2}},
	}
	var rows []any
	for _, r := range ranges {
		rows = append(rows, []any{r.Span, r.Count, r.Mask, r.Sum})
	}
	held := transport.Held{Chain: chain, Spans: []transport.Span{span}, Floor: 64, Past: transport.PastCollected}
	query := transport.RangeQuery{Target: edge.ID{0xa1}, Chain: &chain, Span: span, Width: 64}
	golden := map[string]struct {
		value  any
		decode func([]byte) (any, error)
		want   any
	}{
		"mark": {[]any{uint8(4), edge.ID{}, journal.Chain{}, transport.Span{}},
			func(b []byte) (any, error) { q, err := p2p.DecodeRequest(b); return q.Op, err }, uint8(4)},
		"held": {held,
			func(b []byte) (any, error) { return p2p.DecodeHeld('H', b) }, held},
		"compare": {[]any{uint8(1), query},
			func(b []byte) (any, error) { q, err := p2p.DecodeRepairRequest(b); return q.Query, err }, query},
		"compare-all": {[]any{uint8(1), transport.RangeQuery{Target: edge.ID{0xa1}}},
			func(b []byte) (any, error) { q, err := p2p.DecodeRepairRequest(b); return q.Query, err }, transport.RangeQuery{Target: edge.ID{0xa1}}},
		"ranges": {[]any{chain, uint64(70), rows},
			func(b []byte) (any, error) { return p2p.DecodeRanges('R', b) }, ranges},
	}
	for name, g := range golden {
		file := "testdata/" + name + ".golden"
		enc, err := journal.Encode(g.value)
		must(t, enc, err)
		if *update {
			ok(t, os.WriteFile(file, []byte(hex.EncodeToString(enc)+"\n"), 0o644))
		}
		text, err := os.ReadFile(file)
		must(t, text, err)
		raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
		must(t, raw, err)
		if string(raw) != string(enc) {
			t.Errorf("%s is\n%x, was\n%x", name, enc, raw)
		}
		if got, err := g.decode(raw); err != nil || !reflect.DeepEqual(got, g.want) {
			t.Errorf("%s: read %+v, %v\nwant %+v", name, got, err, g.want)
		}
	}
}
