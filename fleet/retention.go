// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
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
// from first receipt. Where several speak of a chain the longest age counts, and each required collector of all of them. Without a required
// collector it is the age alone. Of several of one name the highest Serial counts whose signer may speak of what both cover; one of no age ends it.
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
	age := time.Duration(r.MaxAge) * time.Millisecond
	err := error(nil)
	switch {
	case !journal.ValidStream(r.Name):
		err = errors.New("name: want 1 to 32 of a-z 0-9 . _ -")
	case r.Serial == 0:
		err = errors.New("serial 0")
	case len(r.On) == 0 || len(r.Streams) == 0 || len(r.On) > maxWords || len(r.Streams) > maxWords:
		err = fmt.Errorf("%d selectors and %d streams: want 1 to %d each", len(r.On), len(r.Streams), maxWords)
	case r.MaxAge != 0 && (r.MaxAge > int64(MaxMaxAge/time.Millisecond) || age < MinMaxAge):
		err = fmt.Errorf("age of %d ms: want %s to %s", r.MaxAge, MinMaxAge, MaxMaxAge)
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

// retained is what one signer said of retention.
type retained struct {
	*Retention
	rights  []Right
	byOwner bool
}

// foldRetentions lets the highest serial of each name count; the result does not depend on the order in which logs came.
func (v *view) foldRetentions() {
	slices.SortFunc(v.retained, func(a, b retained) int {
		if a.byOwner != b.byOwner && a.Serial == b.Serial {
			if a.byOwner {
				return 1 // the owner has the last word
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.Serial, b.Serial), bytes.Compare(encoded(a.Retention), encoded(b.Retention)))
	})
	v.retention = map[string]*Retention{}
	for _, r := range v.retained {
		old := v.retention[r.Name]
		if r.byOwner || old == nil || old.within(r.rights) {
			v.retention[r.Name] = r.Retention
		} else {
			v.ignored++
		}
	}
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
	for _, r := range f.view.retention {
		if r.MaxAge == 0 || !slices.ContainsFunc(r.On, target.selected) || !slices.ContainsFunc(r.Streams, func(p string) bool { return fits(p, stream) }) {
			continue
		}
		maxAge = max(maxAge, time.Duration(r.MaxAge)*time.Millisecond)
		for _, id := range r.Required {
			if f.Is(id, Collector) && !slices.Contains(required, id) {
				required = append(required, id)
			}
		}
	}
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	slices.SortFunc(required, edge.ID.Compare)
	return maxAge, required
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

// Retain says how long hubs hold some devices' streams; the Serial is set. An age of zero ends the retention of that name.
func (f *Fleet) Retain(a Author, now time.Time, r Retention) (*Fleet, error) {
	r.Serial = 1
	if old := f.view.retention[r.Name]; old != nil {
		r.Serial = old.Serial + 1
	}
	return f.Append(a, now, Entry{Retain: &r})
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
