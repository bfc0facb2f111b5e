// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
)

// FuzzAsk: what a stranger asks is refused, or has exactly one encoding.
func FuzzAsk(f *testing.F) {
	claim := enroll.Claim{Device: edge.ID{1}, Hub: edge.ID{2}, Name: "shed"}
	for kind, v := range map[byte]any{
		'h': []any{journal.BootID{1}, "1.0", journal.Hash{3}}, 's': fleet.Digest{Version: 2, Logs: []fleet.LogDigest{{Length: 3}}},
		'c': claim, 'd': edge.ID{4}, 'a': enroll.Approval{Device: edge.ID{5}}, 'o': enroll.Approval{},
	} {
		f.Add(message(f, kind, v)[4:])
	}
	f.Add([]byte{'p'})
	f.Add([]byte{'l', 0})
	f.Add([]byte{'z'})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) == 0 {
			return // readFrame gives none
		}
		a, err := p2p.DecodeAsk(frame)
		if err != nil {
			return
		}
		var v any
		switch a.Kind {
		case 'h':
			v = a.Hello
		case 's':
			v = a.Digest
		case 'c':
			v = a.Claim
		case 'd':
			v = a.Device
		case 'a', 'o':
			v = a.Approval
		case 'p', 'l':
			if len(frame) != 1 {
				t.Fatalf("%x was taken", frame)
			}
			return
		default:
			t.Fatalf("kind %q was taken", a.Kind)
		}
		again, err := journal.Encode(v)
		if err != nil || !bytes.Equal(append([]byte{a.Kind}, again...), frame) {
			t.Fatalf("%x became %c %x: %v", frame, a.Kind, again, err)
		}
		if len(a.Hello.Version) > 64 || len(a.Claim.Name) > 64 || bytes.ContainsAny([]byte(a.Hello.Version+a.Claim.Name), "\x1b\n\x00") {
			t.Fatalf("taken as text: %q %q", a.Hello.Version, a.Claim.Name)
		}
	})
}

// FuzzDiscovery: what anybody on the LAN sends. A question that is taken gets an answer that reads as the device again, and a device that is found has a
// key and only addresses that can be dialled.
func FuzzDiscovery(f *testing.F) {
	self := p2p.Found{ID: edge.ID{7}, Addrs: []string{"/ip4/192.0.2.7/tcp/32321", "/ip4/192.0.2.7/udp/32321/quic-v1"}}
	question, err := p2p.Look()
	must(f, question, err)
	f.Add(question)
	q, err := p2p.ParseLook(question)
	must(f, q, err)
	for _, single := range []bool{true, false} {
		answer, err := q.Answer(self, single)
		f.Add(must(f, answer, err))
	}
	name := dnsmessage.MustNewName("_p2p._udp.local.")
	other, err := (&dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}).Pack()
	f.Add(must(f, other, err))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if q, err := p2p.ParseLook(raw); err == nil {
			answer, err := q.Answer(self, true)
			must(t, answer, err)
			if got, err := p2p.ParseFound(answer); err != nil || got.ID != self.ID || !slices.Equal(got.Addrs, self.Addrs) || len(answer) > 1500 {
				t.Fatalf("the answer reads as %+v, %v", got, err)
			}
		}
		found, err := p2p.ParseFound(raw)
		if err != nil {
			return
		}
		if found.ID == (edge.ID{}) || len(found.Addrs) == 0 {
			t.Fatalf("found %+v", found)
		}
		answer, err := q.Answer(found, true)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := p2p.ParseFound(answer); err != nil || again.ID != found.ID {
			t.Fatalf("%+v reads again as %+v, %v", found, again, err)
		}
	})
}

// FuzzChunks: the parts of a bundle, as anybody may send them, give a bundle within its limit or an error.
func FuzzChunks(f *testing.F) {
	enc, err := fleet.Bundle{States: [][]byte{{1, 2, 3}}}.Encode()
	must(f, enc, err)
	f.Add(slices.Concat(framed(append([]byte{'B'}, enc...)), framed([]byte{'E', 0})), 100)
	f.Add(slices.Concat(framed(append([]byte{'B'}, enc[:2]...)), framed(append([]byte{'B'}, enc[2:]...)), framed([]byte{'E', 0})), 100)
	f.Add(slices.Concat(framed(append([]byte{'B'}, enc...)), framed([]byte{'E', 1, 'x'})), 100)
	f.Add(framed([]byte{'E', 0}), 1)
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		limit = max(1, min(limit, 1<<16))
		b, err := p2p.TakeBundle(bytes.NewReader(in), limit)
		if err != nil || b.Empty() {
			return
		}
		enc, err := b.Encode()
		if err != nil || len(enc) > limit {
			t.Fatalf("%d bytes beyond %d: %v", len(enc), limit, err)
		}
	})
}
