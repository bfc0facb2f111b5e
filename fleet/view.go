// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// view is what the entries of all logs say together. It does not depend on the order in which logs arrived: the owner's entries
// decide who the operators are, and what was said of one member is judged by its serials, whoever said it (fold.go).
type view struct {
	owners    [2]edge.ID
	members   map[edge.ID]*record
	operators map[edge.ID]*standing // from the owner's log alone
	policies  map[TokenID][]*ruled  // of one id several, if operators contradict each other
	retained  []retained            // what was said of retention, by all who may say something of it; nil once it is judged
	retention map[string]*Retention // what counts of it, by name
	ignored   int                   // entries that their signers had no right to
}

// record is what counts of a member.
type record struct {
	words   []word // what was said of it; nil once it is judged
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
	serial  uint64                           // newest
	present *term                            // nil = not an operator now
	last    *term                            // newest appointment
	past    map[journal.Incarnation]judgment // chains that a revocation named
}

// term is one appointment.
type term struct {
	rights []Right
	ends   int64 // what is stamped later does not count; 0 = no end
}

// judgment is how far an old chain of an operator counts, and by which appointment.
type judgment struct {
	cut  Cut
	term *term
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

// makeView judges all entries anew; it needs no signature check, so that it is cheap. first is the owner's chain.
func makeView(owners [2]edge.ID, first journal.Chain, logs []*chainLog) *view {
	v := &view{owners: owners, members: map[edge.ID]*record{}, operators: map[edge.ID]*standing{}, policies: map[TokenID][]*ruled{}}
	for _, l := range logs {
		if l.chain == first {
			l.each(func(_ int64, e Entry) { v.byOwner(e) })
		}
	}
	// Policies first, so that it does not matter whose log comes first.
	v.byOperators(first, logs, func(e Entry) bool { return e.Policy != nil })
	for _, l := range logs {
		if v.operators[l.chain.Device] == nil && l.chain != first {
			l.each(func(wall int64, e Entry) { v.byPolicy(l.chain.Device, wall, e) })
		}
	}
	v.byOperators(first, logs, func(e Entry) bool { return e.Policy == nil })
	for _, r := range v.members {
		v.fold(r)
	}
	v.foldRetentions()
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
	for _, all := range v.policies {
		if slices.ContainsFunc(all, func(p *ruled) bool { return p.Executor == id }) {
			return true
		}
	}
	return false
}

func (s *standing) term(life journal.Incarnation) *term {
	if j, named := s.past[life]; named {
		return j.term
	}
	return s.present
}

func (v *view) byOwner(e Entry) {
	switch {
	case e.Grant != nil:
		st := v.operators[e.Grant.Member]
		if st == nil && e.Grant.Roles&Operator != 0 {
			st = &standing{past: map[journal.Incarnation]judgment{}}
			v.operators[e.Grant.Member] = st
		}
		if st == nil || e.Grant.Serial <= st.serial {
			break
		}
		st.serial, st.present = e.Grant.Serial, nil // its chains are cut by a revocation if they are to be
		if e.Grant.Roles&Operator != 0 {
			st.present = &term{e.Grant.Rights, e.Grant.Expires}
			st.last = st.present
		}
	case e.Revoke != nil:
		if st := v.operators[e.Revoke.Member]; st != nil {
			st.revoke(e.Revoke)
		}
	}
	v.take(word{e, owner, nil})
}

// revoke ends an appointment. A chain that was named before may be named again with an earlier end: a key was copied before anybody knew.
func (s *standing) revoke(r *Revocation) {
	for _, c := range r.Last {
		j, earlier := s.past[c.Incarnation]
		switch {
		case c.Stream != logStream:
		case !earlier:
			s.past[c.Incarnation] = judgment{cut: c, term: s.last}
		case c.Seq < j.cut.Seq:
			s.past[c.Incarnation] = judgment{cut: c, term: j.term}
		}
	}
	if r.Serial >= s.serial {
		s.serial, s.present = r.Serial, nil
	}
}

func (v *view) byOperators(first journal.Chain, logs []*chainLog, kind func(Entry) bool) {
	for _, l := range logs {
		st := v.operators[l.chain.Device]
		if l.chain == first || st == nil {
			continue
		}
		term := st.term(l.chain.Incarnation)
		l.each(func(wall int64, e Entry) {
			if kind(e) {
				v.byOperator(l.chain.Device, term, wall, e)
			}
		})
	}
}

// byOperator takes an entry if the operator's rights cover it, as far as that can be said without what others said of the member.
func (v *view) byOperator(writer edge.ID, t *term, wall int64, e Entry) {
	ok := t != nil && (t.ends == 0 || wall <= t.ends)
	switch {
	case !ok:
	case e.Grant != nil:
		ok = v.mayEnrol(t.rights, e.Grant) && !slices.ContainsFunc(e.Grant.Rights, func(r Right) bool { return !covers(t.rights, r) }) &&
			(!v.executes(writer, e.Grant.Token) || v.use(writer, e.Grant, wall))
	case e.Policy != nil:
		p := e.Policy
		ok = (p.Executor == writer || v.operators[p.Executor] == nil) && p.within(t.rights)
	case e.Retain != nil:
		ok = e.Retain.within(t.rights)
	}
	if !ok {
		v.ignored++
		return
	}
	v.take(word{e, operator, t.rights})
}

// within reports whether somebody with the rights may let in whom the policy lets in.
func (p *Policy) within(rights []Right) bool {
	return mayEnrol(rights, &Grant{Labels: p.Labels, Site: p.Site, Roles: p.Roles})
}

// executes reports whether a policy of that token is the writer's own to carry out, so that its bounds hold for what it grants.
func (v *view) executes(writer edge.ID, t TokenID) bool {
	return slices.ContainsFunc(v.policies[t], func(p *ruled) bool { return p.Executor == writer })
}

// mayEnrol reports whether the rights cover a member as the grant describes it. Operators and owners are for owners alone.
func (v *view) mayEnrol(rights []Right, who *Grant) bool {
	return v.operators[who.Member] == nil && !slices.Contains(v.owners[:], who.Member) && mayEnrol(rights, who)
}

func mayEnrol(rights []Right, who *Grant) bool {
	if who.Roles&Operator != 0 {
		return false
	}
	for _, n := range roleNames {
		if who.Roles&n.role != 0 && !allows(rights, Enrol, who, n.name) {
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
	v.take(word{e, policy, nil})
}

// use counts a grant against a policy of its token and reports whether it fits one. wall is when it was granted.
func (v *view) use(writer edge.ID, g *Grant, wall int64) bool {
	if r := v.members[g.Member]; r != nil && slices.ContainsFunc(r.words, func(w word) bool {
		return w.Grant != nil && w.Grant.Serial <= 1 && w.Grant.Token != g.Token
	}) {
		return false // somebody else's member
	}
	for _, p := range v.policies[g.Token] {
		if p.fits(writer, g, wall) {
			p.used[g.Member] = true
			return true
		}
	}
	return false
}

func (p *ruled) fits(writer edge.ID, g *Grant, wall int64) bool {
	return p.Executor == writer && wall > 0 && wall <= p.Expires && g.Roles == p.Roles && g.Site == p.Site && slices.Equal(g.Labels, p.Labels) &&
		len(g.Rights) == 0 && len(g.Reader) == 0 && (p.used[g.Member] || len(p.used) < int(p.Uses))
}

// take keeps a permitted entry.
func (v *view) take(w word) {
	switch {
	case w.Retain != nil:
		v.retained = append(v.retained, retained{w.Retain, w.rights, w.by == owner})
	case w.Policy != nil:
		v.rule(w.Policy)
	case w.Grant != nil:
		r := v.record(w.Grant.Member)
		r.words = append(r.words, w)
	default:
		r := v.record(w.Revoke.Member)
		r.words = append(r.words, w)
	}
}

// rule takes a policy. The same again may end it earlier, no more: a token that was lost.
func (v *view) rule(p *Policy) {
	for _, old := range v.policies[p.ID] {
		same := *p
		same.Expires = old.Expires
		if samePolicy(&same, &old.Policy) {
			old.Expires = min(old.Expires, p.Expires)
			return
		}
	}
	v.policies[p.ID] = append(v.policies[p.ID], &ruled{Policy: *p, used: map[edge.ID]bool{}})
}

func samePolicy(a, b *Policy) bool {
	return a.ID == b.ID && a.Executor == b.Executor && a.Roles == b.Roles && a.Site == b.Site && slices.Equal(a.Labels, b.Labels) &&
		a.Uses == b.Uses && a.Expires == b.Expires && bytes.Equal(a.Sealed, b.Sealed)
}

func (v *view) record(id edge.ID) *record {
	r := v.members[id]
	if r == nil {
		r = &record{}
		v.members[id] = r
	}
	return r
}
