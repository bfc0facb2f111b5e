// SPDX-License-Identifier: Apache-2.0

package chunks

import (
	"encoding/hex"
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

	"github.com/streembit/edge/ota"
)

// The files of a program in the folder of a store.
const (
	listFile = ".list"
	dataFile = ".program"
)

// Store is a folder of programs, complete or not. Safe for concurrent use, by one process. Close it.
type Store struct {
	dir   string
	quota int64

	mu    sync.Mutex
	files map[Hash]*File
}

// Open takes a folder, which is made if it is not there. quota bounds the bytes of the programs in it, as they are when complete.
func Open(dir string, quota int64) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("chunks: opening folder of programs: %w", err)
	}
	return &Store{dir: dir, quota: quota, files: map[Hash]*File{}}, nil
}

// Close closes all programs.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for tree, f := range s.files {
		errs = append(errs, f.Close())
		delete(s.files, tree)
	}
	return errors.Join(errs...)
}

// Get returns a program that was begun since Open. The error wraps ErrNotKnown.
func (s *Store) Get(tree Hash) (*File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[tree]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("chunks: program %x: %w", tree[:4], ErrNotKnown)
}

// Begin returns the program of that tree and size with what is here of it: after a restart each chunk is proven anew. The error wraps ErrQuota if it does not
// fit beside the others.
func (s *Store) Begin(tree Hash, size int64) (*File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[tree]; f != nil {
		if f.size != size {
			return nil, fmt.Errorf("chunks: program %x of %d bytes, known with %d: %w", tree[:4], size, f.size, ErrWrong)
		}
		return f, nil
	}
	if size < 1 || size > ota.MaxProgram {
		return nil, fmt.Errorf("chunks: program of %d bytes: want 1 to %d: %w", size, ota.MaxProgram, ErrWrong)
	}
	used := size
	for _, f := range s.files {
		used += f.size
	}
	if used > s.quota {
		return nil, fmt.Errorf("chunks: program of %d bytes beside %d others, %d allowed: %w", size, len(s.files), s.quota, ErrQuota)
	}
	f, err := s.open(tree, size)
	if err != nil {
		return nil, err
	}
	s.files[tree] = f
	return f, nil
}

func (s *Store) open(tree Hash, size int64) (*File, error) {
	name := filepath.Join(s.dir, hex.EncodeToString(tree[:]))
	data, err := os.OpenFile(name+dataFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("chunks: opening program: %w", err)
	}
	f := &File{tree: tree, size: size, path: name + dataFile, list: name + listFile, data: data}
	err = f.load()
	if info, serr := data.Stat(); err == nil && serr == nil && info.Size() > size {
		err = data.Truncate(size)
	}
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return f, nil
}

// Keep removes every program but those, begun or left by an earlier run.
func (s *Store) Keep(trees ...Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, tree := range slices.Collect(maps.Keys(s.files)) {
		if !slices.Contains(trees, tree) {
			errs = append(errs, s.files[tree].Close())
			delete(s.files, tree)
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("chunks: listing programs: %w", err))...)
	}
	for _, e := range entries {
		name := e.Name()
		stem := strings.TrimSuffix(strings.TrimSuffix(name, listFile), dataFile)
		raw, err := hex.DecodeString(stem)
		if err != nil || len(raw) != len(Hash{}) || stem == name { // of a write that a power cut ended, or not ours
			if !strings.HasPrefix(name, tempPrefix) {
				continue
			}
		} else if slices.Contains(trees, Hash(raw)) {
			continue
		}
		errs = append(errs, os.Remove(filepath.Join(s.dir, name)))
	}
	return errors.Join(errs...)
}

// Used returns the bytes that the programs take when complete, and the quota.
func (s *Store) Used() (used, quota int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		used += f.size
	}
	return used, s.quota
}

const tempPrefix = ".new-"

// replaceFile replaces a small file as a whole or not at all.
func replaceFile(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, werr := tmp.Write(data)
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// readBounded reads a file that may be missing; one that is longer than it may be is as good as none.
func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("chunks: opening list: %w", err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("chunks: reading list: %w", err)
	}
	return raw, nil
}
