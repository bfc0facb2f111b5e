// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"

	"github.com/streembit/edge"
)

// Note is what a device says about its own log, sealed like readings. Exactly one field is set.
type Note struct {
	_     struct{} `cbor:",toarray"`
	Clock *ClockNote
	Gap   *GapNote
}

// check is the rule for notes, both when they are made and when they are read.
func (n Note) check() error {
	switch {
	case (n.Clock == nil) == (n.Gap == nil):
		return fmt.Errorf("note must say one thing: %w", ErrMalformed)
	case n.Clock != nil && (!validTime(n.Clock.Mono) || !validTime(n.Clock.Wall) || n.Clock.Wall == 0):
		return fmt.Errorf("clock note of %d ms since boot, %d ms since 1970: %w", n.Clock.Mono, n.Clock.Wall, ErrMalformed)
	case n.Gap != nil && (n.Gap.From > n.Gap.To || n.Gap.To > MaxSeq || n.Gap.Segments > n.Gap.To-n.Gap.From+1):
		return fmt.Errorf("gap note of %d segments in %d to %d: %w", n.Gap.Segments, n.Gap.From, n.Gap.To, ErrMalformed)
	}
	return nil
}

// ClockNote ties a boot's monotonic time to wall time, once the clock is right: readers restamp the readings that
// this boot made before, and keep both times. Nothing is back-dated before it is signed.
type ClockNote struct {
	_    struct{} `cbor:",toarray"`
	Boot BootID
	Mono int64 // ms since boot …
	Wall int64 // … was this, in ms since 1970 UTC
}

// Restamp returns at with the wall time that the note proves, if at is of that boot and had none. A time that would fall
// outside 1970 .. 9999 stays unknown.
func (c ClockNote) Restamp(boot BootID, at edge.Instant) edge.Instant {
	if boot != c.Boot || at.Synced() || !validTime(at.Mono) || !validTime(c.Mono) || !validTime(c.Wall) {
		return at
	}
	if wall := c.Wall + at.Mono - c.Mono; validTime(wall) {
		at.Wall = wall
	}
	return at
}

// GapReason says why readings were given up.
type GapReason uint8

// The reasons for a gap.
const (
	GapQuota    GapReason = 1 // the outbox was full, the oldest unpublished segments went
	GapRecovery GapReason = 2 // the log was damaged, what could not be read back is gone
	GapSpool    GapReason = 3 // readings were dropped before they got a seq
	GapDropped  GapReason = 4 // a segment could not be sealed or written
	GapFork     GapReason = 5 // somebody else with the device's key took the segments' places, and they could not be sealed again
)

func (r GapReason) String() string {
	switch r {
	case GapQuota:
		return "outbox quota"
	case GapRecovery:
		return "damaged log"
	case GapSpool:
		return "spool full"
	case GapDropped:
		return "not writable"
	case GapFork:
		return "forked chain"
	}
	return "unknown"
}

// GapNote counts readings that are lost for good: the segments From..To of this device's stream in Incarnation, or,
// where Segments is 0, readings that never got a seq.
type GapNote struct {
	_           struct{} `cbor:",toarray"`
	Reason      GapReason
	Incarnation Incarnation
	From, To    uint64
	Segments    uint64
	Readings    uint64
}
