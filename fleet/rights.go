// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/streembit/edge"
)

// Verb is a kind of thing that a member may be allowed.
type Verb string

// The verbs. What a Right's What means depends on it.
const (
	Read    Verb = "read"    // pull, follow and watch readings; What = streams
	Command Verb = "command" // call actions and set properties; What = their names
	Enrol   Verb = "enrol"   // grant and revoke members; What = roles
	Update  Verb = "update"  // release and roll out updates; What = channels
)

var verbs = []Verb{Read, Command, Enrol, Update}

// Right allows one verb on some devices. What is not allowed is denied.
type Right struct {
	_    struct{} `cbor:",toarray"`
	Do   Verb
	On   []string // which members: "*", a name, a whole id, or a label "key=value" ("site=…" is a hub's site too)
	What []string // "*", an exact name, or a prefix that ends in "*"
}

// Everything is what an operator has who is appointed without limits.
func Everything() []Right {
	out := make([]Right, len(verbs))
	for i, v := range verbs {
		out[i] = Right{Do: v, On: []string{"*"}, What: []string{"*"}}
	}
	return out
}

func checkRights(rights []Right) error {
	if len(rights) > maxRights {
		return fmt.Errorf("%d rights: want at most %d", len(rights), maxRights)
	}
	for _, r := range rights {
		if !slices.Contains(verbs, r.Do) {
			return fmt.Errorf("right to %.40q: want read, command, enrol or update", r.Do)
		}
		if len(r.On) == 0 || len(r.What) == 0 || len(r.On) > maxWords || len(r.What) > maxWords {
			return fmt.Errorf("right to %s on %d and %d words: want 1 to %d each", r.Do, len(r.On), len(r.What), maxWords)
		}
		for _, w := range slices.Concat(r.On, r.What) {
			if w == "" || len(w) > maxLabel || !printable(w) {
				return fmt.Errorf("right to %s: %.80q: want 1 to %d bytes of printable text", r.Do, w, maxLabel)
			}
		}
	}
	return nil
}

// ParseRight reads "VERB WHAT[,WHAT] [on SELECTOR[,SELECTOR]]", for example "read main on site=lab" or "command switch.*".
func ParseRight(s string) (Right, error) {
	f := strings.Fields(s)
	r := Right{On: []string{"*"}}
	switch {
	case len(f) == 4 && f[2] == "on":
		r.On = strings.Split(f[3], ",")
		fallthrough
	case len(f) == 2:
		r.Do, r.What = Verb(f[0]), strings.Split(f[1], ",")
		if err := checkRights([]Right{r}); err != nil {
			return Right{}, fmt.Errorf("fleet: %w", err)
		}
		return r, nil
	}
	return Right{}, fmt.Errorf("fleet: right %q: want for example \"read main on site=lab\" or \"command switch.* on gateway-7\"", s)
}

// String writes what ParseRight reads.
func (r Right) String() string {
	return fmt.Sprintf("%s %s on %s", r.Do, strings.Join(r.What, ","), strings.Join(r.On, ","))
}

func (r Right) equal(o Right) bool {
	return r.Do == o.Do && slices.Equal(r.On, o.On) && slices.Equal(r.What, o.What)
}

// May reports whether the member may do what on another one. An owner may everything; everybody else what the grant says.
func (f *Fleet) May(who edge.ID, do Verb, on edge.ID, what string) bool {
	if f.isOwner(who) {
		return true
	}
	g, ok := f.Member(who)
	if !ok {
		return false
	}
	target, ok := f.view.known(on)
	if !ok {
		target = &Grant{Member: on}
	}
	return allows(g.Rights, do, target, what)
}

func allows(rights []Right, do Verb, on *Grant, what string) bool {
	return slices.ContainsFunc(rights, func(r Right) bool {
		return r.Do == do && slices.ContainsFunc(r.On, on.Selected) && slices.ContainsFunc(r.What, func(p string) bool { return fits(p, what) })
	})
}

// Selected reports whether a selector means this member.
func (g *Grant) Selected(selector string) bool {
	return selector == "*" || selector == g.Name || selector == g.Member.String() || slices.Contains(g.Labels, selector) ||
		g.Site != "" && selector == "site="+g.Site
}

// fits reports whether a pattern covers a name.
func fits(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// includes reports whether a pattern covers all that another one covers.
func includes(pattern, other string) bool {
	if rest, wild := strings.CutSuffix(other, "*"); wild {
		prefix, ok := strings.CutSuffix(pattern, "*")
		return ok && strings.HasPrefix(rest, prefix)
	}
	return fits(pattern, other)
}

// covers reports whether somebody with the rights may hand on this one: each word of it must lie in a single one of theirs.
func covers(rights []Right, given Right) bool {
	for _, on := range given.On {
		for _, what := range given.What {
			if !slices.ContainsFunc(rights, func(r Right) bool {
				return r.Do == given.Do && (slices.Contains(r.On, "*") || slices.Contains(r.On, on)) &&
					slices.ContainsFunc(r.What, func(p string) bool { return includes(p, what) })
			}) {
				return false
			}
		}
	}
	return true
}

// MaySome reports whether the member may do what, on some members at least; what "" = anything. For what concerns no single member.
func (f *Fleet) MaySome(who edge.ID, do Verb, what string) bool {
	if f.isOwner(who) {
		return true
	}
	g, ok := f.Member(who)
	return ok && slices.ContainsFunc(g.Rights, func(r Right) bool {
		return r.Do == do && (what == "" || slices.ContainsFunc(r.What, func(p string) bool { return fits(p, what) }))
	})
}
