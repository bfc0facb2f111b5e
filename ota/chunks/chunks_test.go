// SPDX-License-Identifier: Apache-2.0

package chunks_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/streembit/edge/ota/chunks"
)

// program makes bytes that no two chunks have in common.
func program(t testing.TB, size int) ([]byte, chunks.List) {
	t.Helper()
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = r.Read(b)
	list, n, err := chunks.ListOf(bytes.NewReader(b))
	if err != nil || n != int64(size) {
		t.Fatalf("list of %d bytes: %d, %v", size, n, err)
	}
	return b, list
}

func piece(b []byte, i int) []byte { return b[i*chunks.Size : min(len(b), (i+1)*chunks.Size)] }

func open(t testing.TB, dir string, quota int64) *chunks.Store {
	t.Helper()
	s, err := chunks.Open(dir, quota)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTree holds the definition against one that is written out here.
func TestTree(t *testing.T) {
	for _, size := range []int{1, chunks.Size - 1, chunks.Size, chunks.Size + 1, 5 * chunks.Size} {
		b, list := program(t, size)
		all := sha256.New()
		for i := 0; i*chunks.Size < size; i++ {
			h := sha256.Sum256(piece(b, i))
			all.Write(h[:])
		}
		if got := list.Tree(); got != chunks.Hash(all.Sum(nil)) || len(list) != chunks.Count(int64(size)) {
			t.Errorf("%d bytes: tree %x of %d chunks", size, got, len(list))
		}
		again, err := chunks.ParseList(list.Bytes(), list.Tree(), int64(size))
		if err != nil || again.Tree() != list.Tree() {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, _, err := chunks.ListOf(bytes.NewReader(nil)); !errors.Is(err, chunks.ErrWrong) {
		t.Errorf("no bytes: %v", err)
	}
}

// TestResume: what was written before an end without warning counts as far as it is whole, and no further.
func TestResume(t *testing.T) {
	b, list := program(t, 5*chunks.Size-7)
	dir := t.TempDir()
	s, err := chunks.Open(dir, 1<<30)
	must(t, err)
	f, err := s.Begin(list.Tree(), int64(len(b)))
	must(t, err)
	if err := f.Put(0, piece(b, 0)); !errors.Is(err, chunks.ErrNoList) {
		t.Errorf("without a list: %v", err)
	}
	must(t, f.SetList(list.Bytes()))
	for _, i := range []int{0, 1, 4} {
		must(t, f.Put(i, piece(b, i)))
	}
	if err := f.Put(2, piece(b, 1)); !errors.Is(err, chunks.ErrWrong) {
		t.Errorf("another chunk's bytes: %v", err)
	}
	must(t, s.Close())
	data := filepath.Join(dir, hex.EncodeToString(treeBytes(list))+".program")
	raw, err := os.ReadFile(data)
	must(t, err)
	raw[chunks.Size+9] ^= 1 // the disk had not yet written all of chunk 1
	must(t, os.WriteFile(data, raw, 0o600))

	s = open(t, dir, 1<<30)
	f, err = s.Begin(list.Tree(), int64(len(b)))
	must(t, err)
	have, n := f.Have()
	if n != 2 || !have.Has(0) || have.Has(1) || !have.Has(4) {
		t.Fatalf("after the restart: %08b, %d", have, n)
	}
	for i := range list {
		must(t, f.Put(i, piece(b, i)))
	}
	must(t, f.Sync())
	got, err := os.ReadFile(f.Path())
	if err != nil || !f.Complete() || !bytes.Equal(got, b) {
		t.Errorf("the program differs: %v", err)
	}
}

func treeBytes(l chunks.List) []byte { h := l.Tree(); return h[:] }

// TestTornListComesAgain: a list that is not the tree's is as good as none, and chunks wait for it.
func TestTornListComesAgain(t *testing.T) {
	b, list := program(t, 3*chunks.Size)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, hex.EncodeToString(treeBytes(list))+".list"), list.Bytes()[:40], 0o600))
	f, err := open(t, dir, 1<<30).Begin(list.Tree(), int64(len(b)))
	must(t, err)
	if _, err := f.List(); !errors.Is(err, chunks.ErrNoList) {
		t.Errorf("a torn list: %v", err)
	}
	wrong := bytes.Clone(list.Bytes())
	wrong[5] ^= 1
	if err := f.SetList(wrong); !errors.Is(err, chunks.ErrWrong) {
		t.Errorf("a wrong list: %v", err)
	}
	must(t, f.SetList(list.Bytes()))
	must(t, f.Put(2, piece(b, 2)))
}

// TestDamageOnDiskIsNotGiven: a chunk that the disk has spoiled is missing from then on.
func TestDamageOnDiskIsNotGiven(t *testing.T) {
	b, list := program(t, 2*chunks.Size)
	f, err := open(t, t.TempDir(), 1<<30).Begin(list.Tree(), int64(len(b)))
	must(t, err)
	must(t, f.SetList(list.Bytes()))
	must(t, f.Put(0, piece(b, 0)))
	must(t, f.Put(1, piece(b, 1)))
	raw, err := os.OpenFile(f.Path(), os.O_WRONLY, 0)
	must(t, err)
	_, err = raw.WriteAt([]byte("damage"), 100)
	must(t, errors.Join(err, raw.Close()))
	buf := make([]byte, chunks.Size)
	if _, err := f.Chunk(0, buf); !errors.Is(err, chunks.ErrMissing) {
		t.Errorf("a spoiled chunk: %v", err)
	}
	if _, n := f.Have(); n != 1 || f.Complete() {
		t.Errorf("%d chunks are here", n)
	}
	if got, err := f.Chunk(1, buf); err != nil || !bytes.Equal(got, piece(b, 1)) {
		t.Errorf("the other one: %v", err)
	}
}

// TestQuota: programs are refused before anything of them is written, and room comes back.
func TestQuota(t *testing.T) {
	_, one := program(t, chunks.Size)
	_, two := program(t, 2*chunks.Size)
	dir := t.TempDir()
	s := open(t, dir, 2*chunks.Size)
	_, err := s.Begin(one.Tree(), chunks.Size)
	must(t, err)
	if _, err := s.Begin(two.Tree(), 2*chunks.Size); !errors.Is(err, chunks.ErrQuota) {
		t.Errorf("beyond the quota: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600)) // somebody else's
	must(t, s.Keep(two.Tree()))
	if _, err := s.Get(one.Tree()); !errors.Is(err, chunks.ErrNotKnown) {
		t.Errorf("a removed program: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	_, err = s.Begin(two.Tree(), 2*chunks.Size)
	must(t, err)
	if _, err := s.Begin(two.Tree(), chunks.Size); !errors.Is(err, chunks.ErrWrong) {
		t.Errorf("another size of the same program: %v", err)
	}
}

// TestShare gives what lies in somebody else's file.
func TestShare(t *testing.T) {
	b, list := program(t, chunks.Size+1)
	path := filepath.Join(t.TempDir(), "program")
	must(t, os.WriteFile(path, b, 0o600))
	f, err := chunks.Share(path)
	must(t, err)
	got, err := f.Chunk(1, make([]byte, chunks.Size))
	if err != nil || !bytes.Equal(got, piece(b, 1)) || f.Tree() != list.Tree() || !f.Complete() || f.Size() != int64(len(b)) {
		t.Errorf("%d bytes, tree %x: %v", len(got), f.Tree(), err)
	}
	must(t, f.Close())
}

// FuzzParseList: what is accepted is the tree's one list.
func FuzzParseList(f *testing.F) {
	_, list := program(f, 3*chunks.Size)
	f.Add(list.Bytes(), int64(3*chunks.Size))
	f.Add(list.Bytes()[1:], int64(3*chunks.Size))
	f.Add([]byte{}, int64(0))
	f.Add(make([]byte, 64), int64(-1))
	f.Fuzz(func(t *testing.T, raw []byte, size int64) {
		l, err := chunks.ParseList(raw, sha256.Sum256(raw), size)
		if err == nil && (!bytes.Equal(l.Bytes(), raw) || l.Tree() != sha256.Sum256(raw) || len(l) != chunks.Count(size)) {
			t.Fatalf("%d bytes for %d: %d hashes", len(raw), size, len(l))
		}
		if _, err := chunks.ParseList(raw, chunks.Hash{}, size); err == nil {
			t.Fatal("a list of another tree was taken")
		}
	})
}

// FuzzLeftOver: whatever lies in the folder, opening it gives what has its hash and nothing else.
func FuzzLeftOver(f *testing.F) {
	b, list := program(f, chunks.Size+100)
	f.Add(list.Bytes(), b)
	f.Add(list.Bytes(), b[:chunks.Size+50])
	f.Add([]byte("nonsense"), []byte{})
	f.Fuzz(func(t *testing.T, rawList, data []byte) {
		dir := t.TempDir()
		stem := filepath.Join(dir, hex.EncodeToString(treeBytes(list)))
		must(t, os.WriteFile(stem+".list", rawList, 0o600))
		must(t, os.WriteFile(stem+".program", data, 0o600))
		file, err := open(t, dir, 1<<30).Begin(list.Tree(), int64(len(b)))
		must(t, err)
		have, n := file.Have()
		buf := make([]byte, chunks.Size)
		for i := range list {
			got, err := file.Chunk(i, buf)
			if (err == nil) != have.Has(i) || err == nil && !bytes.Equal(got, piece(b, i)) {
				t.Fatalf("chunk %d of %d: %v", i, n, err)
			}
		}
		if file.Complete() != bytes.HasPrefix(data, b) && bytes.Equal(rawList, list.Bytes()) {
			t.Fatalf("complete: %v", file.Complete())
		}
	})
}

// TestBitmap: one form of each.
func TestBitmap(t *testing.T) {
	for n := range 20 {
		b := chunks.NewBitmap(n)
		for i := range n {
			b.Set(i)
		}
		if !b.Fits(n) || b.Has(n) || b.Has(-1) || n > 0 && b.Fits(n+8) {
			t.Errorf("%d: %08b", n, b)
		}
		if n%8 != 0 {
			b.Set(n)
			if b.Fits(n) {
				t.Errorf("%d: a bit beyond the end fits", n)
			}
		}
	}
}
