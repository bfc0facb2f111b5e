// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"log"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

func exampleFleet() (owner journal.SoftKey, f *fleet.Fleet) {
	owner = journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	spare := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)))
	recovery, err := journal.GenerateReaderKey()
	if err != nil {
		log.Fatal(err)
	}
	f, err = fleet.Found(fleet.Founding{Name: "orchard", Owner: owner, Spare: spare.ID(), Recovery: recovery.Public()}, time.UnixMilli(1_760_000_000_000))
	if err != nil {
		log.Fatal(err)
	}
	return owner, f
}

// A new fleet has its owners and nobody else.
func ExampleFound() {
	owner, f := exampleFleet()
	fmt.Println(f.State().Name, f.State().Version, len(f.Members()), f.Is(owner.ID(), fleet.Operator))
	// Output: orchard 1 0 true
}

// Members come in by grants; what is made is a new Fleet, to be saved and handed on.
func ExampleFleet_Grant() {
	owner, f := exampleFleet()
	hub := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32)))
	f, err := f.Grant(fleet.Author{Key: owner}, time.UnixMilli(1_760_000_000_000), fleet.Grant{Member: hub.ID(), Name: "barn", Roles: fleet.Hub, Site: "barn"})
	if err != nil {
		log.Fatal(err)
	}
	for _, g := range f.Hubs() {
		fmt.Println(g.Name, g.Roles, g.Member == hub.ID())
	}
	// Output: barn hub true
}

// The owner names the hubs by which a member that knows nobody finds the fleet.
func ExampleFleet_Amend() {
	owner, f := exampleFleet()
	hub := journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32)))
	f, err := f.Amend(owner, time.UnixMilli(1_760_000_000_001), func(s *fleet.State) {
		s.Hubs = []fleet.Bootstrap{{ID: hub.ID(), Addrs: []string{"/ip4/203.0.113.10/tcp/32321"}, Site: "barn"}}
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.State().Version, f.State().Hubs[0].Addrs[0])
	// Output: 2 /ip4/203.0.113.10/tcp/32321
}
