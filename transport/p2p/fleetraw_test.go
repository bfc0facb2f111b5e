// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bufio"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// fleetStream opens the fleet protocol with nothing but libp2p.
func (h rawHost) fleetStream(t testing.TB, n *p2p.Node) (network.Stream, *bufio.Reader, error) {
	t.Helper()
	s, err := h.NewStream(deadline(t), h.dial(t, n), "/streembit/fleet/1")
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = s.Reset() })
	return s, bufio.NewReader(s), s.SetDeadline(time.Now().Add(transporttest.Limit))
}

func message(t testing.TB, kind byte, v any) []byte {
	t.Helper()
	body, err := journal.Encode(v)
	return framed(append([]byte{kind}, must(t, body, err)...))
}

// pushFleet speaks the asking side of a comparison, says that it knows nothing, and pushes a bundle whole.
func (h rawHost) pushFleet(t testing.TB, n *p2p.Node, b fleet.Bundle) (status []byte, err error) {
	t.Helper()
	s, r, err := h.fleetStream(t, n)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(message(t, 's', fleet.Digest{Version: 99})); err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		frame, err := readFramed(r)
		if err != nil {
			return nil, err
		}
		if frame[0] == 'E' && first {
			return frame[1:], nil // refused at once
		}
		if frame[0] == 'E' || !h.member(n) {
			break
		}
	}
	enc, err := b.Encode()
	must(t, enc, err)
	for len(enc) > 0 {
		part := enc[:min(len(enc), 15<<10)]
		enc = enc[len(part):]
		if _, err := s.Write(framed(append([]byte{'B'}, part...))); err != nil {
			return nil, err
		}
	}
	if _, err := s.Write(framed([]byte{'E', 0})); err != nil {
		return nil, err
	}
	frame, err := readFramed(r)
	if err != nil {
		return nil, err
	}
	return frame[1:], nil
}

// member reports whether the node takes the host for a member: strangers get a digest and nothing more before it is their turn.
func (h rawHost) member(n *p2p.Node) bool {
	for _, p := range n.Peers() {
		if p.ID == h.key.ID() {
			return p.Member
		}
	}
	return false
}

// TestFrames_Oversize: a frame, a request, a bundle beyond what a stranger may send end the stream before they are read.
func TestFrames_Oversize(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	hub := crew(t, w)[0]
	for name, sent := range map[string][]byte{
		"a frame of 4 GB":            {0xff, 0xff, 0xff, 0xff, 'h'},
		"a digest of 17 kB":          append([]byte{0, 0, 0x44, 0, 's'}, make([]byte, 17<<10)...),
		"an empty frame":             {0, 0, 0, 0},
		"an unknown request":         framed([]byte{'?'}),
		"a hello that is no CBOR":    framed([]byte{'h', 0xff}),
		"a chunk without a question": framed(append([]byte{'B'}, make([]byte, 100)...)),
	} {
		t.Run(name, func(t *testing.T) {
			s, r, err := newRawHost(t).fleetStream(t, hub.Node)
			must(t, s, err)
			_, err = s.Write(sent)
			must(t, s, err)
			frame, err := readFramed(r)
			if err == nil && (frame[0] != 'E' || len(frame) < 2 || frame[1] == 0) {
				t.Errorf("answer: %q", frame)
			}
			if _, err := readFramed(r); !errors.Is(err, io.EOF) && err == nil {
				t.Error("the stream goes on")
			}
		})
	}
}

// TestStranger_OffersTooMuch: more than 64 KiB of anything is not looked at.
func TestStranger_OffersTooMuch(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	hub := crew(t, w)[0]
	raw := newRawHost(t)
	big := w.Fork(t)
	for range 4 {
		var grants []fleet.Grant
		for range 200 {
			grants = append(grants, fleet.Grant{Member: transporttest.NewKey(t).ID(), Name: "padding-of-a-long-name-for-size", Roles: fleet.Device})
		}
		big.Grant(t, grants...)
	}
	big.Grant(t, fleet.Grant{Member: raw.key.ID(), Name: "fresh", Roles: fleet.Device})
	b := big.Fleet().Delta(w.Fleet().Digest())
	enc, err := b.Encode()
	if must(t, enc, err); len(enc) <= 64<<10 {
		t.Fatalf("%d bytes are not too much", len(enc))
	}
	if status, err := raw.pushFleet(t, hub.Node, b); err == nil {
		t.Errorf("%d bytes were answered with %q", len(enc), status)
	}
	if hub.merges != 0 || hub.now().IsMember(raw.key.ID()) {
		t.Error("they reached the program")
	}
	small := w.Fork(t) // the control: the same grant alone
	small.Grant(t, fleet.Grant{Member: raw.key.ID(), Name: "fresh", Roles: fleet.Device})
	if status, err := raw.pushFleet(t, hub.Node, small.Fleet().Delta(w.Fleet().Digest())); err != nil || status[0] != 0 || !hub.now().IsMember(raw.key.ID()) {
		t.Errorf("the grant alone: %q, %v", status, err)
	}
}

// TestStranger_HelloTellsNothing: no digest, no version, no boot.
func TestStranger_HelloTellsNothing(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	hub := crew(t, w)[0]
	s, r, err := newRawHost(t).fleetStream(t, hub.Node)
	must(t, s, err)
	_, err = s.Write(message(t, 'h', []any{journal.BootID{1}, "1.0", journal.Hash{}}))
	must(t, s, err)
	frame, err := readFramed(r)
	want := message(t, 'W', []any{uint8(0), journal.BootID{}, "", journal.Hash{}})[4:]
	if err != nil || string(frame) != string(want) {
		t.Errorf("a stranger's hello got %x, %v; want %x", frame, err, want)
	}
}
