// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"fmt"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// fleetStream is the fleet log's, which goes its own way.
const fleetStream = "fleet"

// Admit reports whether a proven segment may be taken in by the fleet as it is now. A device's counts as Fleet.Accepts says; rewraps count
// while their signer is a member that may read every stream of which they hand on keys. The error wraps fleet.ErrNotMember,
// fleet.ErrRevoked, fleet.ErrNotAllowed, or says that the payload is malformed.
func Admit(f *fleet.Fleet, s *journal.Segment) error {
	switch {
	case s.Kind == journal.KindFleet || s.Chain.Stream == fleetStream:
		return fmt.Errorf("transport: stream %q, kind %d: the fleet log does not go this way: %w", s.Chain.Stream, s.Kind, fleet.ErrNotAllowed)
	case s.Kind != journal.KindRewrap:
		return f.Accepts(s.Chain, s.Seq, s.Hash)
	case !f.IsMember(s.Chain.Device):
		return fmt.Errorf("transport: rewraps of %s: %w", s.Chain.Device, fleet.ErrNotMember)
	}
	list, err := s.Rewraps()
	if err != nil {
		return err
	}
	for _, r := range list {
		if !f.May(s.Chain.Device, fleet.Read, r.Chain.Device, r.Chain.Stream) {
			return fmt.Errorf("transport: rewrap by %s, which may not read stream %q of %s: %w", s.Chain.Device, r.Chain.Stream, r.Chain.Device, fleet.ErrNotAllowed)
		}
	}
	return nil
}

// Extent is Fleet.Extent for every chain that Admit lets in.
func Extent(f *fleet.Fleet, c journal.Chain) (last *fleet.Cut, ok bool) {
	if c.Stream == journal.RewrapStream {
		return nil, f.IsMember(c.Device)
	}
	return f.Extent(c)
}
