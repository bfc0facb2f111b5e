// SPDX-License-Identifier: Apache-2.0

// Package fleet says who may do what: the owner-signed fleet state, the operator-signed fleet log of grants, and the
// view that both together prove. It knows no network and does no I/O but for the files of keys.go and file.go.
//
// Start with Open, which turns a bundle into a Fleet; Owner makes bundles.
package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Errors of the package; test with errors.Is.
var (
	ErrNotOwner   = errors.New("not signed by an owner of the fleet")
	ErrWrongFleet = errors.New("is of another fleet")
	ErrRollback   = errors.New("is older than what is already known")
	ErrFork       = errors.New("contradicts what is already known: an owner signed two histories")
	ErrTooLarge   = errors.New("larger than it may be")
	ErrBadState   = errors.New("fleet state is not valid")
	ErrBadGrant   = errors.New("grant is not valid")
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

// Grant gives a member its roles. A later grant for the same member replaces the earlier one.
type Grant struct {
	_       struct{} `cbor:",toarray"`
	Member  edge.ID
	Name    string   // for people and selectors: [a-z0-9][a-z0-9._-]*
	Roles   Role     //
	Site    string   // label; for hubs see Bootstrap
	Addrs   []string // multiaddrs of a hub without the /p2p part; may be empty, the DHT finds it
	Reader  []byte   // public reader key of a collector
	Streams []string // streams that a collector may read; empty = all
}

// Fleet is what a proven bundle says. It is immutable and safe for concurrent use.
type Fleet struct {
	id      journal.FleetID
	state   State
	log     journal.Link
	members map[edge.ID]Grant
	bundle  Bundle
}

// ID names the fleet.
func (f *Fleet) ID() journal.FleetID { return f.id }

// State returns the proven state. The caller must not change what it points to.
func (f *Fleet) State() State { return f.state }

// Member returns a member's grant.
func (f *Fleet) Member(id edge.ID) (Grant, bool) {
	g, ok := f.members[id]
	return g, ok
}

// IsMember reports whether id has any role, owners included: they are the first operators.
func (f *Fleet) IsMember(id edge.ID) bool {
	_, ok := f.members[id]
	return ok || f.isOwner(id)
}

// Is reports whether the member has all the roles.
func (f *Fleet) Is(id edge.ID, r Role) bool {
	if f.isOwner(id) && r == Operator {
		return true
	}
	g, ok := f.members[id]
	return ok && g.Roles&r == r
}

func (f *Fleet) isOwner(id edge.ID) bool { return slices.Contains(f.state.Owners[:], id) }

// Members returns all grants, by name.
func (f *Fleet) Members() []Grant {
	out := make([]Grant, 0, len(f.members))
	for _, g := range f.members {
		out = append(out, g)
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

// Readers returns those for whom a stream's epoch keys are wrapped: the recovery key first, then each collector with
// the right.
func (f *Fleet) Readers(stream string) ([]journal.Reader, error) {
	keys := [][]byte{f.state.Recovery}
	for _, g := range f.With(Collector) {
		if len(g.Streams) == 0 || slices.Contains(g.Streams, stream) {
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
