// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Author writes entries: an owner, an operator, or a hub that carries out a policy.
type Author struct {
	Key journal.Signer
	// Life names the author's own chain of the fleet log. Somebody else with the same key, and the same one after a backup was restored, uses
	// another: two that write to one chain fork it. It does not count for an owner, whose state names the chain.
	Life journal.Incarnation
}

// Append adds entries to the author's log, in as few segments as hold them. Each call judges the whole fleet anew, so add many at
// once. An error wraps ErrNotAllowed when members would not let one of them count, or ErrBadGrant.
func (f *Fleet) Append(a Author, now time.Time, entries ...Entry) (*Fleet, error) {
	if len(entries) == 0 {
		return f, nil
	}
	chain, err := f.chainOf(a)
	if err != nil {
		return nil, err
	}
	segments, err := f.write(chain, a.Key, now, entries)
	if err != nil {
		return nil, err
	}
	next, err := f.Merge(Bundle{Logs: [][][]byte{segments}})
	if err != nil {
		return nil, err
	}
	if next.Ignored() > f.Ignored() || next.segments(chain.Device) != f.segments(chain.Device)+len(segments) {
		return nil, fmt.Errorf("fleet: adding to log with the key of %s: %w", a.Key.ID(), ErrNotAllowed)
	}
	return next, nil
}

// Grant appends grants. A Serial of 0 becomes the next one of its member. What an operator has said until now is judged by its rights until now: its
// appointment with other ones ends its chains, and it needs a new life.
func (f *Fleet) Grant(a Author, now time.Time, grants ...Grant) (*Fleet, error) {
	var entries []Entry
	said := map[edge.ID]uint64{}
	for _, g := range grants {
		if g.Serial == 0 {
			g.Serial = max(f.view.members[g.Member].serial(), said[g.Member]) + 1
			if g.Serial == 0 {
				return nil, fmt.Errorf("fleet: granting %s: its serials are used up, let it make a new key: %w", g.Member, ErrBadGrant)
			}
			if tips := f.Tips(g.Member); len(tips) > 0 && f.reappoints(g) && g.Serial < math.MaxUint64 {
				entries = append(entries, revocations(Revocation{Member: g.Member, Serial: g.Serial, Last: tips, Reason: "appointed anew"})...)
				g.Serial++
			}
		}
		said[g.Member] = g.Serial
		entries = append(entries, Entry{Grant: &g})
	}
	return f.Append(a, now, entries...)
}

// reappoints reports whether the grant says of an operator that it may do something else from now on.
func (f *Fleet) reappoints(g Grant) bool {
	st := f.view.operators[g.Member]
	return st != nil && st.present != nil && g.Roles&Operator != 0 && (g.Expires != st.present.ends || !slices.EqualFunc(g.Rights, st.present.rights, Right.equal))
}

// Revoke takes everything from a member; last names what stays valid (see Revocation).
func (f *Fleet) Revoke(a Author, now time.Time, member edge.ID, last []Cut, reason string) (*Fleet, error) {
	r := f.view.members[member]
	if r == nil {
		return nil, fmt.Errorf("fleet: revoking %s: %w", member, ErrNotMember)
	}
	serial := r.serial()
	if serial < math.MaxUint64 { // else: a revocation beats a grant of its serial
		serial++
	}
	return f.Append(a, now, revocations(Revocation{Member: member, Serial: serial, Last: last, Reason: reason})...)
}

// revocations divides one that names more chains than an entry may: a device makes as many as it likes.
func revocations(r Revocation) []Entry {
	var out []Entry
	for {
		part := r
		part.Last = r.Last[:min(len(r.Last), maxCuts)]
		out = append(out, Entry{Revoke: &part})
		if r.Last = r.Last[len(part.Last):]; len(r.Last) == 0 {
			return out
		}
	}
}

// Tips returns the ends of the fleet logs that a member wrote, for its revocation.
func (f *Fleet) Tips(writer edge.ID) []Cut {
	var out []Cut
	for _, l := range f.logs {
		if l.chain.Device == writer && l.chain != f.ownerChain() {
			out = append(out, Cut{Stream: logStream, Incarnation: l.chain.Incarnation, Seq: l.tip().Seq, Hash: l.tip().Hash})
		}
	}
	return out
}

// segments counts those of all logs of a signer: one beyond its share would push out another.
func (f *Fleet) segments(writer edge.ID) (n int) {
	for _, l := range f.logs {
		if l.chain.Device == writer {
			n += len(l.raw)
		}
	}
	return n
}

// maxEntry is the size in bytes beyond which a segment takes no further entry; with one more it still fits.
const maxEntry = 128 << 10

// split checks the entries and divides them among segments.
func split(entries []Entry) (parts [][]Entry, err error) {
	first, size := 0, 0
	for i, e := range entries {
		if err := e.check(); err != nil {
			return nil, err
		}
		enc, err := journal.Encode(e)
		if err != nil {
			return nil, err
		}
		if size += len(enc); size > maxEntry || i+1-first == journal.MaxReadings || i+1 == len(entries) {
			parts = append(parts, entries[first:i+1])
			first, size = i+1, 0
		}
	}
	return parts, nil
}

// chainOf returns the chain that an author writes.
func (f *Fleet) chainOf(a Author) (journal.Chain, error) {
	chain := f.ownerChain()
	if a.Key.ID() != f.state.LogWriter {
		if a.Life == (journal.Incarnation{}) {
			return chain, fmt.Errorf("fleet: adding to log with the key of %s: it is not the owner's, so that the author needs a life: %w", a.Key.ID(), ErrNotOwner)
		}
		chain.Device, chain.Incarnation = a.Key.ID(), a.Life
	}
	return chain, nil
}

// write makes the segments that continue a chain.
func (f *Fleet) write(chain journal.Chain, key journal.Signer, now time.Time, entries []Entry) ([][]byte, error) {
	var tip *journal.Link
	for _, l := range f.logs {
		if l.chain == chain {
			tip = l.tip()
		}
	}
	w, err := journal.ResumeWriter(chain, tip, key)
	if err != nil {
		return nil, fmt.Errorf("fleet: adding to log with the key of %s: %w", key.ID(), err)
	}
	parts, err := split(entries)
	if err != nil {
		return nil, err
	}
	var segments [][]byte
	for _, part := range parts {
		payload, err := journal.Encode(part)
		if err != nil {
			return nil, err
		}
		seg, err := w.Plain(payload, len(part), journal.Stamp{At: edge.Instant{Wall: now.UnixMilli()}})
		if err != nil {
			return nil, fmt.Errorf("fleet: adding to log: %w", err)
		}
		if err := w.Commit(seg); err != nil {
			return nil, fmt.Errorf("fleet: adding to log: %w", err)
		}
		segments = append(segments, seg.Bytes())
	}
	return segments, nil
}
