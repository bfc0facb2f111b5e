// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/image"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// errUnverified is wrapped when readings are missing or do not verify.
var errUnverified = errors.New("not complete or not verified")

// outcome says how each kind of error ends streembit and what to try if the error itself does not say.
func outcome() cli.Program {
	return cli.Program{Name: "streembit", Kinds: append([]cli.Kind{
		{Is: cli.Wraps(errUnverified, journal.ErrForeignSigner, journal.ErrTampered, journal.ErrFork, journal.ErrMalformed, journal.ErrNotCanonical,
			journal.ErrBadSeq, journal.ErrForeignChain, journal.ErrSealed), Code: cli.Unverified, Try: "streembit pull all --format jsonl >/dev/null"},
		{Is: cli.Wraps(image.ErrChecksum, image.ErrMismatch), Code: cli.Unverified, Try: "the same command again"},
		{Is: cli.Is[*image.Refusal], Code: cli.Refused, Try: "lsblk"},
		{Is: cli.Wraps(trust.ErrUnsigned, trust.ErrMismatch, trust.ErrRollback, trust.ErrExpired, trust.ErrMalformed, trust.ErrDelegation, trust.ErrTooLarge),
			Code: cli.Unverified, Try: "streembit ota verify"},
		{Is: cli.Wraps(repo.ErrTooFew, repo.ErrForeignKey, repo.ErrNotNewer, repo.ErrRenew, repo.ErrExists, repo.ErrWrongArch, ota.ErrBelowFloor), Code: cli.Refused,
			Try: "streembit ota root show"},
		{Is: cli.Wraps(repo.ErrNoRoot), Code: cli.Failure, Try: "streembit ota keygen"},
		{Is: cli.Is[*transport.Refusal], Code: cli.Refused, Try: "streembit fleet show"},
		{Is: cli.Wraps(errWrongPassphrase), Code: cli.Refused, Try: "the same command again"},
		{Is: cli.Is[*p2p.StandingError], Code: cli.Refused, Try: "ask an operator of the fleet"},
		{Is: cli.Wraps(fleet.ErrNotOwner, fleet.ErrWrongFleet, fleet.ErrRollback, fleet.ErrBadGrant, fleet.ErrNotAllowed, fleet.ErrNotMember, fleet.ErrRevoked,
			enroll.ErrBadProof, errRestored, journal.ErrNotReader, journal.ErrWrongFleet, collector.ErrNoReader),
			Code: cli.Refused, Try: "streembit fleet show"},
		{Is: cli.Wraps(transport.ErrUnreachable, transport.ErrNoHubs, collector.ErrNoHub), Code: cli.Unreachable, Try: "streembit fleet show"},
		{Is: cli.Wraps(fs.ErrNotExist), Code: cli.Failure, Try: "streembit fleet init --name lab"},
	}, callKinds()...)}
}
