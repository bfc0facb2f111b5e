// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/trust"
)

// Role is whose signatures a kind of metadata needs, and of how many of them.
type Role struct {
	Keys      []edge.ID
	Threshold int
}

// Roles is what a root says.
type Roles struct {
	Root, Targets, Snapshot, Timestamp Role
}

// List returns the roles by their names, in the order in which they are shown; what it returns may be changed.
func (r *Roles) List() []NamedRole {
	return []NamedRole{{metadata.ROOT, &r.Root}, {metadata.TARGETS, &r.Targets}, {metadata.SNAPSHOT, &r.Snapshot}, {metadata.TIMESTAMP, &r.Timestamp}}
}

// NamedRole is a role with its name.
type NamedRole struct {
	Name string
	*Role
}

// check refuses what could never be signed, and what would put all at one key.
func (r *Roles) check() error {
	for _, role := range r.List() {
		if role.Threshold < 1 || role.Threshold > len(role.Keys) {
			return fmt.Errorf("ota/repo: role %s: %d of %d keys can never sign", role.Name, role.Threshold, len(role.Keys))
		}
		for i, id := range role.Keys {
			if slices.Contains(role.Keys[:i], id) {
				return fmt.Errorf("ota/repo: role %s: key %s is there twice and counts once", role.Name, id)
			}
		}
	}
	return nil
}

// Request is a root on its way to those who sign it: a small public file. Old is the root that it replaces, nil for the first.
type Request struct {
	Old, New *metadata.Metadata[metadata.RootType]
	old      []byte // as it is written
}

// requestFile is a request on disk. Roots are strings, so that no tool changes their bytes on the way.
type requestFile struct {
	Format string `json:"format"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new"`
}

const requestFormat = "streembit-root-request-1"

// maxRequest is more bytes than a request has.
const maxRequest = 4 * trust.MaxRoot

// FirstRoot makes a request for the first root.
func FirstRoot(roles Roles, now time.Time) (*Request, error) {
	next, err := newRoot(roles, 1, now)
	return &Request{New: next}, err
}

// NextRoot makes a request for the root after the newest, in which change has had its say.
func (r *Repo) NextRoot(now time.Time, change func(*Roles) error) (*Request, error) {
	text, err := r.Root()
	if err != nil {
		return nil, err
	}
	q := &Request{old: text}
	if q.Old, err = metadata.Root().FromBytes(text); err != nil {
		return nil, fmt.Errorf("ota/repo: root: %w", err)
	}
	roles, err := rolesOf(q.Old)
	if err != nil {
		return nil, err
	}
	if err := change(&roles); err != nil {
		return nil, err
	}
	q.New, err = newRoot(roles, q.Old.Signed.Version+1, now)
	return q, err
}

func newRoot(roles Roles, version int64, now time.Time) (*metadata.Metadata[metadata.RootType], error) {
	if err := roles.check(); err != nil {
		return nil, err
	}
	root := metadata.Root(expiry(now, RootLife))
	root.Signed.Version = version
	for _, role := range roles.List() {
		for _, id := range role.Keys {
			key, _, err := keyOf(id)
			if err != nil {
				return nil, err
			}
			if err := root.Signed.AddKey(key, role.Name); err != nil {
				return nil, fmt.Errorf("ota/repo: %w", err)
			}
		}
		root.Signed.Roles[role.Name].Threshold = role.Threshold
	}
	return root, nil
}

func rolesOf(root *metadata.Metadata[metadata.RootType]) (roles Roles, err error) {
	for _, role := range roles.List() {
		of := root.Signed.Roles[role.Name]
		if of == nil {
			return roles, fmt.Errorf("ota/repo: the root has no role %s", role.Name)
		}
		role.Threshold = of.Threshold
		for _, name := range of.KeyIDs {
			id, err := idOf(root.Signed.Keys[name])
			if err != nil {
				return roles, err
			}
			role.Keys = append(role.Keys, id)
		}
	}
	return roles, nil
}

// Roles returns what the newest root says, with its version and the time at which it expires.
func (r *Repo) Roles() (roles Roles, version int64, expires time.Time, err error) {
	c, err := r.current()
	if err != nil {
		return roles, 0, expires, err
	}
	roles, err = rolesOf(c.root)
	return roles, c.root.Signed.Version, c.root.Signed.Expires, err
}

// ParseRequest reads what Encode wrote.
func ParseRequest(data []byte) (*Request, error) {
	var f requestFile
	if len(data) > maxRequest {
		return nil, fmt.Errorf("ota/repo: reading request: %d bytes of at most %d: %w", len(data), maxRequest, trust.ErrTooLarge)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	if _, end := d.Token(); err != nil || f.Format != requestFormat || !errors.Is(end, io.EOF) {
		return nil, fmt.Errorf("ota/repo: reading request: it is no request for a root: %w", errors.Join(trust.ErrMalformed, err))
	}
	q := &Request{}
	if f.Old != "" {
		q.old = []byte(f.Old)
		if err := trust.CheckRoots(q.old); err != nil {
			return nil, fmt.Errorf("ota/repo: reading request: the root that it replaces: %w", err)
		}
		if q.Old, err = metadata.Root().FromBytes(q.old); err != nil {
			return nil, fmt.Errorf("ota/repo: reading request: %w", err)
		}
	}
	if err := trust.CheckRootForm([]byte(f.New)); err != nil {
		return nil, fmt.Errorf("ota/repo: reading request: %w", err)
	}
	if q.New, err = metadata.Root().FromBytes([]byte(f.New)); err != nil {
		return nil, fmt.Errorf("ota/repo: reading request: %w", err)
	}
	due := int64(1)
	if q.Old != nil {
		due = q.Old.Signed.Version + 1
	}
	if q.New.Signed.Version != due {
		return nil, fmt.Errorf("ota/repo: reading request: root %d where %d is due: %w", q.New.Signed.Version, due, trust.ErrRollback)
	}
	_, err = q.Roles() // keys that are not ours could not be shown to those who sign
	return q, err
}

// Encode writes the request, signatures included.
func (q *Request) Encode() ([]byte, error) {
	next, err := encode(q.New)
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(requestFile{Format: requestFormat, Old: string(q.old), New: string(next)}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("ota/repo: writing request: %w", err)
	}
	return append(text, '\n'), nil
}

// Roles returns what the new root says.
func (q *Request) Roles() (Roles, error) { return rolesOf(q.New) }

// Before returns what the old root says; nothing if there is none.
func (q *Request) Before() (Roles, error) {
	if q.Old == nil {
		return Roles{}, nil
	}
	return rolesOf(q.Old)
}

// Sign adds a signature. The error wraps ErrForeignKey when neither the old nor the new root gives the key a part in roots.
func (q *Request) Sign(k journal.Signer) error {
	now, err := q.Roles()
	if err != nil {
		return err
	}
	before, err := q.Before()
	if err != nil {
		return err
	}
	if !slices.Contains(now.Root.Keys, k.ID()) && !slices.Contains(before.Root.Keys, k.ID()) {
		return fmt.Errorf("ota/repo: signing root %d with %s: %w", q.New.Signed.Version, k.ID(), ErrForeignKey)
	}
	return signWith(q.New, k)
}

// Take adds the signatures of another copy of the same request, so that holders need not wait for each other.
func (q *Request) Take(o *Request) error {
	a, errA := encode(&metadata.Metadata[metadata.RootType]{Signed: q.New.Signed})
	b, errB := encode(&metadata.Metadata[metadata.RootType]{Signed: o.New.Signed})
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if !bytes.Equal(a, b) || !bytes.Equal(q.old, o.old) {
		return fmt.Errorf("ota/repo: the requests are for different roots: %w", trust.ErrMismatch)
	}
	for _, sig := range o.New.Signatures {
		if !slices.ContainsFunc(q.New.Signatures, func(s metadata.Signature) bool { return s.KeyID == sig.KeyID }) {
			q.New.Signatures = append(q.New.Signatures, sig)
		}
	}
	return nil
}

// Standing says who has signed and how many are missing, by the new root's own rule and by the old one's.
func (q *Request) Standing() ([]Standing, error) {
	own, err := standing(metadata.ROOT, q.New.Signed.Roles[metadata.ROOT], q.New.Signed.Keys, q.New)
	if err != nil || q.Old == nil {
		return []Standing{own}, err
	}
	before, err := standing("root before", q.Old.Signed.Roles[metadata.ROOT], q.Old.Signed.Keys, q.New)
	return []Standing{own, before}, err
}

// Accept makes a release folder of the first root, or puts the next one into it. The error wraps ErrTooFew below the threshold, and
// trust.ErrRollback when it is not the one that is due there.
func (q *Request) Accept(dir string) (*Repo, error) {
	all, err := q.Standing()
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.Missing > 0 {
			return nil, fmt.Errorf("ota/repo: root %d: role %s has %d of %d signatures: %w", q.New.Signed.Version, s.Role, len(s.Signed), len(s.Signed)+s.Missing, ErrTooFew)
		}
	}
	next, err := encode(q.New)
	if err != nil {
		return nil, err
	}
	r := &Repo{dir}
	roots, err := r.roots()
	switch {
	case errors.Is(err, ErrNoRoot) && q.Old == nil:
	case err != nil:
		return nil, err
	case q.old == nil || !bytes.Equal(roots[len(roots)-1], q.old):
		return nil, fmt.Errorf("ota/repo: root %d does not follow the newest in %s: %w", q.New.Signed.Version, dir, trust.ErrRollback)
	}
	if err := trust.CheckRoots(append(roots, next)...); err != nil {
		return nil, err
	}
	return r, r.write(fmt.Sprintf("%d.root.json", q.New.Signed.Version), next)
}
