// SPDX-License-Identifier: Apache-2.0

// Package records is the small signed records by which an update is steered: TUF metadata files, rollouts, and how far devices are. They travel as values of the
// fleet's DHT and lie at every hub.
package records

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// The spaces of keys. What follows the space in a key is a file of TUF ("timestamp.json", "3.targets.json"), a channel, and a device's id.
const (
	Metadata = "tuf"
	Rollout  = "rollout"
	Progress = "progress"
)

// Spaces lists them.
func Spaces() []string { return []string{Metadata, Rollout, Progress} }

// TypeRecord is the content type of a record.
const TypeRecord = "application/vnd.streembit.update+cbor"

// The largest bodies, in bytes. An answer of the DHT must hold a record (transport/p2p's maxAnswer).
const (
	MaxMetadata = 128 << 10
	MaxRollout  = 8 << 10
	MaxProgress = 1 << 10
	overhead    = 512
)

// Errors that are wrapped.
var (
	ErrBadRecord = errors.New("not a record of updates")
	ErrOlder     = errors.New("a newer one is known")
	ErrNone      = errors.New("no hub has it") // by those who ask for one
)

// Record is a proven record.
type Record struct {
	Key     string
	Signer  edge.ID
	Version uint64 // the highest counts, and of two with one version the lower hash
	Body    []byte
	Raw     []byte // as it was signed
}

// payload is what is signed.
type payload struct {
	_       struct{} `cbor:",toarray"`
	Fleet   journal.FleetID
	Key     string
	Signer  edge.ID
	Version uint64
	Body    []byte
}

// Key returns the key of a name in a space.
func Key(space, name string) string { return "/" + space + "/" + name }

var metadataName = regexp.MustCompile(`^(?:([1-9][0-9]{0,8})\.(?:root|snapshot|targets)|timestamp)\.json$`)

// place is what a key means.
type place struct {
	space, name string
	limit       int
	version     uint64  // that the record must have; 0 = any
	device      edge.ID // of Progress
}

func parse(key string) (p place, err error) {
	wrong := fmt.Errorf("records: key %.80q: %w", key, ErrBadRecord)
	rest, slash := strings.CutPrefix(key, "/")
	var ok bool
	if p.space, p.name, ok = strings.Cut(rest, "/"); !ok || !slash {
		return p, wrong
	}
	switch p.space {
	case Metadata:
		m := metadataName.FindStringSubmatch(p.name)
		if m == nil {
			return p, wrong
		}
		p.limit = MaxMetadata
		if m[1] != "" {
			p.version, err = strconv.ParseUint(m[1], 10, 64)
		}
		return p, err
	case Rollout:
		p.limit = MaxRollout
		if !journal.ValidStream(p.name) {
			return p, wrong
		}
		return p, nil
	case Progress:
		p.limit = MaxProgress
		p.device, err = edge.ParseID(p.name)
		if err != nil || p.device.String() != p.name {
			return p, wrong
		}
		return p, nil
	}
	return p, wrong
}

// may reports whether the fleet lets that member sign what the key names.
func (p place) may(f *fleet.Fleet, signer edge.ID) bool {
	switch p.space {
	case Metadata: // what TUF's own keys sign; the right only says who may put it there
		return f.MaySome(signer, fleet.Update, "")
	case Rollout:
		return f.MaySome(signer, fleet.Update, p.name)
	default:
		return signer == p.device && (f.Is(signer, fleet.Device) || f.Is(signer, fleet.Hub))
	}
}

// Sign makes a record. version counts from 1; that of a TUF file is the file's own.
func Sign(s journal.Signer, f journal.FleetID, key string, version uint64, body []byte) ([]byte, error) {
	p, err := parse(key)
	if err != nil {
		return nil, err
	}
	if len(body) > p.limit || version == 0 || p.version != 0 && p.version != version {
		return nil, fmt.Errorf("records: signing %s, version %d, %d bytes of at most %d: %w", key, version, len(body), p.limit, ErrBadRecord)
	}
	enc, err := journal.Encode(payload{Fleet: f, Key: key, Signer: s.ID(), Version: version, Body: body})
	if err != nil {
		return nil, err
	}
	return journal.SignRecord(s, TypeRecord, enc)
}

// Open proves a record: it is this fleet's, stands under its own key, has a size that it may have, and is signed by a member that may sign it now. An error wraps
// ErrBadRecord, fleet.ErrNotAllowed, or one of package journal.
func Open(f *fleet.Fleet, key string, raw []byte) (Record, error) {
	fail := func(err error) (Record, error) { return Record{}, fmt.Errorf("records: opening %.80q: %w", key, err) }
	p, err := parse(key)
	if err != nil {
		return fail(err)
	}
	if len(raw) > p.limit+overhead {
		return fail(fmt.Errorf("%d bytes: %w", len(raw), journal.ErrOversize))
	}
	enc, err := journal.PeekRecord(raw)
	if err != nil {
		return fail(err)
	}
	var claim payload
	if err := journal.Decode(enc, &claim); err != nil {
		return fail(err)
	}
	switch {
	case claim.Key != key || claim.Fleet != f.ID() || claim.Version == 0 || p.version != 0 && claim.Version != p.version || len(claim.Body) > p.limit:
		return fail(fmt.Errorf("it says it is %.80q, version %d, %d bytes: %w", claim.Key, claim.Version, len(claim.Body), ErrBadRecord))
	case !p.may(f, claim.Signer):
		return fail(fmt.Errorf("signed by %s: %w", claim.Signer.Short(), fleet.ErrNotAllowed))
	}
	if _, err := journal.OpenRecord(claim.Signer, TypeRecord, raw); err != nil {
		return fail(err)
	}
	return Record{Key: key, Signer: claim.Signer, Version: claim.Version, Body: claim.Body, Raw: raw}, nil
}

// Supersedes reports whether r counts and o does not.
func (r Record) Supersedes(o Record) bool {
	if r.Version != o.Version {
		return r.Version > o.Version
	}
	a, b := sha256.Sum256(r.Raw), sha256.Sum256(o.Raw)
	return bytes.Compare(a[:], b[:]) < 0
}

// Select returns the index of the record that counts among those under one key, and -1 if none is valid.
func Select(f *fleet.Fleet, key string, values [][]byte) int {
	best, found := Record{}, -1
	for i, v := range values {
		r, err := Open(f, key, v)
		if err == nil && (found < 0 || r.Supersedes(best)) {
			best, found = r, i
		}
	}
	return found
}
