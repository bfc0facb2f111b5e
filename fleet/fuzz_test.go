// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// FuzzBundle: whatever opens encodes to the same bytes. What it is given is offered as a bundle, and, signed by the
// owner, as a state and as a log entry, so that their decoders meet hostile owners.
func FuzzBundle(f *testing.F) {
	raw := golden(f, "bundle")
	f.Add(raw)
	base, err := fleet.Open(raw, journal.FleetID{})
	if err != nil {
		f.Fatal(err)
	}
	state, err := journal.Encode(base.Next(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	grants, err := journal.Encode(entries(hub(12), collector(f, 32, "main")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(grants)
	parts := base.Parts()
	f.Fuzz(func(t *testing.T, data []byte) {
		roundTrip(t, data)
		if len(data) == 0 || len(data) > journal.MaxSegment/2 {
			return
		}
		states := append(slices.Clip(parts.States), fleet.SignPayload(t, key(1), data))
		if enc, err := (fleet.Bundle{States: states, Logs: [][][]byte{}}).Encode(); err == nil {
			roundTrip(t, enc)
		}
		log := append(slices.Clip(parts.Logs[0]), fleet.LogEntry(t, base.LogChain(), parts.Logs[0], key(1), data, int(data[0]&0x1f)))
		if enc, err := (fleet.Bundle{States: parts.States, Logs: [][][]byte{log}}).Encode(); err == nil {
			roundTrip(t, enc)
		}
	})
}

func roundTrip(t *testing.T, data []byte) {
	t.Helper()
	f, err := fleet.Open(data, journal.FleetID{})
	if err != nil {
		return
	}
	if again, err := f.Encoded(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("opens and encodes to %x, %v", again, err)
	}
	if _, err := f.Readers(id(21), "main"); err != nil {
		t.Errorf("opens, but nobody can seal for it: %v", err)
	}
}
