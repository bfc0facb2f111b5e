// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/streembit/edge/image"
)

// medium is a disk in memory that can fail and lie.
type medium struct {
	data    []byte
	ops     []string
	written int64
	full    int64  // the disk fails to write from here on; 0 = never
	wraps   int64  // a fake card: what is written beyond lands at the beginning; 0 = honest
	sticky  int64  // of this byte a bit cannot be changed; 0 = none
	busy    bool   // a partition of it is in use
	cancel  func() // called after the first block
}

func (m *medium) at(off int64) int64 {
	if m.wraps > 0 {
		return off % m.wraps
	}
	return off
}

func (m *medium) WriteAt(p []byte, off int64) (int, error) {
	if m.full > 0 && off+int64(len(p)) > m.full {
		return 0, syscall.EIO
	}
	for i := 0; i < len(p); i += 512 {
		copy(m.data[m.at(off+int64(i)):], p[i:min(i+512, len(p))])
	}
	if m.sticky > 0 {
		m.data[m.sticky] |= 1
	}
	m.written += int64(len(p))
	if m.cancel != nil && off > 0 {
		m.cancel()
	}
	return len(p), nil
}

func (m *medium) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off+int64(n) < int64(len(m.data)) {
		n += copy(p[n:min(n+512, len(p))], m.data[m.at(off+int64(n)):])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *medium) Sync() error   { m.ops = append(m.ops, "sync"); return nil }
func (m *medium) Forget() error { m.ops = append(m.ops, "forget"); return nil }
func (m *medium) Reload() error {
	if m.busy {
		return syscall.EBUSY
	}
	m.ops = append(m.ops, "reload")
	return nil
}

// dirty is a medium on which something else was before.
func dirty(size int) *medium {
	return &medium{data: bytes.Repeat([]byte{0xdd}, size)}
}

func TestWriter(t *testing.T) {
	img := mbr(9<<20+512, part{0x0c, 100, 2048}, part{0x83, 8192, 10000})
	m := dirty(16 << 20)
	var last int64
	w := image.Writer{Device: m, Size: int64(len(m.data)), Told: func(_ string, done, _ int64) { last = done }}
	if err := w.Write(t.Context(), bytes.NewReader(img), int64(len(img))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.data[:512*100], make([]byte, 512*100)) || !bytes.Equal(m.data[15<<20:], make([]byte, 1<<20)) {
		t.Error("the beginning and the end are not empty before the end")
	}
	seen := make([]byte, 4096)
	if _, err := w.Head().ReadAt(seen, 512*96); err != nil || !bytes.Equal(seen, img[512*96:512*104]) {
		t.Error("the view across the end of the beginning differs from the image")
	}
	if err := w.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.data[:len(img)], img) || w.Length() != int64(len(img)) || last != w.Length() {
		t.Errorf("%d bytes written, told of %d", w.Length(), last)
	}
	// sync before the kernel is asked anything; what is read back comes from the medium.
	if want := "[sync reload sync forget sync forget reload]"; want != sprint(m.ops) {
		t.Errorf("%v, want %s", m.ops, want)
	}
}

// Whatever goes wrong, it is an error, and the disk has no partition table.
func TestWriter_NeverLeavesACardThatStartsAndFails(t *testing.T) {
	img := mbr(9<<20, part{0x0c, 2048, 2048}, part{0x83, 8192, 10000})
	for name, c := range map[string]struct {
		medium *medium
		source io.Reader
		size   int64
		want   error
	}{
		"worn out":        {&medium{sticky: 5<<20 + 7}, nil, 16 << 20, image.ErrMismatch},
		"lies about size": {&medium{wraps: 6 << 20}, nil, 16 << 20, image.ErrMismatch},
		"fails":           {&medium{full: 6 << 20}, nil, 0, syscall.EIO},
		"in use":          {&medium{busy: true}, nil, 16 << 20, syscall.EBUSY},
		"too small":       {&medium{}, nil, 8 << 20, image.ErrTooLarge},
		"tiny":            {&medium{}, nil, 1 << 20, image.ErrTooLarge},
		"damaged archive": {&medium{}, io.MultiReader(bytes.NewReader(img[:5<<20]), broken{}), 16 << 20, io.ErrNoProgress},
		"no image":        {&medium{}, bytes.NewReader(make([]byte, 2<<20)), 16 << 20, image.ErrNotImage},
		"short":           {&medium{}, bytes.NewReader(img[:1<<19]), 16 << 20, image.ErrNotImage},
		"interrupted":     {&medium{cancel: func() {}}, nil, 16 << 20, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.medium
			m.data = bytes.Repeat([]byte{0xdd}, 16<<20)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if m.cancel != nil {
				m.cancel = cancel
			}
			if c.source == nil {
				c.source = bytes.NewReader(img)
			}
			w := image.Writer{Device: m, Size: c.size}
			err := w.Write(ctx, c.source, 0)
			if err == nil {
				err = w.Check(ctx)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if m.data[510] == 0x55 && m.data[511] == 0xaa {
				t.Error("there is a partition table")
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestWriter_ToAFile(t *testing.T) {
	img := mbr(3<<20, part{0x0c, 2048, 2048})
	f, err := os.Create(filepath.Join(t.TempDir(), "card.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := image.Writer{Device: &image.Target{File: f}}
	err = w.Write(t.Context(), bytes.NewReader(img), 0)
	if err == nil {
		err = w.Check(t.Context())
	}
	if err == nil {
		err = w.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, img) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func sprint(a any) string { return fmt.Sprint(a) }
