// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Entry is one line of a fleet log: exactly one of the four is set. On the wire it has three places, and a fourth only for a retention, so that
// logs from before there were retentions stay what they were.
type Entry struct {
	Grant  *Grant
	Revoke *Revocation
	Policy *Policy
	Retain *Retention
}

// Grant gives a member its roles and rights. Of several for one member the one with the highest Serial counts whose signer had the right to enrol
// what the member was before, too; a revocation of the same Serial beats it.
type Grant struct {
	_       struct{} `cbor:",toarray"`
	Member  edge.ID
	Serial  uint64   // counts what was said of this member, from 1
	Name    string   // for people and selectors: [a-z0-9][a-z0-9._-]*
	Roles   Role     //
	Site    string   // label; for hubs see Bootstrap
	Addrs   []string // multiaddrs of a hub without the /p2p part; may be empty, the DHT finds it
	Labels  []string // "key=value", for selectors
	Reader  []byte   // public reader key of a collector, or of a hub that carries out policies
	Rights  []Right  // what the member may do beyond its roles; none = nothing
	Expires int64    // ms since 1970 UTC; 0 = never
	Token   TokenID  // the policy under which it enrolled; zero = a person decided
}

// Revocation takes everything from a member. What it signed up to Last stays valid and repairable; of its chains that are not in Last nothing
// is accepted any more. A later Grant brings the member back, but its chains in Last stay cut.
type Revocation struct {
	_      struct{} `cbor:",toarray"`
	Member edge.ID
	Serial uint64
	Last   []Cut
	Reason string // for people
}

// Cut is the last segment of a chain that counts.
type Cut struct {
	_           struct{} `cbor:",toarray"`
	Stream      string
	Incarnation journal.Incarnation
	Seq         uint64
	Hash        journal.Hash
}

// TokenID names a claim token and the policy of those who use it.
type TokenID [16]byte

// Policy lets its Executor grant devices without a person, as many as it says, to those that prove a claim token. The operator that signs it
// may name itself. The same policy again with an earlier Expires ends it, whoever could have signed it first; nothing else changes one.
type Policy struct {
	_        struct{} `cbor:",toarray"`
	ID       TokenID
	Executor edge.ID // whose fleet chain the grants under this policy stand in
	Roles    Role    // exactly these; Device as a rule
	Site     string
	Labels   []string
	Uses     uint32 // grants that count; later ones do not
	Expires  int64  // ms since 1970 UTC; grants of segments stamped later do not count
	Sealed   []byte // the token's secret, sealed to the executor's reader key (package enroll); empty if it has it already
}

// Bounds of one entry.
const (
	maxAddrs  = 16
	maxAddr   = 256
	maxLabel  = 64
	maxLabels = 16
	maxRights = 16
	maxWords  = 16
	maxCuts   = 256
	maxReason = 200
	maxSealed = 2048
	maxUses   = 100_000
)

// check is the rule for entries, both when they are made and when they are read.
func (e Entry) check() error {
	set := 0
	for _, there := range []bool{e.Grant != nil, e.Revoke != nil, e.Policy != nil, e.Retain != nil} {
		if there {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf("fleet: entry with %d contents instead of one: %w", set, ErrBadGrant)
	case e.Grant != nil:
		return e.Grant.check()
	case e.Revoke != nil:
		return e.Revoke.check()
	case e.Retain != nil:
		return e.Retain.check()
	}
	return e.Policy.check()
}

func (g *Grant) check() error {
	switch {
	case journal.WeakKey(g.Member):
		return fmt.Errorf("fleet: grant for %q: its key is missing or weak, anybody could use it: %w", g.Name, ErrBadGrant)
	case g.Serial == 0:
		return fmt.Errorf("fleet: grant for %s: serial 0: %w", g.Member, ErrBadGrant)
	case g.Roles == 0 || g.Roles > Device|Hub|Collector|Operator:
		return fmt.Errorf("fleet: grant for %s: no role: %w", g.Member, ErrBadGrant)
	case !journal.ValidStream(g.Name):
		return fmt.Errorf("fleet: grant for %s: name %q: want 1 to 32 of a-z 0-9 . _ -: %w", g.Member, g.Name, ErrBadGrant)
	case g.Roles&Collector != 0 && len(g.Reader) == 0:
		return fmt.Errorf("fleet: grant for %s: a collector needs its reader key: %w", g.Name, ErrBadGrant)
	case g.Expires < 0:
		return fmt.Errorf("fleet: grant for %s: it expires before 1970: %w", g.Name, ErrBadGrant)
	}
	err := errors.Join(checkPlace(g.Site, g.Addrs), checkLabels(g.Labels, g.Site), checkRights(g.Rights))
	if len(g.Reader) > 0 {
		_, rerr := journal.NewReader(g.Reader)
		err = errors.Join(err, rerr)
	}
	if err != nil {
		return fmt.Errorf("fleet: grant for %s: %w: %w", g.Name, err, ErrBadGrant)
	}
	return nil
}

func (r *Revocation) check() error {
	err := error(nil)
	switch {
	case journal.WeakKey(r.Member):
		err = errors.New("its key is missing or weak")
	case r.Serial == 0:
		err = errors.New("serial 0")
	case len(r.Last) > maxCuts:
		err = fmt.Errorf("%d chains: want at most %d", len(r.Last), maxCuts)
	case len(r.Reason) > maxReason || !printable(r.Reason):
		err = fmt.Errorf("reason: want at most %d bytes of printable text", maxReason)
	}
	for _, c := range r.Last {
		if !journal.ValidStream(c.Stream) {
			err = errors.Join(err, fmt.Errorf("stream %q", c.Stream))
		}
	}
	if err != nil {
		return fmt.Errorf("fleet: revocation of %s: %w: %w", r.Member, err, ErrBadGrant)
	}
	return nil
}

func (p *Policy) check() error {
	err := errors.Join(checkPlace(p.Site, nil), checkLabels(p.Labels, p.Site))
	switch {
	case p.ID == TokenID{}:
		err = errors.New("no id")
	case journal.WeakKey(p.Executor):
		err = errors.New("the executor's key is missing or weak")
	case p.Roles == 0 || p.Roles&^(Device|Hub) != 0:
		err = fmt.Errorf("roles %s: a token makes devices or hubs only", p.Roles)
	case p.Uses == 0 || p.Uses > maxUses:
		err = fmt.Errorf("%d uses: want 1 to %d", p.Uses, maxUses)
	case p.Expires <= 0:
		err = errors.New("it never expires: give it a date")
	case len(p.Sealed) > maxSealed:
		err = fmt.Errorf("sealed secret of %d bytes", len(p.Sealed))
	}
	if err != nil {
		return fmt.Errorf("fleet: policy of a claim token: %w: %w", err, ErrBadGrant)
	}
	return nil
}

// checkLabels wants "key=value", sorted, each key once, so that one set of labels has one form. A label "site=…" says what the site says, or rights over one
// site would let in a hub that counts for another.
func checkLabels(labels []string, site string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels: want at most %d", len(labels), maxLabels)
	}
	last := ""
	for i, l := range labels {
		key, value, ok := strings.Cut(l, "=")
		switch {
		case !ok || !journal.ValidStream(key) || value == "" || len(l) > maxLabel || !printable(value):
			return fmt.Errorf("label %.80q: want key=value, at most %d bytes", l, maxLabel)
		case i > 0 && key <= last:
			return fmt.Errorf("label %q: labels are in the order of their keys, each key once", l)
		case key == "site" && site != "" && value != site:
			return fmt.Errorf("label %q: its site is %q", l, site)
		}
		last = key
	}
	return nil
}

// SortLabels brings labels into their one order, for those who make entries. A key that is there twice stays, and is refused later.
func SortLabels(labels []string) []string {
	out := slices.Clone(labels)
	slices.SortFunc(out, func(a, b string) int {
		ka, _, _ := strings.Cut(a, "=")
		kb, _, _ := strings.Cut(b, "=")
		return strings.Compare(ka, kb)
	})
	return out
}
