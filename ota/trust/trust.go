// SPDX-License-Identifier: Apache-2.0

// Package trust decides which programs a device may install: it proves TUF metadata (The Update Framework 1.0.31) from a pinned root on,
// keeps what it has accepted in a folder that survives power cuts, and says which programs the proven targets name.
//
// Start with Open. go-tuf's trustedmetadata does the checks of the TUF client workflow; its updater is not used, because it renames files
// without fsync and knows no clock that is wrong (docs/decisions/0041). Delegations are off.
package trust

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"
)

// Errors of the package; test with errors.Is.
var (
	ErrNotFound   = errors.New("nobody has it")
	ErrExpired    = errors.New("the update metadata has expired: no new update until an operator signs it again")
	ErrNone       = errors.New("no update metadata has been proven yet")
	ErrUnsigned   = errors.New("not signed by enough of the keys that the trusted root names")
	ErrRollback   = errors.New("its version is not the one that is due")
	ErrMismatch   = errors.New("not what the signed metadata describe")
	ErrMalformed  = errors.New("not well-formed")
	ErrTooLarge   = errors.New("larger than it may be")
	ErrDelegation = errors.New("it delegates to other keys, which is not allowed here")
	ErrDamaged    = errors.New("the folder of trusted metadata was damaged, it begins anew from the pinned root")
)

// Limits of what is read, in bytes, and of roots that one Refresh follows.
const (
	MaxRoot      = 64 << 10
	MaxTimestamp = 16 << 10
	MaxSnapshot  = 16 << 10
	MaxTargets   = 1 << 20
	maxRoots     = 256
)

// Names of the metadata that have no version in their name, and of the others with their version.
const timestampName = "timestamp.json"

func rootName(version int64) string     { return fmt.Sprintf("%d.root.json", version) }
func snapshotName(version int64) string { return fmt.Sprintf("%d.snapshot.json", version) }
func targetsName(version int64) string  { return fmt.Sprintf("%d.targets.json", version) }

var metadataName = regexp.MustCompile(`^(timestamp|[1-9][0-9]{0,17}\.(root|snapshot|targets))\.json$`)

// ValidName reports whether name is that of a metadata file: "timestamp.json", "3.root.json", "7.snapshot.json", "7.targets.json".
func ValidName(name string) bool { return metadataName.MatchString(name) }

// MaxSize returns how many bytes the metadata file of that name may have; 0 for what ValidName refuses.
func MaxSize(name string) int64 {
	m := metadataName.FindStringSubmatch(name)
	switch {
	case m == nil:
		return 0
	case m[1] == "timestamp":
		return MaxTimestamp
	}
	return map[string]int64{"root": MaxRoot, "snapshot": MaxSnapshot, "targets": MaxTargets}[m[2]]
}

// Fetcher gets metadata by name. Nothing that it returns is trusted.
type Fetcher interface {
	// Fetch returns the file. The error wraps ErrNotFound when nobody has it, and ErrTooLarge when it has more than limit bytes; other errors
	// mean that it is not known whether there is one.
	Fetch(ctx context.Context, name string, limit int64) ([]byte, error)
}

// Store is a folder of trusted metadata. It is safe for concurrent use; only one Store may use a folder at a time.
type Store struct {
	dir string
	now func() (time.Time, bool)

	mu      sync.Mutex
	held    held
	damaged error
	least   time.Time // see NotBefore
}

// Open reads the folder, or begins one. root is the pinned root metadata, the first link of the chain. now tells the time and whether the
// clock is right; a clock that is not is never asked, and time is judged by what was signed (see Store.Time). A damaged folder is begun
// anew, see Damaged. The error wraps ErrMalformed or ErrUnsigned when root is no root.
func Open(dir string, root []byte, now func() (time.Time, bool)) (*Store, error) {
	s := &Store{dir: dir, now: now}
	_, err := newChain([][]byte{root})
	if err != nil {
		return nil, fmt.Errorf("ota/trust: opening with pinned root: %w", err)
	}
	s.held, err = loadHeld(dir)
	switch {
	case errors.Is(err, ErrDamaged):
		s.damaged, s.held = err, held{}
	case err != nil:
		return nil, err
	}
	s.held.begin(root)
	if _, err := s.held.prove(); err != nil { // what was written was proven: this is damage, or another version of this program
		s.damaged, s.held = fmt.Errorf("ota/trust: %w: %w", ErrDamaged, err), held{Roots: [][]byte{root}}
	}
	return s, nil
}

// Damaged returns what was wrong with the folder when it was opened, nil if nothing: what it knew about older versions is lost then, and an
// operator wants to know. It wraps ErrDamaged.
func (s *Store) Damaged() error { return s.damaged }

// NotBefore says that the time is at least t: when the running program was built, or the time that an owner signed into the fleet's state.
// The last call counts, so that an owner may lower it. It is not kept on disk.
func (s *Store) NotBefore(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.least = t
}

// Time returns the time by which expiry is judged: at least what NotBefore said and what the trusted timestamp says about when it was
// signed, and the clock's where it is right and shows more. Nothing unsigned ever raises what is kept.
func (s *Store) Time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.time()
}

func (s *Store) time() time.Time {
	at := s.least
	if signed := s.held.signedAt(s.now); signed.After(at) {
		at = signed
	}
	if now, right := s.now(); right && now.After(at) {
		at = now
	}
	return at
}

// Expires returns when the first of the proven metadata expires; zero if there are none.
func (s *Store) Expires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.held.prove()
	if err != nil || p == nil {
		return time.Time{}
	}
	return p.expires
}

// Files returns the metadata that prove what Artifacts returns, by their names, the root chain from the pinned one on included: what
// another Store with the same pinned root needs. The error wraps ErrNone.
func (s *Store) Files() (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.held.prove()
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("ota/trust: %w", ErrNone)
	}
	files := map[string][]byte{
		timestampName:                           s.held.Proven.Timestamp,
		snapshotName(p.snapshot.Signed.Version): s.held.Proven.Snapshot,
		targetsName(p.targets.Signed.Version):   s.held.Proven.Targets,
		rootName(p.root.Signed.Version):         s.held.Roots[len(s.held.Roots)-1],
	}
	first := p.root.Signed.Version - int64(len(s.held.Roots)) + 1
	for i, root := range s.held.Roots {
		files[rootName(first+int64(i))] = root
	}
	return files, nil
}
