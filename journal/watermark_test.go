// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"testing"

	"github.com/streembit/edge/journal"
)

func TestWatermarks(t *testing.T) {
	key := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)))
	other := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32)))
	fleet := journal.FleetID{1}
	chain := journal.Chain{Fleet: fleet, Device: other.ID(), Stream: "main", Incarnation: journal.Incarnation{9}}
	marks := []journal.Watermark{{Chain: chain, Link: journal.Link{Seq: 41, Hash: journal.Hash{2}}}}
	signed, err := journal.SignWatermarks(key, fleet, marks)
	if err != nil {
		t.Fatal(err)
	}
	w, err := journal.OpenWatermarks(signed, fleet)
	if err != nil || w.Collector != key.ID() || !reflect.DeepEqual(w.Marks, marks) {
		t.Fatalf("got %+v, %v", w, err)
	}
	if _, err := journal.OpenWatermarks(signed, journal.FleetID{2}); !errors.Is(err, journal.ErrWrongFleet) {
		t.Errorf("of another fleet: %v", err)
	}
	forged, err := journal.Encode(journal.Watermarks{Fleet: fleet, Collector: key.ID(), Marks: marks})
	if err != nil {
		t.Fatal(err)
	}
	if forged, err = journal.SignRecord(other, journal.TypeWatermarks, forged); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.OpenWatermarks(forged, fleet); !errors.Is(err, journal.ErrForeignSigner) {
		t.Errorf("signed by somebody else: %v", err)
	}
	for i := range signed {
		bad := bytes.Clone(signed)
		bad[i] ^= 1
		if _, err := journal.OpenWatermarks(bad, fleet); err == nil {
			t.Fatalf("byte %d changed: nobody noticed", i)
		}
	}
	foreign := chain
	foreign.Fleet = journal.FleetID{3}
	for name, list := range map[string][]journal.Watermark{"none": nil, "too many": make([]journal.Watermark, journal.MaxWatermarks+1), "foreign chain": {{Chain: foreign}}} {
		if _, err := journal.SignWatermarks(key, fleet, list); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func FuzzOpenWatermarks(f *testing.F) {
	key := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)))
	fleet := journal.FleetID{1}
	chain := journal.Chain{Fleet: fleet, Device: key.ID(), Stream: "main"}
	signed, err := journal.SignWatermarks(key, fleet, []journal.Watermark{{Chain: chain, Link: journal.Link{Seq: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := journal.OpenWatermarks(raw, fleet)
		if err != nil {
			return
		}
		payload, err := journal.Encode(w)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := journal.PeekRecord(raw); err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("accepted in two forms: %x and %x (%v)", again, payload, err)
		}
	})
}
