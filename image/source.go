// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Source is a system image as it is unpacked. Read it once, from its beginning to io.EOF.
type Source struct {
	io.Reader
	Size   int64 // unpacked, as the file says, in bytes; 0 = it does not say. Do not rely on it: count
	Packed int64 // size of the file

	file  *os.File
	taken *atomic.Int64
	close func() error
}

// ErrNotImage is wrapped when a file is no system image that can be written.
var ErrNotImage = errors.New("not a system image (.img, .img.xz, .img.gz, .img.zst or a .zip with one of them)")

// OpenSource opens a system image: plain or packed by xz, gzip, zstd or zip, which its first bytes tell. The caller closes it.
func OpenSource(path string) (*Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("image: opening system image: %w", err)
	}
	s, err := unpack(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image: opening system image %s: %w", path, err), f.Close())
	}
	return s, nil
}

// Taken returns how much of the file has been read, of Packed. It may be called beside Read.
func (s *Source) Taken() int64 { return min(s.taken.Load(), s.Packed) }

// Close closes the file.
func (s *Source) Close() error {
	var err error
	if s.close != nil {
		err = s.close()
	}
	if err = errors.Join(err, s.file.Close()); err != nil {
		return fmt.Errorf("image: closing system image: %w", err)
	}
	return nil
}

func unpack(f *os.File) (*Source, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no file: %w", ErrNotImage)
	}
	s := &Source{Packed: info.Size(), file: f, taken: &atomic.Int64{}}
	var head [512]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	packed := bufio.NewReaderSize(&counting{f, s.taken}, 1<<20)
	switch h := head[:n]; {
	case bytes.HasPrefix(h, []byte("\xfd7zXZ\x00")):
		s.Size = xzSize(f, s.Packed)
		s.Reader, err = xz.ReaderConfig{DictCap: 8 << 20}.NewReader(packed)
	case bytes.HasPrefix(h, []byte("\x1f\x8b")):
		s.Size = gzipSize(f, s.Packed)
		s.Reader, err = gzip.NewReader(packed)
	case bytes.HasPrefix(h, []byte("\x28\xb5\x2f\xfd")):
		err = s.zstd(packed, h)
	case bytes.HasPrefix(h, []byte("PK\x03\x04")):
		err = s.zip()
	case n == 512 && head[510] == 0x55 && head[511] == 0xaa:
		s.Size, s.Reader = s.Packed, packed
	default:
		err = ErrNotImage
	}
	return s, err
}

// counting counts what is read of the file.
type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (s *Source) zstd(packed io.Reader, head []byte) error {
	var h zstd.Header
	if err := h.Decode(head); err == nil && h.HasFCS && h.FrameContentSize < 1<<62 {
		s.Size = int64(h.FrameContentSize)
	}
	r, err := zstd.NewReader(packed, zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return err
	}
	s.Reader = r
	s.close = func() error { r.Close(); return nil }
	return nil
}

// zip unpacks the only image of an archive. What else lies in it, a read-me say, does not matter.
func (s *Source) zip() error {
	z, err := zip.NewReader(&countingAt{s.file, s.taken}, s.Packed)
	if err != nil {
		return err
	}
	var found []*zip.File
	for _, f := range z.File {
		if strings.HasSuffix(strings.ToLower(f.Name), ".img") {
			found = append(found, f)
		}
	}
	if len(found) != 1 || found[0].UncompressedSize64 >= 1<<62 {
		return fmt.Errorf("the archive holds %d files .img, want one: %w", len(found), ErrNotImage)
	}
	r, err := found[0].Open()
	if err != nil {
		return err
	}
	s.Size, s.Reader, s.close = int64(found[0].UncompressedSize64), r, r.Close
	return nil
}

type countingAt struct {
	r io.ReaderAt
	n *atomic.Int64
}

func (c *countingAt) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.r.ReadAt(p, at)
	c.n.Add(int64(n))
	return n, err
}

// gzipSize returns the size that the trailer says (RFC 1952 §2.3.1), if it can be right: it counts modulo 2^32, and images pack to a sixth and more.
func gzipSize(r io.ReaderAt, packed int64) int64 {
	var trailer [4]byte
	if packed < 18 || packed > 512<<20 {
		return 0
	}
	if _, err := r.ReadAt(trailer[:], packed-4); err != nil {
		return 0
	}
	if size := int64(binary.LittleEndian.Uint32(trailer[:])); size >= packed/2 {
		return size
	}
	return 0
}
