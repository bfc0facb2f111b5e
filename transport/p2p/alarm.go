// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// AlarmKind says what is wrong.
type AlarmKind string

// The alarms.
const (
	// AlarmClone: two machines with the key of one member are alive together.
	AlarmClone AlarmKind = "clone"
	// AlarmFork: somebody's key signed two histories of the fleet; the one that was known first stays.
	AlarmFork AlarmKind = "fork"
	// AlarmOwner: somebody offered another fleet to this node, which belongs to one.
	AlarmOwner AlarmKind = "second-owner"
)

// Alarm is something that a person must look at.
type Alarm struct {
	Kind   AlarmKind
	Member edge.ID           // AlarmClone: whose key; AlarmFork: who brought the other history, not who signed it; AlarmOwner: who offered
	Boots  [2]journal.BootID // AlarmClone: of the one that was there and of the newcomer, which was refused
	Addrs  [2]string         // AlarmClone: their multiaddrs, in the same order; else Addrs[1] is where it came from
	Err    error             // AlarmFork: wraps fleet.ErrFork; AlarmOwner: wraps fleet.ErrWrongFleet
}

// Standing is what a peer thinks of another one.
type Standing uint8

// The standings.
const (
	Stranger Standing = iota // its key is in no grant that the peer knows
	Member
	Revoked
	Expired
)

func (s Standing) String() string {
	names := []string{"stranger", "member", "revoked", "expired"}
	if int(s) >= len(names) {
		return "unknown"
	}
	return names[s]
}
