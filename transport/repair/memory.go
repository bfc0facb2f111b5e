// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	maxClean   = 1 << 16   // runs that are remembered: some 80 bytes each
	maxSettled = 1 << 14   // buckets that are remembered: some 50 bytes each
	recall     = time.Hour // after which all is compared anew: what was here may have been damaged since
)

// tag is half a SHA-256: of what is remembered only equality matters.
type tag [16]byte

// memory is what other hubs said that needs no second look. One goroutine uses it.
type memory struct {
	clean   map[tag]agreement // by hub and run of seqs
	settled map[tag]struct{}  // what of a bucket is not to be had, or not wanted
	fleet   *fleet.Fleet      // for which settled holds
	since   time.Time
}

// agreement is how another hub and this one differed when nothing was missing here.
type agreement struct {
	theirs tag
	both   tag // XOR of both sums: it stays while both gain the same
}

func newMemory() memory {
	return memory{clean: map[tag]agreement{}, settled: map[tag]struct{}{}}
}

// refresh forgets what no longer holds.
func (m *memory) refresh(f *fleet.Fleet) {
	if now := time.Now(); now.Sub(m.since) > recall {
		m.since = now
		clear(m.settled)
		clear(m.clean)
	}
	if m.fleet != f && len(m.settled) > 0 { // what was refused may be welcome now
		clear(m.settled)
		clear(m.clean)
	}
	m.fleet = f
}

func runTag(hub edge.ID, c journal.Chain, span transport.Span, whole bool) tag {
	at := []byte{0}
	if !whole {
		at = binary.BigEndian.AppendUint64(at, span.First)
	}
	key := c.Key()
	return sum(hub.Bytes(), key[:], at)
}

func sum(parts ...[]byte) (t tag) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	copy(t[:], h.Sum(nil))
	return t
}

func agreed(theirs, ours transport.Range) (a agreement) {
	copy(a.theirs[:], theirs.Sum[:])
	for i := range a.both {
		a.both[i] = theirs.Sum[i] ^ ours.Sum[i]
	}
	return a
}

// same reports whether a run needs no look: both hold the same, or the other one has had nothing new since the last look, or the same as this one.
func (m *memory) same(run tag, theirs, ours transport.Range) bool {
	if theirs.Sum == ours.Sum && theirs.Count == ours.Count {
		return true
	}
	now := agreed(theirs, ours)
	then, known := m.clean[run]
	return known && (then.theirs == now.theirs || then.both == now.both)
}

// keep remembers that nothing is missing.
func (m *memory) keep(run tag, theirs, ours transport.Range) {
	if _, known := m.clean[run]; !known && len(m.clean) >= maxClean {
		for any := range m.clean { // it costs a look
			delete(m.clean, any)
			break
		}
	}
	m.clean[run] = agreed(theirs, ours)
}

// bucketTag stands for two ways to hold a bucket. hub zero: whoever holds it theirs.
func bucketTag(hub edge.ID, c journal.Chain, bucket uint64, theirs, ours journal.Hash) tag {
	key := c.Key()
	return sum(hub[:], key[:], binary.BigEndian.AppendUint64(nil, bucket), theirs[:], ours[:])
}

func (m *memory) settle(t tag) {
	if len(m.settled) >= maxSettled {
		clear(m.settled)
	}
	m.settled[t] = struct{}{}
}

func (m *memory) isSettled(t tag) bool {
	_, ok := m.settled[t]
	return ok
}

// seen are the marks that were taken already, by their hash.
type seen map[tag]struct{}

func (s seen) has(signed []byte) bool {
	_, known := s[sum(signed)]
	return known
}

func (s seen) add(signed []byte) {
	if len(s) >= maxSettled {
		clear(s)
	}
	s[sum(signed)] = struct{}{}
}
