// SPDX-License-Identifier: Apache-2.0

package records

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/streembit/edge/fleet"
)

// Bounds of a shelf. Of the versions of one TUF role the newest stay, of roots all: who was off for years goes from one to the next.
const (
	keptVersions = 8
	maxRoots     = 256
	maxChannels  = 64
	maxMemory    = 1 << 16 // records in all; progress is one of a member
)

// Shelf keeps the newest record under each key, and refuses older ones. A hub's lies on disk; that of others, which only remembers what it has seen, in memory.
// Safe for concurrent use.
type Shelf struct {
	dir   string
	fleet func() *fleet.Fleet

	mu  sync.Mutex
	all map[string]Record
}

// OpenShelf takes a folder, which is made if it is not there, or with "" only memory. What cannot be proven any more is left out and, if it is damaged, removed.
func OpenShelf(dir string, f func() *fleet.Fleet) (*Shelf, error) {
	s := &Shelf{dir: dir, fleet: f, all: map[string]Record{}}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("records: opening folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("records: opening folder: %w", err)
	}
	for _, e := range entries {
		space, name, ok := strings.Cut(e.Name(), "-")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		raw, err := readFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		key := Key(space, name)
		if r, err := Open(f(), key, raw); err == nil {
			s.all[key] = r
		} else if !errors.Is(err, fleet.ErrNotAllowed) { // who may not now may be allowed again
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return s, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("records: reading: %w", err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, MaxMetadata+overhead+1))
	if err != nil {
		return nil, fmt.Errorf("records: reading: %w", err)
	}
	return raw, nil
}

func fileOf(key string) string { return strings.Replace(strings.TrimPrefix(key, "/"), "/", "-", 1) }

// Put proves a record and keeps it if it is the newest. fresh says that it was not known. The error wraps ErrOlder for one that is older than what is known, unless
// the signer of that has lost its right meanwhile.
func (s *Shelf) Put(key string, raw []byte) (r Record, fresh bool, err error) {
	f := s.fleet()
	if r, err = Open(f, key, raw); err != nil {
		return r, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, is := s.all[key]
	if is && bytes.Equal(known.Raw, raw) {
		return r, false, nil
	}
	if p, _ := parse(key); is && p.may(f, known.Signer) && known.Supersedes(r) {
		return r, false, fmt.Errorf("records: %s, version %d after %d: %w", key, r.Version, known.Version, ErrOlder)
	}
	r.Raw = bytes.Clone(raw)
	r.Body = bytes.Clone(r.Body)
	if s.dir != "" {
		if err := fleet.WriteFile(filepath.Join(s.dir, fileOf(key)), raw, 0o600); err != nil {
			return r, false, err
		}
	}
	s.all[key] = r
	s.trim(key)
	_, kept := s.all[key]
	return r, kept, nil
}

// trim keeps the shelf within its bounds. The caller holds mu.
func (s *Shelf) trim(key string) {
	p, _ := parse(key)
	role, limit := "", 0
	switch {
	case p.space == Rollout:
		limit = maxChannels
	case strings.HasSuffix(p.name, ".root.json"):
		role, limit = ".root.json", maxRoots
	case p.space == Metadata && p.version != 0:
		role, limit = p.name[strings.Index(p.name, "."):], keptVersions
	case s.dir == "":
		limit = maxMemory
	default:
		return
	}
	var same []Record
	for k, r := range s.all {
		if strings.HasPrefix(k, "/"+p.space+"/") && strings.HasSuffix(k, role) {
			same = append(same, r)
		}
	}
	if len(same) <= limit {
		return
	}
	slices.SortFunc(same, func(a, b Record) int { return cmp.Compare(b.Version, a.Version) })
	for _, r := range same[limit:] {
		s.remove(r.Key)
	}
}

func (s *Shelf) remove(key string) {
	delete(s.all, key)
	if s.dir != "" {
		if err := os.Remove(filepath.Join(s.dir, fileOf(key))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return // it is left out at the next start as well, if it does not count then
		}
	}
}

// Get returns the newest record under a key, if its signer still may sign it.
func (s *Shelf) Get(key string) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.all[key]
	if p, err := parse(key); err != nil || !ok || !p.may(s.fleet(), r.Signer) {
		return Record{}, false
	}
	return r, true
}

// All returns the records of a space that count, in the order of their keys. Their bytes must not be changed.
func (s *Shelf) All(space string) (out []Record) {
	f := s.fleet()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.all)) {
		if p, err := parse(key); err == nil && p.space == space && p.may(f, s.all[key].Signer) {
			out = append(out, s.all[key])
		}
	}
	return out
}
