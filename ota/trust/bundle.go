// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"archive/tar"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/streembit/edge/ota"
)

// Bounds of a bundle.
const (
	maxBundleFiles    = 1000
	maxBundleMetadata = 8 << 20 // bytes of all metadata files together
)

// Bundle is a release as one file, for a USB stick: an uncompressed tar (POSIX ustar) of metadata/NAME and programs/TREE. Nothing in it is
// trusted: it is a Fetcher for Store.Refresh, and a place to read programs from. It is safe for concurrent use.
type Bundle struct {
	file     *os.File
	metadata map[string]part
	programs map[[32]byte]part
}

type part struct{ offset, size int64 }

// OpenBundle finds what is in the file, whose programs stay where they are. The error wraps ErrMalformed or ErrTooLarge for a file that is
// no bundle. Close it.
func OpenBundle(name string) (b *Bundle, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would hold us up
	if err != nil {
		return nil, fmt.Errorf("ota/trust: opening bundle: %w", err)
	}
	b = &Bundle{file: f, metadata: map[string]part{}, programs: map[[32]byte]part{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("ota/trust: opening bundle %s: %w", name, errors.Join(err, f.Close()))
			b = nil
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return b, err
	}
	if !info.Mode().IsRegular() {
		return b, fmt.Errorf("it is no ordinary file: %w", ErrMalformed)
	}
	return b, b.index(info.Size())
}

// index walks the headers. A tar.Reader that may seek skips what is between them, and it reads no byte ahead: after Next its file stands
// where the entry's bytes begin.
func (b *Bundle) index(size int64) error {
	r, files, sum := tar.NewReader(b.file), 0, int64(0)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			if _, whole := b.metadata[timestampName]; !whole {
				return fmt.Errorf("it is no bundle, or it is cut off: %w", ErrMalformed)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		offset, err := b.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if files++; files > maxBundleFiles {
			return fmt.Errorf("more than %d files: %w", maxBundleFiles, ErrTooLarge)
		}
		switch {
		case h.Typeflag != tar.TypeReg || h.Format&tar.FormatUSTAR == 0 || len(h.PAXRecords) > 0:
			return fmt.Errorf("%.80q is no ordinary file of a ustar archive: %w", h.Name, ErrMalformed)
		case h.Size < 0 || h.Size > size-offset:
			return fmt.Errorf("%.80q is cut off: copy the bundle again: %w", h.Name, ErrMalformed)
		}
		if err := b.add(h.Name, part{offset, h.Size}); err != nil {
			return err
		}
		if strings.HasPrefix(h.Name, bundleMetadata) {
			sum += h.Size
		}
		if sum > maxBundleMetadata {
			return fmt.Errorf("more than %d bytes of metadata: %w", maxBundleMetadata, ErrTooLarge)
		}
	}
}

// Folders of a bundle.
const (
	bundleMetadata = "metadata/"
	bundlePrograms = "programs/"
)

func (b *Bundle) add(name string, p part) error {
	dir, base := path.Split(name)
	switch {
	case dir == bundleMetadata && ValidName(base):
		if p.size > MaxSize(base) {
			return fmt.Errorf("%s has %d bytes of at most %d: %w", name, p.size, MaxSize(base), ErrTooLarge)
		}
		if _, twice := b.metadata[base]; twice {
			return fmt.Errorf("%s is there twice: %w", name, ErrMalformed)
		}
		b.metadata[base] = p
		return nil
	case dir == bundlePrograms:
		var tree [32]byte
		if err := digest(&tree, base); err != nil {
			return fmt.Errorf("%.80q: %w", name, err)
		}
		if p.size > ota.MaxProgram {
			return fmt.Errorf("%s has %d bytes of at most %d: %w", name, p.size, ota.MaxProgram, ErrTooLarge)
		}
		if _, twice := b.programs[tree]; twice {
			return fmt.Errorf("%s is there twice: %w", name, ErrMalformed)
		}
		b.programs[tree] = p
		return nil
	}
	return fmt.Errorf("%.80q: want metadata/NAME and programs/TREE: %w", name, ErrMalformed)
}

// Fetch implements Fetcher.
func (b *Bundle) Fetch(_ context.Context, name string, limit int64) ([]byte, error) {
	p, ok := b.metadata[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("ota/trust: the bundle has no %.80q: %w", name, ErrNotFound)
	case p.size > limit:
		return nil, fmt.Errorf("ota/trust: %s has %d bytes of at most %d: %w", name, p.size, limit, ErrTooLarge)
	}
	data := make([]byte, p.size)
	if _, err := b.file.ReadAt(data, p.offset); err != nil {
		return nil, fmt.Errorf("ota/trust: reading bundle: %w", err)
	}
	return data, nil
}

// Program returns the program with that tree hash, unproven. The error wraps ErrNotFound.
func (b *Bundle) Program(tree [32]byte) (*io.SectionReader, error) {
	p, ok := b.programs[tree]
	if !ok {
		return nil, fmt.Errorf("ota/trust: the bundle has no program %x: %w", tree[:4], ErrNotFound)
	}
	return io.NewSectionReader(b.file, p.offset, p.size), nil
}

// Programs returns how many programs the bundle has, proven or not.
func (b *Bundle) Programs() int { return len(b.programs) }

// Close closes the file; readers that Program returned fail then.
func (b *Bundle) Close() error { return b.file.Close() }

// WriteBundle writes metadata files and programs as a bundle; open returns the program of a tree and its size. The same content gives the
// same bytes.
func WriteBundle(w io.Writer, files map[string][]byte, trees [][32]byte, open func(tree [32]byte) (io.ReadCloser, int64, error)) error {
	t := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := addFile(t, bundleMetadata+name, int64(len(files[name])), strings.NewReader(string(files[name]))); err != nil {
			return err
		}
	}
	for _, tree := range trees {
		r, size, err := open(tree)
		if err != nil {
			return err
		}
		if err := errors.Join(addFile(t, bundlePrograms+hex.EncodeToString(tree[:]), size, r), r.Close()); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("ota/trust: writing bundle: %w", err)
	}
	return nil
}

func addFile(t *tar.Writer, name string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("ota/trust: writing bundle: %s: %w", name, err)
	}
	if _, err := io.Copy(t, r); err != nil {
		return fmt.Errorf("ota/trust: writing bundle: %s: %w", name, err)
	}
	return nil
}
