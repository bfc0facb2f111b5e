// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/streembit/edge/journal/wal"
)

// sector is what a disk writes wholly or not at all.
const sector = 512

// blocks stands below a log and remembers what a disk would have after a power cut: all that was synced, and of the rest any sectors, in any order,
// with any length of the file in between. It needs no root and reorders more than ext4 does; of directories it knows nothing.
type blocks struct {
	lax bool // fsync does nothing

	mu    sync.Mutex
	files map[string]*blockFile
}

// blockFile is one file: as it was synced last, and what was written since.
type blockFile struct {
	wal.File
	all    *blocks
	synced []byte
	sparse map[int64]bool // sectors written since
}

func newBlocks(lax bool) *blocks { return &blocks{lax: lax, files: map[string]*blockFile{}} }

// wrap is for wal.Options.
func (b *blocks) wrap(f wal.File) wal.File {
	name := f.(interface{ Name() string }).Name()
	b.mu.Lock()
	defer b.mu.Unlock()
	now, err := os.ReadFile(name)
	if err != nil {
		now = nil // it is being made
	}
	w := &blockFile{File: f, all: b, synced: now, sparse: map[int64]bool{}}
	b.files[name] = w
	return w
}

func (f *blockFile) WriteAt(p []byte, off int64) (int, error) {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	for at := off / sector; at*sector < off+int64(len(p)); at++ {
		f.sparse[at] = true
	}
	return f.File.WriteAt(p, off)
}

func (f *blockFile) Truncate(size int64) error {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	f.sparse[size/sector] = true
	return f.File.Truncate(size)
}

// Sync needs no real one: only cut looks at what is left.
func (f *blockFile) Sync() error {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	if f.all.lax {
		return nil
	}
	now, err := os.ReadFile(f.File.(interface{ Name() string }).Name())
	f.synced, f.sparse = now, map[int64]bool{}
	return err
}

// cut writes to a folder what the disk would have of another one. Nothing is written or synced meanwhile; then is called before that ends.
func (b *blocks) cut(t testing.TB, rng *rand.Rand, from, to string, then func()) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	defer then()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(at, 0o700)
		}
		data, err := os.ReadFile(path)
		if f := b.files[path]; f != nil && err == nil {
			data = f.left(rng, data)
		}
		if err != nil {
			return err
		}
		return os.WriteFile(at, data, 0o600)
	})
	check(t, err)
}

// left returns what is left of a file that has now as its content.
func (f *blockFile) left(rng *rand.Rand, now []byte) []byte {
	size := len(f.synced)
	switch rng.IntN(3) {
	case 0:
		size = len(now)
	case 1:
		size = min(size, len(now)) + rng.IntN(max(size, len(now))-min(size, len(now))+1)
	}
	out := make([]byte, size)
	copy(out, f.synced)
	for _, at := range slices.Sorted(maps.Keys(f.sparse)) { // sorted, so that a seed repeats it
		if first := int(at * sector); first < len(now) && first < size && rng.IntN(2) == 0 {
			copy(out[first:], now[first:min(first+sector, len(now))])
		}
	}
	return out
}
