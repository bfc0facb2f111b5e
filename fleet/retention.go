// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// DefaultMaxAge is how long hubs hold what no retention speaks of, from first receipt.
const DefaultMaxAge = 7 * 24 * time.Hour

// Bounds of a retention.
const (
	MinMaxAge   = time.Hour
	MaxMaxAge   = 10 * 366 * 24 * time.Hour
	maxRequired = 16
)

// Retention says how long hubs hold some devices' streams: until each required collector has said, signed, that it has them, and at most MaxAge
// from first receipt. Where several speak of a chain the longest age counts, and each required collector of all of them; but if one of them requires
// nobody, the age alone, so that no retention lets go what another one keeps. Of several of one name the highest Serial counts whose signer may speak
// of what the one before covers, too; one of no age ends it.
type Retention struct {
	_        struct{} `cbor:",toarray"`
	Name     string
	Serial   uint64    // counts what was said under this name, from 1
	On       []string  // which devices: selectors as in Right
	Streams  []string  // "*", an exact name, or a prefix that ends in "*"
	MaxAge   int64     // ms; 0 = the retention has ended
	Required []edge.ID // collectors; who is none, or none any more, does not count
}

func (r *Retention) check() error {
	err := error(nil)
	switch {
	case !journal.ValidStream(r.Name):
		err = errors.New("name: want 1 to 32 of a-z 0-9 . _ -")
	case r.Serial == 0:
		err = errors.New("serial 0")
	case len(r.On) == 0 || len(r.Streams) == 0 || len(r.On) > maxWords || len(r.Streams) > maxWords:
		err = fmt.Errorf("%d selectors and %d streams: want 1 to %d each", len(r.On), len(r.Streams), maxWords)
	case r.MaxAge != 0 && (r.MaxAge > MaxMaxAge.Milliseconds() || r.MaxAge < MinMaxAge.Milliseconds()):
		err = fmt.Errorf("age of %d ms: want %s to %d days", r.MaxAge, MinMaxAge, MaxMaxAge/(24*time.Hour))
	case len(r.Required) > maxRequired:
		err = fmt.Errorf("%d required collectors: want at most %d", len(r.Required), maxRequired)
	}
	for _, w := range slices.Concat(r.On, r.Streams) {
		if w == "" || len(w) > maxLabel || !printable(w) {
			err = errors.Join(err, fmt.Errorf("%.80q: want 1 to %d bytes of printable text", w, maxLabel))
		}
	}
	if err != nil {
		return fmt.Errorf("fleet: retention %.40q: %w: %w", r.Name, err, ErrBadGrant)
	}
	return nil
}

// within reports whether somebody with the rights may say for how long these devices' readings are held: who enrols their collectors.
func (r *Retention) within(rights []Right) bool {
	return covers(rights, Right{Do: Enrol, On: r.On, What: []string{roleName(Collector)}})
}

func roleName(r Role) string {
	for _, n := range roleNames {
		if n.role == r {
			return n.name
		}
	}
	return ""
}

// Covers reports whether the retention speaks of a device's streams, if of some only.
func (r *Retention) Covers(device Grant) bool { return slices.ContainsFunc(r.On, device.Selected) }

// retained is what one signer said of retention.
type retained struct {
	*Retention
	rights  []Right
	byOwner bool
}

// foldRetentions goes through what was said under each name by its serials, as fold does with what was said of a member: each word is judged by the one
// that counted before, so that an operator changes no retention that reaches beyond its rights, and the result does not depend on the order in which
// logs came.
func (v *view) foldRetentions() {
	v.retention = map[string]*Retention{}
	slices.SortFunc(v.retained, func(a, b retained) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial), bytes.Compare(encoded(a.Retention), encoded(b.Retention)))
	})
	for words := v.retained; len(words) > 0; {
		n := 1
		for n < len(words) && words[n].Name == words[0].Name && words[n].Serial == words[0].Serial {
			n++
		}
		before := v.retention[words[0].Name]
		allowed := slices.DeleteFunc(slices.Clone(words[:n]), func(r retained) bool { return !r.follows(before) })
		v.ignored += n - len(allowed)
		if len(allowed) > 0 {
			v.retention[words[0].Name] = chooseRetention(allowed)
		}
		words = words[n:]
	}
	v.retained = nil
}

// follows reports whether the word may follow another one, nil = none.
func (r retained) follows(before *Retention) bool {
	return r.byOwner || before == nil || before.within(r.rights)
}

// chooseRetention decides between words of one serial, which come in the order of their bytes: the owner's counts more than an operator's, and that of
// an operator who could have said the next word on the other's more than that other. Between equals the first counts.
func chooseRetention(words []retained) *Retention {
	if i := slices.IndexFunc(words, func(r retained) bool { return r.byOwner }); i >= 0 {
		return words[i].Retention
	}
	for _, r := range words {
		if !slices.ContainsFunc(words, func(o retained) bool { return o.follows(r.Retention) && !r.follows(o.Retention) }) {
			return r.Retention
		}
	}
	return words[0].Retention
}

func encoded(r *Retention) []byte {
	b, err := journal.Encode(r)
	if err != nil {
		return nil // it was decoded, or checked, before
	}
	return b
}

// Retention returns how long hubs hold a device's stream from first receipt, and the collectors that must have it first before it may go
// earlier; none: it is held for that age.
func (f *Fleet) Retention(device edge.ID, stream string) (maxAge time.Duration, required []edge.ID) {
	target, ok := f.view.known(device)
	if !ok {
		target = &Grant{Member: device}
	}
	ageAlone := false
	for _, r := range f.view.retention {
		if r.MaxAge == 0 || !r.Covers(*target) || !slices.ContainsFunc(r.Streams, func(p string) bool { return fits(p, stream) }) {
			continue
		}
		maxAge = max(maxAge, time.Duration(r.MaxAge)*time.Millisecond)
		collectors := slices.DeleteFunc(slices.Clone(r.Required), func(id edge.ID) bool { return !f.Is(id, Collector) })
		ageAlone = ageAlone || len(collectors) == 0
		required = append(required, collectors...)
	}
	switch {
	case maxAge == 0:
		return DefaultMaxAge, nil
	case ageAlone:
		return maxAge, nil
	}
	slices.SortFunc(required, edge.ID.Compare)
	return maxAge, slices.Compact(required)
}

// Retentions returns what counts now, ordered by name; ended ones are left out.
func (f *Fleet) Retentions() []Retention {
	var out []Retention
	for _, r := range f.view.retention {
		if r.MaxAge != 0 {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b Retention) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Retain says how long hubs hold some devices' streams; the Serial is set. An age of zero ends the retention of that name. Errors as of Append.
func (f *Fleet) Retain(a Author, now time.Time, r Retention) (*Fleet, error) {
	r.Serial = 1
	if old := f.view.retention[r.Name]; old != nil && old.Serial < math.MaxUint64 {
		r.Serial = old.Serial + 1
	} else if old != nil {
		r.Serial = old.Serial // the owner's beats an operator's
	}
	next, err := f.Append(a, now, Entry{Retain: &r})
	if err == nil && !bytes.Equal(encoded(next.view.retention[r.Name]), encoded(&r)) {
		return nil, fmt.Errorf("fleet: retention %q: its serials are used up, take another name: %w", r.Name, ErrBadGrant)
	}
	return next, err
}

// The wire forms of an Entry.
type (
	entry3 struct {
		_      struct{} `cbor:",toarray"`
		Grant  *Grant
		Revoke *Revocation
		Policy *Policy
	}
	entry4 struct {
		_      struct{} `cbor:",toarray"`
		Grant  *Grant
		Revoke *Revocation
		Policy *Policy
		Retain *Retention
	}
)

// MarshalCBOR writes the shorter form where that is possible.
func (e Entry) MarshalCBOR() ([]byte, error) {
	if e.Retain == nil {
		return journal.Encode(entry3{Grant: e.Grant, Revoke: e.Revoke, Policy: e.Policy})
	}
	return journal.Encode(entry4{Grant: e.Grant, Revoke: e.Revoke, Policy: e.Policy, Retain: e.Retain})
}

const arrayOf4 = 0x84 // CBOR

// UnmarshalCBOR reads both forms.
func (e *Entry) UnmarshalCBOR(raw []byte) error {
	if len(raw) > 0 && raw[0] == arrayOf4 {
		var w entry4
		if err := journal.Decode(raw, &w); err != nil {
			return err
		}
		*e = Entry{Grant: w.Grant, Revoke: w.Revoke, Policy: w.Policy, Retain: w.Retain}
		return nil
	}
	var w entry3
	if err := journal.Decode(raw, &w); err != nil {
		return err
	}
	*e = Entry{Grant: w.Grant, Revoke: w.Revoke, Policy: w.Policy}
	return nil
}
