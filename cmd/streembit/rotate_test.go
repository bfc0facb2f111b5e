// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// TestOpenTurn: what a device says of its keys counts only for the key that it has proven, and only if both keys signed it.
func TestOpenTurn(t *testing.T) {
	in := journal.FleetID{1}
	newKey := func() journal.SoftKey {
		k, _, err := fleet.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	old, next, other := newKey(), newKey(), newKey()
	proof := func(in journal.FleetID, a, b journal.Signer) string {
		raw, err := fleet.SignSuccession(in, a, b)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	cuts, err := journal.Encode([]fleet.Cut{{Stream: "main", Incarnation: journal.Incarnation{2}, Seq: 9, Hash: journal.Hash{3}}})
	if err != nil {
		t.Fatal(err)
	}
	ends, good := base64.StdEncoding.EncodeToString(cuts), proof(in, old, next)
	for name, c := range map[string]struct {
		from edge.ID
		said any
		want error // nil = it counts
		ends int
	}{
		"before":                     {old.ID(), map[string]any{"proof": good}, nil, 0},
		"after":                      {next.ID(), map[string]any{"proof": good, "ends": ends}, nil, 1},
		"another device's proof":     {other.ID(), map[string]any{"proof": good, "ends": ends}, journal.ErrForeignSigner, 0},
		"another fleet's proof":      {old.ID(), map[string]any{"proof": proof(journal.FleetID{9}, old, next)}, fleet.ErrWrongFleet, 0},
		"ends that nobody can read":  {next.ID(), map[string]any{"proof": good, "ends": "AAAA"}, journal.ErrMalformed, 0},
		"no ends":                    {next.ID(), map[string]any{"proof": good}, journal.ErrMalformed, 0},
		"no proof":                   {old.ID(), map[string]any{}, journal.ErrMalformed, 0},
		"nothing":                    {old.ID(), nil, journal.ErrMalformed, 0},
		"a proof that is no base 64": {old.ID(), map[string]any{"proof": "*"}, base64.CorruptInputError(0), 0},
	} {
		got, err := openTurn(in, c.from, c.said)
		if c.want != nil {
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %+v, %v, want %v", name, got, err, c.want)
			}
			continue
		}
		if err != nil || got.Old != old.ID() || got.New != next.ID() || got.from != c.from || len(got.ends) != c.ends {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
