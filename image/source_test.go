// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/streembit/edge/image"
)

// part is a partition of a test image, in sectors of 512 bytes.
type part struct {
	kind         byte
	start, count uint32
}

// mbr makes an image of size bytes with a partition table and contents that repeat nowhere.
func mbr(size int, parts ...part) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	clear(b[:512])
	for i, p := range parts {
		e := b[446+16*i:]
		e[4] = p.kind
		binary.LittleEndian.PutUint32(e[8:], p.start)
		binary.LittleEndian.PutUint32(e[12:], p.count)
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

func TestOpenSource(t *testing.T) {
	plain := append(mbr(64<<10, part{0x0c, 2048, 2048}), make([]byte, 1<<20)...)
	pack := func(name string, w func(io.Writer) (io.WriteCloser, error), pieces ...[]byte) string {
		var out bytes.Buffer
		for _, p := range pieces {
			z, err := w(&out)
			if err != nil {
				t.Fatal(err)
			}
			_, err = z.Write(p)
			if err = errors.Join(err, z.Close()); err != nil {
				t.Fatal(err)
			}
		}
		return save(t, name, out.Bytes())
	}
	xzw := func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }
	gz := func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
	zst := func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }
	zipped := func(names ...string) string {
		var out bytes.Buffer
		z := zip.NewWriter(&out)
		for _, name := range names {
			f, err := z.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.Write(plain)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return save(t, strings.Join(names, "+")+".zip", out.Bytes())
	}
	for _, c := range []struct {
		path string
		size bool // the file says it
	}{
		{save(t, "a.img", plain), true}, {pack("a.img.xz", xzw, plain), true}, {pack("two.img.xz", xzw, plain[:1<<18], plain[1<<18:]), true},
		{pack("a.img.gz", gz, plain), true}, {pack("a.img.zst", zst, plain), false}, {zipped("read.me", "a.img"), true},
	} {
		s, err := image.OpenSource(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", c.path, len(got), err)
		}
		if c.size && s.Size != int64(len(plain)) || s.Taken() == 0 || s.Taken() > s.Packed {
			t.Errorf("%s: says %d of %d bytes; %d of %d taken", c.path, s.Size, len(plain), s.Taken(), s.Packed)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{save(t, "text", []byte("hello")), save(t, "empty", nil), zipped("read.me"), zipped("a.img", "b.img"), t.TempDir()} {
		if _, err := image.OpenSource(path); !errors.Is(err, image.ErrNotImage) {
			t.Errorf("%s: got %v, want ErrNotImage", path, err)
		}
	}
}

// A packed file that was cut or spoilt is an error while it is read, never a shorter image.
func TestSource_DamageIsAnError(t *testing.T) {
	plain := mbr(64<<10, part{0x0c, 2048, 2048})
	var out bytes.Buffer
	z, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write(plain)
	z.Close()
	for name, b := range map[string][]byte{"cut": out.Bytes()[:out.Len()/2], "flipped": flip(out.Bytes(), out.Len()/2)} {
		s, err := image.OpenSource(save(t, name, b))
		if err != nil {
			continue
		}
		if n, err := io.Copy(io.Discard, s); err == nil {
			t.Errorf("%s: %d bytes without an error", name, n)
		}
		s.Close()
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x40
	return b
}

func save(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChecksums(t *testing.T) {
	path := save(t, "a.img.xz", []byte("contents"))
	sum := sha256.Sum256([]byte("contents"))
	hexed := fmt.Sprintf("%x", sum)
	for text, fits := range map[string]bool{
		hexed + "\n": true, hexed + "  a.img.xz\n": true, strings.ToUpper(hexed) + " *a.img.xz": true, "00  b\n" + hexed + "  ./dir/a.img.xz\n": true,
		hexed + "  other.img": false, hexed + "\n" + hexed: false, "": false, hexed[2:]: false, "x": false,
	} {
		got, err := image.ParseChecksum([]byte(text), "a.img.xz")
		if fits != (err == nil && got == sum) || !fits && !errors.Is(err, image.ErrNoChecksum) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	if _, _, err := image.FindChecksum(path); !errors.Is(err, image.ErrNoChecksum) {
		t.Errorf("found one: %v", err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "SHA256SUMS"), []byte(hexed+"  a.img.xz\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, from, err := image.FindChecksum(path)
	if err != nil || got != sum || filepath.Base(from) != "SHA256SUMS" {
		t.Errorf("%x of %s, %v", got, from, err)
	}
	if err := image.CheckFile(t.Context(), path, sum, nil); err != nil {
		t.Error(err)
	}
	if err := image.CheckFile(t.Context(), path, [32]byte{}, nil); !errors.Is(err, image.ErrChecksum) {
		t.Errorf("got %v, want ErrChecksum", err)
	}
}

func TestExtents(t *testing.T) {
	img := mbr(4<<20, part{0x0c, 2048, 2048}, part{0x05, 1, 1}, part{}, part{0x83, 4096, 4096})
	copy(img[1<<20+82:], "FAT32   ")
	img[2<<20+1080], img[2<<20+1081] = 0x53, 0xef
	got, err := image.Extents(bytes.NewReader(img), int64(len(img)))
	if want := "[{1048576 1048576 fat} {2097152 2097152 ext}]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
	got, err = image.Extents(bytes.NewReader(gpt(t)), 4<<20)
	if want := "[{1048576 1048576 } {2097152 1048576 }]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
	for name, b := range map[string][]byte{"empty": nil, "zeros": make([]byte, 4096), "beyond": mbr(1<<20, part{0x83, 2048, 1}), "record itself": mbr(1<<20, part{0x83, 0, 8})} {
		if got, err := image.Extents(bytes.NewReader(b), int64(len(b))); !errors.Is(err, image.ErrNoTable) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// gpt makes an image of 4 MiB with a GPT of two partitions.
func gpt(t testing.TB) []byte {
	t.Helper()
	b := mbr(4<<20, part{0xee, 1, 8191})
	clear(b[512 : 34*512])
	h := b[512:]
	copy(h, "EFI PART")
	binary.LittleEndian.PutUint64(h[72:], 2)
	binary.LittleEndian.PutUint32(h[80:], 128)
	binary.LittleEndian.PutUint32(h[84:], 128)
	for i := range uint64(2) {
		e := b[1024+i*128:]
		e[0] = 1
		binary.LittleEndian.PutUint64(e[32:], 2048*(i+1))
		binary.LittleEndian.PutUint64(e[40:], 2048*(i+2)-1)
	}
	return b
}

// FuzzExtents: no table makes an extent that lies outside the image.
func FuzzExtents(f *testing.F) {
	f.Add(mbr(2<<20, part{0x0c, 2048, 1024})[:2048])
	f.Add(gpt(f)[:8192])
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := image.Extents(bytes.NewReader(b), int64(len(b)))
		if err != nil && !errors.Is(err, image.ErrNoTable) && !errors.Is(err, io.EOF) {
			t.Errorf("odd error %v", err)
		}
		for _, x := range found {
			if x.Start < 512 || x.Size <= 0 || x.Start+x.Size > int64(len(b)) {
				t.Errorf("%+v of %d bytes", x, len(b))
			}
		}
	})
}

// FuzzSource: a packed file never panics, and what its index says is no negative size.
func FuzzSource(f *testing.F) {
	var out bytes.Buffer
	z, _ := xz.NewWriter(&out)
	_, _ = z.Write([]byte("some text that is packed"))
	z.Close()
	f.Add(out.Bytes())
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := image.OpenSource(save(t, "x", b))
		if err != nil {
			return
		}
		defer s.Close()
		if s.Size < 0 {
			t.Errorf("size %d", s.Size)
		}
		_, _ = io.CopyN(io.Discard, s, 1<<20)
	})
}

// FuzzChecksum: what is found is in the text.
func FuzzChecksum(f *testing.F) {
	f.Add(strings.Repeat("a0", 32)+"  a.img", "a.img")
	f.Fuzz(func(t *testing.T, text, name string) {
		sum, err := image.ParseChecksum([]byte(text), name)
		if err == nil && !strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", sum)) {
			t.Errorf("%x is not in %q", sum, text)
		}
	})
}
