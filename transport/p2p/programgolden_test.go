// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/transport/p2p"
)

// TestWireOfPrograms holds what docs/wire.md says of programs and records of updates against bytes that must not change unnoticed.
func TestWireOfPrograms(t *testing.T) {
	tree := chunks.Hash{0x7e}
	request := func(b []byte) (any, error) {
		q, err := p2p.DecodeProgramRequest(b)
		return []any{q.Op, q.Tree, q.Index, q.Wants, q.Has, q.Key}, err
	}
	golden := map[string]struct {
		value  any
		decode func([]byte) (any, error)
		want   any
	}{
		"program-ask":   {[]any{uint8(1), tree, uint32(0), true, false, ""}, request, []any{uint8(1), tree, uint32(0), true, false, ""}},
		"program-chunk": {[]any{uint8(3), tree, uint32(77), false, false, ""}, request, []any{uint8(3), tree, uint32(77), false, false, ""}},
		"program-news":  {[]any{uint8(6), chunks.Hash{}, uint32(0), false, false, "/rollout/stable"}, request, []any{uint8(6), chunks.Hash{}, uint32(0), false, false, "/rollout/stable"}},
		"program-have": {[]any{[]byte{0xff, 0x03}, true, []byte{0, 0x04}, []edge.ID{{0xd1}}}, func(b []byte) (any, error) {
			h, err := p2p.DecodeHolding('B', b)
			return []any{h.Have, h.Wants, h.Due, h.Others}, err
		}, []any{[]byte{0xff, 0x03}, true, []byte{0, 0x04}, []edge.ID{{0xd1}}}},
		"program-record": {[]any{"/tuf/timestamp.json", []byte("signed")}, func(b []byte) (any, error) {
			r, err := p2p.DecodeRecord('V', b)
			return []any{r.Key, r.Raw}, err
		}, []any{"/tuf/timestamp.json", []byte("signed")}},
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

// FuzzProgramRequest: what is accepted has exactly one encoding, and names either a program or a key.
func FuzzProgramRequest(f *testing.F) {
	for _, q := range []any{
		[]any{uint8(1), chunks.Hash{1}, uint32(0), true, false, ""}, []any{uint8(2), chunks.Hash{1}, uint32(0), false, false, ""},
		[]any{uint8(3), chunks.Hash{1}, uint32(4095), false, false, ""}, []any{uint8(4), chunks.Hash{}, uint32(0), false, false, "/rollout/stable"},
	} {
		raw, err := journal.Encode(q)
		f.Add(must(f, raw, err))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		q, err := p2p.DecodeProgramRequest(in)
		if err != nil {
			return
		}
		again, err := journal.Encode(q)
		if err != nil || !bytes.Equal(again, in) || q.Op < 1 || q.Op > 6 || (q.Op >= 4) != (q.Key != "") || q.Index >= ota.MaxProgram/chunks.Size || q.Op != 3 && q.Index != 0 {
			t.Fatalf("%x became %x, %+v: %v", in, again, q, err)
		}
	})
}

// FuzzProgramAnswer: what a member says it has, and records, have one encoding and fit their bounds.
func FuzzProgramAnswer(f *testing.F) {
	for kind, v := range map[byte]any{'B': []any{[]byte{1}, true, []byte{0}, []edge.ID{{1}}}, 'V': []any{"/tuf/1.root.json", []byte("x")}} {
		raw, err := journal.Encode(v)
		f.Add(kind, must(f, raw, err))
	}
	f.Fuzz(func(t *testing.T, kind byte, in []byte) {
		if h, err := p2p.DecodeHolding(kind, in); err == nil {
			again, err := journal.Encode(h)
			if err != nil || kind != 'B' || !bytes.Equal(again, in) || len(h.Have) > 512 || len(h.Due) > 512 || len(h.Others) > 24 {
				t.Fatalf("%q %x became %x: %v", kind, in, again, err)
			}
		}
		if r, err := p2p.DecodeRecord(kind, in); err == nil {
			again, err := journal.Encode(r)
			if err != nil || kind != 'V' || !bytes.Equal(again, in) || len(r.Key) > 160 {
				t.Fatalf("%q %x became %x: %v", kind, in, again, err)
			}
		}
	})
}
