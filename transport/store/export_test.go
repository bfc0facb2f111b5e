// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Filled returns a store whose index holds so many segments of so many chains, with nothing on the disk, in a fleet of so many hubs,
// one of its chains and one of its hubs.
func Filled(b *testing.B, chains, segments, hubs int) (_ *Store, c journal.Chain, hub edge.ID) {
	b.Helper()
	fail := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	owner := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)))
	rk, err := journal.GenerateReaderKey()
	fail(err)
	f, err := fleet.Found(fleet.Founding{Name: "bench", Owner: owner, Spare: edge.ID{9}, Recovery: rk.Public()}, time.Now())
	fail(err)
	device := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))).ID()
	grants := []fleet.Grant{{Member: device, Name: "device", Roles: fleet.Device}}
	for i := range hubs {
		hub = journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(9 + i)}, ed25519.SeedSize))).ID()
		grants = append(grants, fleet.Grant{Member: hub, Name: fmt.Sprintf("hub-%d", i), Roles: fleet.Hub})
	}
	f, err = f.Grant(fleet.Author{Key: owner}, time.Now(), grants...)
	fail(err)
	s, err := Open(context.Background(), b.TempDir(), Options{Fleet: func() *fleet.Fleet { return f }})
	fail(err)
	b.Cleanup(func() { _ = s.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range chains {
		c = journal.Chain{Fleet: f.ID(), Device: device, Stream: "main"}
		binary.BigEndian.PutUint64(c.Incarnation[:], uint64(i))
		h := s.chain(c)
		for seq := range uint64(segments) {
			h.put(seq, entry{})
		}
	}
	return s, c, hub
}
