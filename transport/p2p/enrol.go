// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
)

// Enrolment is what strangers reach at a hub: the queue of those who want to become members. The hub's program keeps it; it is called
// concurrently and must be quick.
type Enrolment interface {
	// Claim queues a claim. It is of this fleet and for this hub, and the secure channel has proven its device; whether it proves the token is for
	// the program to say, if it knows the secret. An error is the refusal that the device reads.
	Claim(p Pending) error
	// Approval returns what an operator deposited for a device; false if there is nothing.
	Approval(device edge.ID) (enroll.Approval, bool)
}

// Desk is what operators do at a hub's queue. Who may is judged before: each call names the operator, a member with that role, for the audit. Called
// concurrently.
type Desk interface {
	// Claims returns what waits, oldest first.
	Claims(operator edge.ID) ([]Pending, error)
	// Drop forgets the claim of a device; it is no error if there is none.
	Drop(operator, device edge.ID) error
	// Deposit keeps an approval until its device fetches it.
	Deposit(operator edge.ID, a enroll.Approval) error
}

// Pending is a claim in a hub's queue.
type Pending struct {
	_     struct{} `cbor:",toarray"`
	Claim enroll.Claim
	Addr  string // multiaddr from which it came
	At    int64  // ms since 1970 UTC by the hub's clock
}

// Reply is what a hub answers a newcomer that asks for its approval.
type Reply struct {
	Granted  bool             // the hub's fleet has the newcomer as a member; else nothing else is set
	Approval *enroll.Approval // what an operator deposited, if one did
	Bundle   fleet.Bundle     // the whole fleet, unproven
}

// Found is a device or hub and where it can be reached.
type Found struct {
	ID    edge.ID
	Addrs []string // multiaddrs without the /p2p part
}

// Offer is asked when somebody who knows the code of an unclaimed device offers it a fleet. The approval's proof is checked already; the bundle is
// not. nil means that the device is claimed, durably. It is called for one offer at a time.
type Offer func(ctx context.Context, a enroll.Approval, b fleet.Bundle) error
