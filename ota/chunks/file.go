// SPDX-License-Identifier: Apache-2.0

package chunks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// File is a program of which some chunks are here, perhaps all. Safe for concurrent use.
type File struct {
	tree Hash
	size int64
	path string
	list string // file of the list; "" = the program is another's, which is only read
	data *os.File

	mu     sync.Mutex
	hashes List // nil = not yet known
	have   Bitmap
	count  int // of have
}

// Share offers a complete program that lies in a file of somebody else: it is read and never changed. Close it.
func Share(path string) (*File, error) {
	data, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("chunks: sharing program: %w", err)
	}
	list, size, err := ListOf(data)
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	f := &File{tree: list.Tree(), size: size, path: path, data: data, hashes: list, have: NewBitmap(len(list)), count: len(list)}
	for i := range list {
		f.have.Set(i)
	}
	return f, nil
}

// Close frees the file; what it holds stays on disk.
func (f *File) Close() error { return f.data.Close() }

// Tree names the program.
func (f *File) Tree() Hash { return f.tree }

// Size returns the bytes of the whole program.
func (f *File) Size() int64 { return f.size }

// Path returns where the program lies once it is complete.
func (f *File) Path() string { return f.path }

// Have returns a copy of what is here, and how many chunks that are.
func (f *File) Have() (Bitmap, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(Bitmap(nil), f.have...), f.count
}

// Complete reports whether all chunks are here.
func (f *File) Complete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count == Count(f.size)
}

// List returns the hashes. The error wraps ErrNoList.
func (f *File) List() (List, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hashes == nil {
		return nil, fmt.Errorf("chunks: program %x: %w", f.tree[:4], ErrNoList)
	}
	return f.hashes, nil
}

// SetList proves the list and keeps it. The error wraps ErrWrong for a wrong one; a second one changes nothing.
func (f *File) SetList(raw []byte) error {
	l, err := ParseList(raw, f.tree, f.size)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hashes != nil {
		return nil
	}
	if err := replaceFile(f.list, raw); err != nil {
		return fmt.Errorf("chunks: keeping list: %w", err)
	}
	f.hashes = l
	return nil
}

// Put proves a chunk and writes it. The error wraps ErrWrong for bytes that are not it, and ErrNoList. What is written is on disk for certain only after Sync;
// after a power cut it counts only if it still has its hash.
func (f *File) Put(i int, chunk []byte) error {
	l, err := f.List()
	if err != nil {
		return err
	}
	if i < 0 || i >= len(l) || len(chunk) != Len(f.size, i) || sha256.Sum256(chunk) != l[i] {
		return fmt.Errorf("chunks: chunk %d of %x, %d bytes: %w", i, f.tree[:4], len(chunk), ErrWrong)
	}
	if _, err := f.data.WriteAt(chunk, int64(i)*Size); err != nil {
		return fmt.Errorf("chunks: keeping chunk %d: %w", i, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.have.Has(i) {
		f.have.Set(i)
		f.count++
	}
	return nil
}

// Chunk reads a chunk into buf, which has room for Size bytes, and proves it once more: a disk may err. The error wraps ErrMissing.
func (f *File) Chunk(i int, buf []byte) ([]byte, error) {
	f.mu.Lock()
	there := f.have.Has(i)
	f.mu.Unlock()
	if !there {
		return nil, fmt.Errorf("chunks: chunk %d of %x: %w", i, f.tree[:4], ErrMissing)
	}
	return f.read(i, buf)
}

func (f *File) read(i int, buf []byte) ([]byte, error) {
	buf = buf[:Len(f.size, i)]
	_, err := f.data.ReadAt(buf, int64(i)*Size)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("chunks: reading chunk %d: %w", i, err)
	}
	if err != nil || sha256.Sum256(buf) != f.hashes[i] {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.have.Has(i) && f.list != "" {
			f.have.Clear(i)
			f.count--
		}
		return nil, fmt.Errorf("chunks: chunk %d of %x is damaged on disk: %w", i, f.tree[:4], ErrMissing)
	}
	return buf, nil
}

// Sync puts on disk what was written.
func (f *File) Sync() error {
	if err := f.data.Sync(); err != nil {
		return fmt.Errorf("chunks: syncing program: %w", err)
	}
	return nil
}

// load takes over what an earlier run has left: a list and chunks count only if they have their hashes.
func (f *File) load() error {
	f.have = NewBitmap(Count(f.size))
	raw, err := readBounded(f.list, Count(f.size)*sha256.Size)
	if err != nil {
		return err
	}
	l, err := ParseList(raw, f.tree, f.size)
	if err != nil {
		return nil //nolint:nilerr // none, or one that a power cut tore: it comes again
	}
	f.hashes = l
	info, err := f.data.Stat()
	if err != nil {
		return fmt.Errorf("chunks: opening program: %w", err)
	}
	buf := make([]byte, Size)
	for i := range l {
		if int64(i)*Size >= info.Size() {
			break
		}
		if _, err := f.read(i, buf); err == nil {
			f.have.Set(i)
			f.count++
		} else if !errors.Is(err, ErrMissing) {
			return err
		}
	}
	return nil
}
