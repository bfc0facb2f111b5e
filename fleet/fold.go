// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/streembit/edge/journal"
)

// word is what one signer said of a member: a grant or a revocation.
type word struct {
	Entry
	by     voice
	rights []Right // of the operator
}

// voice is in whose name something was said.
type voice uint8

const (
	owner voice = iota + 1
	operator
	policy
)

func (w word) serial() uint64 {
	if w.Grant != nil {
		return w.Grant.Serial
	}
	return w.Revoke.Serial
}

// fold goes through what was said of a member by its serials, grants before revocations. Each word is judged by what the ones before it made of the
// member, so that an operator changes nobody who is not its own, whatever serial it takes and whenever its log arrives.
func (v *view) fold(r *record) {
	if len(r.words) == 1 && r.words[0].Grant != nil { // as most are
		r.grant, r.words = r.words[0].Grant, nil
		return
	}
	slices.SortStableFunc(r.words, func(a, b word) int {
		if c := cmp.Compare(a.serial(), b.serial()); c != 0 {
			return c
		}
		return cmp.Compare(kind(a), kind(b))
	})
	for words := r.words; len(words) > 0; {
		n := 1
		for n < len(words) && words[n].serial() == words[0].serial() && kind(words[n]) == kind(words[0]) {
			n++
		}
		allowed := slices.DeleteFunc(slices.Clone(words[:n]), func(w word) bool { return !v.follows(r.grant, w) })
		v.ignored += n - len(allowed)
		words = words[n:]
		for _, w := range allowed {
			if w.Revoke != nil {
				r.revoke(w.Revoke)
			}
		}
		if len(allowed) > 0 && allowed[0].Grant != nil {
			r.grant = v.choose(allowed)
		}
	}
	r.words = nil
}

func kind(w word) int {
	if w.Grant != nil {
		return 0
	}
	return 1
}

// follows reports whether the word may follow a grant, nil = none.
func (v *view) follows(g *Grant, w word) bool {
	switch {
	case w.by == owner:
		return true
	case g == nil:
		return w.Grant != nil
	}
	return w.by == operator && v.mayEnrol(w.rights, g)
}

func (r *record) revoke(said *Revocation) {
	r.revoked = said
	if r.cuts == nil && len(said.Last) > 0 {
		r.cuts = map[lane]Cut{}
	}
	for _, c := range said.Last {
		at := lane{c.Stream, c.Incarnation}
		if old, there := r.cuts[at]; !there || c.Seq < old.Seq {
			r.cuts[at] = c
		}
	}
}

// choose decides between grants of one serial, whose signers did not know of each other, so that all members decide alike: the owner's counts more than an
// operator's, a person's more than a policy's, and that of an operator who could have said the next word on the other's more than that other. Between
// equals the order of bytes decides.
func (v *view) choose(words []word) *Grant {
	for _, prefer := range []func(word) bool{
		func(w word) bool { return w.by == owner },
		func(w word) bool { return w.Grant.Token == (TokenID{}) },
		func(w word) bool { return !slices.ContainsFunc(words, func(o word) bool { return v.stronger(o, w) }) },
	} {
		if best := slices.DeleteFunc(slices.Clone(words), func(w word) bool { return !prefer(w) }); len(best) > 0 {
			words = best
		}
	}
	return slices.MinFunc(words, func(a, b word) int { return bytes.Compare(a.encoded(), b.encoded()) }).Grant
}

// stronger reports whether a's signer could have said the next word on b's grant, and not the other way round.
func (v *view) stronger(a, b word) bool { return v.follows(b.Grant, a) && !v.follows(a.Grant, b) }

func (w word) encoded() []byte {
	enc, err := journal.Encode(w.Grant)
	if err != nil { // what was decoded encodes
		return nil
	}
	return enc
}
