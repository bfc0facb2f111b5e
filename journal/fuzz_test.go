// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/veraison/go-cose"
)

// FuzzOpen: whatever opens has one form only, and general CBOR and COSE encoders write the same bytes.
func FuzzOpen(f *testing.F) {
	for _, name := range []string{"epoch", "readings", "note"} {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := journal.Open(raw, testFleet)
		if err != nil {
			return
		}
		again, err := journal.Encode([][]byte{s.SignedHeader(), s.Plain()})
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("opens and encodes to %x, %v", again, err)
		}
		roundTrip(t, s.SignedHeader(), s.Header)
	})
}

// FuzzOpenHeader signs what it is given, so that the decoder of headers meets hostile devices, and offers it raw too.
func FuzzOpenHeader(f *testing.F) {
	f.Add(golden(f, "header"))
	for _, name := range []string{"epoch", "readings", "note"} {
		s, err := journal.Open(golden(f, name), testFleet)
		if err != nil {
			f.Fatal(err)
		}
		payload, err := journal.PeekRecord(s.SignedHeader())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, _, err := journal.OpenHeader(data, testFleet); err == nil {
			roundTrip(t, data, h)
		}
		if len(data) == 0 {
			return
		}
		signed, err := journal.SignRecord(testKey(1), journal.TypeSegment, data)
		if err != nil {
			t.Fatal(err)
		}
		if h, hash, err := journal.OpenHeader(signed, testFleet); err == nil {
			roundTrip(t, signed, h)
			if hash != sha256.Sum256(data) {
				t.Errorf("hash %s", hash)
			}
		}
	})
}

// roundTrip takes go-cose and the CBOR encoder as oracles for a signed header that was accepted.
func roundTrip(t *testing.T, signed []byte, h journal.Header) {
	t.Helper()
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(signed); err != nil {
		t.Fatalf("accepted, go-cose refuses: %v", err)
	}
	v, err := cose.NewVerifier(cose.AlgorithmEdDSA, h.Chain.Device.Key())
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.Verify(nil, v); err != nil {
		t.Errorf("accepted, go-cose does not verify: %v", err)
	}
	msg.Headers.RawProtected, msg.Headers.RawUnprotected = nil, nil
	if again, err := msg.MarshalCBOR(); err != nil || !bytes.Equal(again, signed) {
		t.Errorf("accepted, go-cose encodes %x, %v", again, err)
	}
	if again, err := journal.Encode(h); err != nil || !bytes.Equal(again, msg.Payload) {
		t.Errorf("accepted, the header encodes to %x, %v", again, err)
	}
}

// FuzzKeyring seals what it is given, so that what reads plaintexts meets hostile devices.
func FuzzKeyring(f *testing.F) {
	w, epoch := newWriter(f)
	plain, err := edge.MarshalSenML(testKey(1).ID(), 3_700_000, weather(12, 0))
	if err != nil {
		f.Fatal(err)
	}
	packed, _, err := journal.Pack(plain)
	if err != nil {
		f.Fatal(err)
	}
	note, err := journal.Encode(goldenNote)
	if err != nil {
		f.Fatal(err)
	}
	gap, err := journal.Encode(journal.Note{Gap: &journal.GapNote{Reason: journal.GapQuota, From: 1, To: 9, Segments: 9, Readings: 5}})
	if err != nil {
		f.Fatal(err)
	}
	span := int64(3_700_000 - 3_600_000)
	f.Add(plain, uint16(12), span, byte(0))
	f.Add(packed, uint16(12), span, byte(1))
	f.Add(note, uint16(1), int64(0), byte(0))
	f.Add(gap, uint16(1), int64(0), byte(0))
	f.Add(epoch.Plain(), uint16(1), int64(0), byte(0))
	k := keyring(f, epoch)
	f.Fuzz(func(t *testing.T, plain []byte, count uint16, span int64, coding byte) {
		if len(plain) > journal.MaxSegment/2 {
			return
		}
		valid := func(h *journal.Header) {
			h.Coding = journal.Coding(coding % 2)
			if h.Kind == journal.KindReadings {
				h.Count, h.Span = uint32(count)%journal.MaxReadings+1, span&0xfffff
			}
		}
		if got, err := k.Readings(forged(t, w, journal.KindReadings, plain, valid)); err == nil && coding%2 == 0 {
			again, err := edge.MarshalSenML(testKey(1).ID(), 3_700_000, got)
			if err != nil || !bytes.Equal(again, plain) {
				t.Errorf("opens and encodes to %x, %v", again, err)
			}
		}
		if n, err := k.Note(forged(t, w, journal.KindNote, plain, valid)); err == nil && coding%2 == 0 {
			if again, err := journal.Encode(n); err != nil || !bytes.Equal(again, plain) {
				t.Errorf("note opens and encodes to %x, %v", again, err)
			}
		}
		h := epoch.Header
		h.Size, h.Payload = uint32(len(plain)), sha256.Sum256(plain)
		s, err := journal.Open(journal.Forge(testKey(1), h, plain), testFleet)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = journal.NewKeyring(testReader(t, 9)).Learn(s) // must not panic
	})
}

// FuzzParseChain: what is read is written again as it was.
func FuzzParseChain(f *testing.F) {
	f.Add(testChain(1).String())
	f.Add("12D3KooW/main/00")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := journal.ParseChain(testFleet, s); err == nil && (c.String() != s || c.Fleet != testFleet) {
			t.Errorf("%q is read as %s", s, c)
		}
	})
}
