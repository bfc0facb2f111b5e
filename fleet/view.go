// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// view is what the entries of all logs say together. It does not depend on the order in which logs arrived: the owner's entries
// come first, then each operator's, then those under policies; among the entries on one member the highest serial decides.
type view struct {
	members   map[edge.ID]*record
	operators map[edge.ID]*standing // from the owner's log alone
	policies  map[TokenID]*ruled
	ignored   int // entries that their signers had no right to
}

// record is what was said of one member.
type record struct {
	grant   *Grant // newest, nil = none
	revoked *Revocation
	cuts    map[lane]Cut
}

// lane is a chain of a known device.
type lane struct {
	stream string
	life   journal.Incarnation
}

// standing is what the owner said of an operator, one appointment after the other.
type standing struct {
	present []Right                          // since the last revocation; nil = not an operator now
	past    map[journal.Incarnation]judgment // chains that a revocation named
}

// judgment is how far an old chain of an operator counts, and with which rights.
type judgment struct {
	cut    Cut
	rights []Right
}

// ruled is a policy and who came in under it.
type ruled struct {
	Policy
	used map[edge.ID]bool
}

// in reports whether the record's newest word is a grant.
func (r *record) in() bool {
	return r != nil && r.grant != nil && (r.revoked == nil || r.grant.Serial > r.revoked.Serial)
}

// serial is the highest that was used for the member.
func (r *record) serial() uint64 {
	s := uint64(0)
	if r != nil && r.grant != nil {
		s = r.grant.Serial
	}
	if r != nil && r.revoked != nil {
		s = max(s, r.revoked.Serial)
	}
	return s
}

// known returns the newest grant of a member, former ones included.
func (v *view) known(id edge.ID) (*Grant, bool) {
	r := v.members[id]
	if r == nil || r.grant == nil {
		return nil, false
	}
	return r.grant, true
}

// makeView judges all entries anew; it needs no signature check, so that it is cheap. logs[0] is the owner's if it is there.
func makeView(owner journal.Chain, logs []*chainLog) *view {
	v := &view{members: map[edge.ID]*record{}, operators: map[edge.ID]*standing{}, policies: map[TokenID]*ruled{}}
	for _, l := range logs {
		if l.chain == owner {
			l.each(func(_ int64, e Entry) { v.byOwner(e) })
		}
	}
	// Kinds of entries in turn, so that it does not matter whose log comes first: one operator may revoke what another one granted.
	v.byOperators(owner, logs, func(e Entry) bool { return e.Policy != nil })
	for _, l := range logs {
		if v.operators[l.chain.Device] == nil && l.chain != owner {
			l.each(func(wall int64, e Entry) { v.byPolicy(l.chain.Device, wall, e) })
		}
	}
	v.byOperators(owner, logs, func(e Entry) bool { return e.Grant != nil })
	v.byOperators(owner, logs, func(e Entry) bool { return e.Revoke != nil })
	return v
}

// limit returns up to which seq a chain of the log counts; ok is false if no part of it does. It needs the view of the owner's log.
func (v *view) limit(c journal.Chain) (cut *Cut, ok bool) {
	if st := v.operators[c.Device]; st != nil {
		if j, named := st.past[c.Incarnation]; named {
			return &j.cut, true
		}
		return nil, st.present != nil
	}
	r := v.members[c.Device]
	if r == nil || !v.isExecutor(c.Device) {
		return nil, false
	}
	if cut, named := r.cuts[lane{logStream, c.Incarnation}]; named {
		return &cut, true
	}
	return nil, r.in()
}

func (v *view) isExecutor(id edge.ID) bool {
	for _, p := range v.policies {
		if p.Executor == id {
			return true
		}
	}
	return false
}

func (s *standing) rights(life journal.Incarnation) []Right {
	if j, named := s.past[life]; named {
		return j.rights
	}
	return s.present
}

func (v *view) byOwner(e Entry) {
	switch {
	case e.Grant != nil && e.Grant.Roles&Operator != 0:
		st := v.operators[e.Grant.Member]
		if st == nil {
			st = &standing{past: map[journal.Incarnation]judgment{}}
			v.operators[e.Grant.Member] = st
		}
		st.present = append([]Right{}, e.Grant.Rights...)
	case e.Grant != nil:
		if st := v.operators[e.Grant.Member]; st != nil {
			st.present = nil // no operator any more; its chains are cut by a revocation if they are to be
		}
	case e.Revoke != nil:
		if st := v.operators[e.Revoke.Member]; st != nil {
			for _, c := range e.Revoke.Last {
				if _, earlier := st.past[c.Incarnation]; c.Stream == logStream && !earlier {
					st.past[c.Incarnation] = judgment{cut: c, rights: st.present}
				}
			}
			st.present = nil
		}
	}
	v.take(e)
}

func (v *view) byOperators(owner journal.Chain, logs []*chainLog, kind func(Entry) bool) {
	for _, l := range logs {
		st := v.operators[l.chain.Device]
		if l.chain == owner || st == nil {
			continue
		}
		rights := st.rights(l.chain.Incarnation)
		l.each(func(wall int64, e Entry) {
			if kind(e) {
				v.byOperator(l.chain.Device, rights, wall, e)
			}
		})
	}
}

// byOperator takes an entry if the operator's rights cover it. Operators are the owner's alone to appoint and to remove.
func (v *view) byOperator(writer edge.ID, rights []Right, wall int64, e Entry) {
	ok := false
	switch {
	case e.Grant != nil:
		ok = v.mayEnrol(rights, e.Grant, e.Grant.Roles) && !slices.ContainsFunc(e.Grant.Rights, func(r Right) bool { return !covers(rights, r) }) &&
			(!v.executes(writer, e.Grant.Token) || v.use(writer, e.Grant, wall))
	case e.Revoke != nil:
		g, known := v.known(e.Revoke.Member)
		ok = known && v.mayEnrol(rights, g, g.Roles)
	case e.Policy != nil:
		p := e.Policy
		those := &Grant{Member: p.Executor, Labels: p.Labels, Site: p.Site}
		if p.Executor == writer { // itself, bound by its rights in each grant anyway; it is not one of those whom it may enrol
			those.Member = edge.ID{}
		}
		ok = v.mayEnrol(rights, those, p.Roles)
	}
	if !ok {
		v.ignored++
		return
	}
	v.take(e)
}

// executes reports whether the policy is the writer's own to carry out, so that its bounds hold for what it grants.
func (v *view) executes(writer edge.ID, t TokenID) bool {
	p := v.policies[t]
	return p != nil && p.Executor == writer
}

func (v *view) mayEnrol(rights []Right, who *Grant, roles Role) bool {
	if roles&Operator != 0 || v.operators[who.Member] != nil {
		return false
	}
	if old, known := v.known(who.Member); known && old.Roles&Operator != 0 {
		return false
	}
	for _, n := range roleNames {
		if roles&n.role != 0 && !allows(rights, Enrol, who, n.name) {
			return false
		}
	}
	return true
}

// byPolicy takes what an executor writes: grants of newcomers as the policy says, and nothing else.
func (v *view) byPolicy(writer edge.ID, wall int64, e Entry) {
	if e.Grant == nil || e.Grant.Token == (TokenID{}) || e.Grant.Serial != 1 || !v.use(writer, e.Grant, wall) {
		v.ignored++
		return
	}
	v.take(e)
}

// use counts a grant against its policy and reports whether it fits. wall is when it was granted.
func (v *view) use(writer edge.ID, g *Grant, wall int64) bool {
	p, old := v.policies[g.Token], v.members[g.Member]
	switch {
	case p == nil || p.Executor != writer || wall > p.Expires || wall <= 0:
		return false
	case g.Roles != p.Roles || g.Site != p.Site || !slices.Equal(g.Labels, p.Labels) || len(g.Rights) > 0 || len(g.Reader) > 0:
		return false
	case old != nil && old.grant != nil && old.grant.Token != g.Token: // somebody else's member
		return false
	case !p.used[g.Member] && len(p.used) >= int(p.Uses):
		return false
	}
	p.used[g.Member] = true
	return true
}

// take merges a permitted entry.
func (v *view) take(e Entry) {
	switch {
	case e.Policy != nil:
		if _, there := v.policies[e.Policy.ID]; !there {
			v.policies[e.Policy.ID] = &ruled{Policy: *e.Policy, used: map[edge.ID]bool{}}
		}
	case e.Grant != nil:
		r := v.record(e.Grant.Member)
		if r.grant == nil || e.Grant.Serial > r.grant.Serial || e.Grant.Serial == r.grant.Serial && smaller(e.Grant, r.grant) {
			r.grant = e.Grant
		}
	default:
		r := v.record(e.Revoke.Member)
		if r.revoked == nil || e.Revoke.Serial > r.revoked.Serial {
			r.revoked = e.Revoke
		}
		for _, c := range e.Revoke.Last {
			at := lane{c.Stream, c.Incarnation}
			if old, there := r.cuts[at]; !there || c.Seq < old.Seq {
				r.cuts[at] = c
			}
		}
	}
}

func (v *view) record(id edge.ID) *record {
	r := v.members[id]
	if r == nil {
		r = &record{cuts: map[lane]Cut{}}
		v.members[id] = r
	}
	return r
}

// smaller decides between two grants of one serial, whose signers did not know of each other, so that all members decide alike: a
// person's counts more than a policy's.
func smaller(a, b *Grant) bool {
	if person := a.Token == (TokenID{}); person != (b.Token == (TokenID{})) {
		return person
	}
	x, errX := journal.Encode(a)
	y, errY := journal.Encode(b)
	return errX == nil && errY == nil && bytes.Compare(x, y) < 0
}
