// SPDX-License-Identifier: Apache-2.0

// Package fleet says who may do what: the owner-signed fleet state, the operator-signed fleet log of grants, and the
// view that both together prove. It knows no network and does no I/O but for the files of keys.go and file.go.
//
// Start with Open, which turns a bundle into a Fleet; Owner makes bundles.
package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Errors of the package; test with errors.Is.
var (
	ErrNotOwner   = errors.New("not signed by an owner of the fleet")
	ErrWrongFleet = errors.New("is of another fleet")
	ErrRollback   = errors.New("is older than what is already known")
	ErrFork       = errors.New("contradicts what is already known: a key signed two histories")
	ErrTooLarge   = errors.New("larger than it may be")
	ErrBadState   = errors.New("fleet state is not valid")
	ErrBadGrant   = errors.New("grant is not valid")
	ErrNotAllowed = errors.New("the signer may not say this: its rights do not cover it")
	ErrNotMember  = errors.New("not a member of the fleet")
	ErrRevoked    = errors.New("its key was revoked")
)

// MaxState is the largest encoded fleet state in bytes.
const MaxState = 4096

// Role is what a member does; a member may have several.
type Role uint8

// The roles of design §1.
const (
	Device    Role = 1 << iota // publishes readings
	Hub                        // stores, serves, bootstraps
	Collector                  // pulls and decrypts
	Operator                   // commands, enrols
)

// roleNames is in the order in which roles are shown.
var roleNames = []struct {
	role Role
	name string
}{{Device, "device"}, {Hub, "hub"}, {Collector, "collector"}, {Operator, "operator"}}

func (r Role) String() string {
	var names []string
	for _, n := range roleNames {
		if r&n.role != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseRoles reads "hub" or "device,hub".
func ParseRoles(s string) (Role, error) {
	var r Role
	for name := range strings.SplitSeq(s, ",") {
		i := slices.IndexFunc(roleNames, func(n struct {
			role Role
			name string
		}) bool {
			return n.name == strings.TrimSpace(name)
		})
		if i < 0 {
			return 0, fmt.Errorf("fleet: role %q: want device, hub, collector or operator, joined by commas", name)
		}
		r |= roleNames[i].role
	}
	return r, nil
}

// Bootstrap is a hub that the fleet state names, so that a member with nothing else finds the fleet.
type Bootstrap struct {
	_     struct{} `cbor:",toarray"`
	ID    edge.ID
	Addrs []string // multiaddrs without the /p2p part
	Site  string   // where it stands; a quorum spans two sites where there are two
}

// State is the owner-signed root of trust. The highest version wins and never goes down.
type State struct {
	_          struct{} `cbor:",toarray"`
	Format     uint8
	Version    uint64       // from 1
	Prev       journal.Hash // hash of the signed bytes of Version-1; zero at 1
	Name       string       // for people
	Owners     [2]edge.ID   // active, spare: either may sign the next version
	Recovery   []byte       // public reader key to which every epoch is wrapped too
	Hubs       []Bootstrap
	UpdateRoot []byte              // TUF root for updates; empty until there is one
	LogWriter  edge.ID             // who signs the fleet log …
	LogLife    journal.Incarnation // … and which of its incarnations counts
	Time       int64               // ms since 1970 UTC, by the owner's clock: the floor for members without one
}

// Fleet is what a proven bundle says. It is immutable and safe for concurrent use.
type Fleet struct {
	id     journal.FleetID
	state  State
	states [][]byte
	logs   []*chainLog // in their one order
	view   *view
	now    int64 // ms since 1970 UTC, for what expires; at least the state's time
}

// ID names the fleet.
func (f *Fleet) ID() journal.FleetID { return f.id }

// State returns the proven state. The caller must not change what it points to.
func (f *Fleet) State() State { return f.state }

// Floor returns the time of the newest state: no clock that shows less can be right. Nobody but an owner moves it, and a newer state may
// lower it.
func (f *Fleet) Floor() time.Time { return time.UnixMilli(f.state.Time) }

// AsOf returns f as it is at a time: grants that have expired by then do not count. Without AsOf, and before Floor, it is Floor. A clock that
// nobody vouches for is no reason to call it.
func (f *Fleet) AsOf(t time.Time) *Fleet {
	at := *f
	at.now = max(t.UnixMilli(), f.state.Time)
	return &at
}

// Member returns a member's grant; none for one that was revoked or whose grant has expired.
func (f *Fleet) Member(id edge.ID) (Grant, bool) {
	r := f.view.members[id]
	if !r.in() || r.grant.Expires != 0 && f.now > r.grant.Expires {
		return Grant{}, false
	}
	return *r.grant, true
}

// Former returns the newest grant of somebody who is no member any more, and the revocation; nil if it merely expired.
func (f *Fleet) Former(id edge.ID) (Grant, *Revocation, bool) {
	r := f.view.members[id]
	if _, is := f.Member(id); r == nil || r.grant == nil || is {
		return Grant{}, nil, false
	}
	if r.in() {
		return *r.grant, nil, true
	}
	return *r.grant, r.revoked, true
}

// Revoked returns all revocations of those who are out now, by their keys.
func (f *Fleet) Revoked() []Revocation {
	var out []Revocation
	for _, r := range f.view.members {
		if r.revoked != nil && !r.in() {
			out = append(out, *r.revoked)
		}
	}
	slices.SortFunc(out, func(a, b Revocation) int { return a.Member.Compare(b.Member) })
	return out
}

// IsMember reports whether id has any role, owners included: they are the first operators.
func (f *Fleet) IsMember(id edge.ID) bool {
	_, ok := f.Member(id)
	return ok || f.isOwner(id)
}

// Is reports whether the member has all the roles.
func (f *Fleet) Is(id edge.ID, r Role) bool {
	if f.isOwner(id) && r == Operator {
		return true
	}
	g, ok := f.Member(id)
	return ok && g.Roles&r == r
}

func (f *Fleet) isOwner(id edge.ID) bool { return slices.Contains(f.state.Owners[:], id) }

// Accepts reports whether a segment of a device counts: its device has the role now, or had it and the segment is not beyond what a
// revocation left of the chain. The error wraps ErrNotMember or ErrRevoked.
func (f *Fleet) Accepts(c journal.Chain, seq uint64, hash journal.Hash) error {
	r := f.view.members[c.Device]
	if r == nil || r.grant == nil {
		return fmt.Errorf("fleet: segment of %s: %w", c.Device, ErrNotMember)
	}
	if cut, named := r.cuts[lane{c.Stream, c.Incarnation}]; named {
		if seq > cut.Seq || seq == cut.Seq && hash != cut.Hash {
			return fmt.Errorf("fleet: segment %d of %s, the last that counts is %d: %w", seq, c, cut.Seq, ErrRevoked)
		}
		return nil
	}
	switch {
	case !r.in():
		return fmt.Errorf("fleet: segment %d of %s: %w", seq, c, ErrRevoked)
	case !f.Is(c.Device, Device):
		return fmt.Errorf("fleet: segment of %s, which is no device or whose grant has expired: %w", c.Device, ErrNotMember)
	}
	return nil
}

// Policy returns the policy of a token and how many grants were made under it. Operators that take each other's token ids make several: of
// these the one under which most came in, and else the first in the order of the logs.
func (f *Fleet) Policy(id TokenID) (p Policy, used int, ok bool) {
	all := f.view.policies[id]
	if len(all) == 0 {
		return Policy{}, 0, false
	}
	best := all[0]
	for _, r := range all[1:] {
		if len(r.used) > len(best.used) {
			best = r
		}
	}
	return best.Policy, len(best.used), true
}

// PolicyOf returns the policies of a token that name the executor; more than one only if operators contradict each other.
func (f *Fleet) PolicyOf(id TokenID, executor edge.ID) (all []Policy) {
	for _, r := range f.view.policies[id] {
		if r.Executor == executor {
			all = append(all, r.Policy)
		}
	}
	return all
}

// Policies returns all policies, by their ids.
func (f *Fleet) Policies() []Policy {
	var out []Policy
	for _, all := range f.view.policies {
		for _, r := range all {
			out = append(out, r.Policy)
		}
	}
	slices.SortStableFunc(out, func(a, b Policy) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}

// Ignored returns how many entries stand in the logs that their signers had no right to make.
func (f *Fleet) Ignored() int { return f.view.ignored }

// Members returns all grants, by name.
func (f *Fleet) Members() []Grant {
	out := make([]Grant, 0, len(f.view.members))
	for id := range f.view.members {
		if g, ok := f.Member(id); ok {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b Grant) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Member.Compare(b.Member)
	})
	return out
}

// With returns the grants that have all the roles, by name.
func (f *Fleet) With(r Role) []Grant {
	return slices.DeleteFunc(f.Members(), func(g Grant) bool { return g.Roles&r != r })
}

// Hubs returns the enrolled hubs: who they are counts for every quorum, whatever a look-up finds.
func (f *Fleet) Hubs() []Grant { return f.With(Hub) }

// Find returns the members that a person means: a name, a whole id, or the end or start of an id.
func (f *Fleet) Find(selector string) []Grant {
	return slices.DeleteFunc(f.Members(), func(g Grant) bool {
		id := g.Member.String()
		return g.Name != selector && id != selector &&
			(len(selector) < 6 || !strings.HasSuffix(id, selector) && !strings.HasPrefix(id, selector))
	})
}

// NameOf returns the name that somebody has in the fleet, or had last; "" if none.
func (f *Fleet) NameOf(id edge.ID) string {
	g, ok := f.view.known(id)
	if !ok {
		return ""
	}
	return g.Name
}

// FormerDevices returns the devices that are members no more and had this name: what they published stays, and may be that of a key which the device of this name
// had before its present one.
func (f *Fleet) FormerDevices(name string) []Grant {
	var out []Grant
	for id, r := range f.view.members {
		if _, is := f.Member(id); !is && r.grant != nil && r.grant.Name == name && r.grant.Roles&Device != 0 {
			out = append(out, *r.grant)
		}
	}
	slices.SortFunc(out, func(a, b Grant) int { return a.Member.Compare(b.Member) })
	return out
}

// Readers returns those for whom the epoch keys of a device's stream are wrapped: the recovery key first, then each member with
// a reader key and the right.
func (f *Fleet) Readers(device edge.ID, stream string) ([]journal.Reader, error) {
	keys := [][]byte{f.state.Recovery}
	for _, g := range f.Members() {
		if len(g.Reader) > 0 && f.May(g.Member, Read, device, stream) {
			keys = append(keys, g.Reader)
		}
	}
	readers := make([]journal.Reader, 0, len(keys))
	for _, k := range keys {
		r, err := journal.NewReader(k)
		if err != nil {
			return nil, fmt.Errorf("fleet: readers of %s: %w", stream, err)
		}
		readers = append(readers, r)
	}
	return readers, nil
}
