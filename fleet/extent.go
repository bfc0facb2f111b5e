// SPDX-License-Identifier: Apache-2.0

package fleet

import "github.com/streembit/edge/journal"

// Extent says how far a chain counts that was taken in before: ok is false if nothing of it does, because its signer never was a device or was
// revoked without naming the chain; last is nil if no revocation named an end. Unlike Accepts, which judges what arrives now, it does not
// mind a grant that has expired since.
func (f *Fleet) Extent(c journal.Chain) (last *Cut, ok bool) {
	r := f.view.members[c.Device]
	if r == nil || r.grant == nil {
		return nil, false
	}
	if cut, named := r.cuts[lane{c.Stream, c.Incarnation}]; named {
		return &cut, true
	}
	return nil, r.in() && r.grant.Roles&Device != 0
}
