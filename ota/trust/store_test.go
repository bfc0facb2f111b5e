// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
)

// TestStore_DamageBeginsAnew: whatever happens to the file on disk, the store opens; either it holds what it held, or it says that it was
// damaged and begins with the pinned root.
func TestStore_DamageBeginsAnew(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	w.must(w.open(dir).Refresh(t.Context(), &w.net))
	path := filepath.Join(dir, "trusted")
	good, err := os.ReadFile(path)
	w.must(err)
	try := func(what string, i int, data []byte) {
		w.must(os.WriteFile(path, data, 0o644))
		s, err := trust.Open(dir, w.pinned, func() (time.Time, bool) { return w.now, true })
		if err != nil {
			t.Fatalf("%s at %d: %v", what, i, err)
		}
		if err := s.Damaged(); !errors.Is(err, trust.ErrDamaged) {
			t.Fatalf("%s at %d: damaged %v", what, i, err)
		}
		if _, err := s.Artifacts(); !errors.Is(err, trust.ErrNone) {
			t.Fatalf("%s at %d: %v", what, i, err)
		}
	}
	for i := 0; i < len(good); i += 101 {
		try("cut off", i, good[:i])
		bad := bytes.Clone(good)
		bad[i] ^= 0x41
		try("changed", i, bad)
	}
	s, err := trust.Open(dir, w.pinned, func() (time.Time, bool) { return w.now, true })
	w.must(err)
	w.must(s.Refresh(t.Context(), &w.net))
	w.must(w.open(dir).Damaged())
}

// TestStore_FailedWrite: what cannot be written is not trusted, and what was before still is.
func TestStore_FailedWrite(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "trust")
	s := w.open(dir)
	w.must(s.Refresh(t.Context(), &w.net))
	w.must(os.RemoveAll(dir))
	w.must(os.WriteFile(dir, nil, 0o600)) // stands for a full or broken disk
	w.release("1.1.0", "arm64")
	w.publish()
	if err := s.Refresh(t.Context(), &w.net); err == nil || !strings.Contains(err.Error(), "writing") {
		t.Errorf("refresh on a broken disk: %v", err)
	}
	if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.0.0"}) {
		t.Errorf("%v", got)
	}
	w.must(os.Remove(dir))
	w.must(s.Refresh(t.Context(), &w.net))
	if got := w.versions(w.open(dir)); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// TestStore_WritesOnlyNews: a refresh that brings nothing new does not wear the card.
func TestStore_WritesOnlyNews(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	s := w.open(dir)
	w.must(s.Refresh(t.Context(), &w.net))
	before, err := os.Stat(filepath.Join(dir, "trusted"))
	w.must(err)
	for range 3 {
		w.must(s.Refresh(t.Context(), &w.net))
	}
	after, err := os.Stat(filepath.Join(dir, "trusted"))
	w.must(err)
	if !os.SameFile(before, after) {
		t.Error("the file was written again")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%v", entries)
	}
}

func TestStore_CancelledAndUnreachable(t *testing.T) {
	w := newWorld(t)
	s := w.device()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Refresh(ctx, trust.FolderFetcher(w.repo.Metadata())); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	down := errors.New("no hub answers")
	if err := s.Refresh(t.Context(), failing{down}); !errors.Is(err, down) {
		t.Errorf("unreachable: %v", err)
	}
}

type failing struct{ error }

func (f failing) Fetch(context.Context, string, int64) ([]byte, error) { return nil, f.error }

// TestFolderFetcher reads a folder that somebody else writes to.
func TestFolderFetcher(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for name, data := range w.net.files {
		w.must(os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	f := trust.FolderFetcher(dir)
	w.must(w.open(t.TempDir()).Refresh(t.Context(), f))
	secret := filepath.Join(t.TempDir(), "secret")
	w.must(os.WriteFile(secret, []byte("{}"), 0o600))
	w.must(os.Symlink(secret, filepath.Join(dir, "7.root.json")))
	w.must(syscall.Mkfifo(filepath.Join(dir, "8.root.json"), 0o600))
	w.must(os.Mkdir(filepath.Join(dir, "9.root.json"), 0o700))
	w.must(os.WriteFile(filepath.Join(dir, "10.root.json"), make([]byte, 101), 0o600))
	for name, want := range map[string]error{"7.root.json": syscall.ELOOP, "8.root.json": trust.ErrMalformed, "9.root.json": trust.ErrMalformed,
		"10.root.json": trust.ErrTooLarge, "11.root.json": trust.ErrNotFound, "../secret": trust.ErrMalformed, "0.root.json": trust.ErrMalformed, "root.json": trust.ErrMalformed} {
		if _, err := f.Fetch(t.Context(), name, 100); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// TestBundle brings a release on a stick.
func TestBundle(t *testing.T) {
	w := newWorld(t)
	a := w.release("1.1.0", "arm64")
	files, err := w.repo.Files()
	w.must(err)
	path := filepath.Join(t.TempDir(), "stick")
	var text, again bytes.Buffer
	w.must(trust.WriteBundle(&text, files, [][32]byte{a.Tree}, w.repo.OpenProgram))
	w.must(trust.WriteBundle(&again, maps.Clone(files), [][32]byte{a.Tree}, w.repo.OpenProgram))
	if !bytes.Equal(text.Bytes(), again.Bytes()) {
		t.Error("the same content gives other bytes")
	}
	w.must(os.WriteFile(path, text.Bytes(), 0o600))
	b, err := trust.OpenBundle(path)
	w.must(err)
	defer b.Close()
	s := w.open(t.TempDir())
	w.must(s.Refresh(t.Context(), b))
	list, err := s.Artifacts()
	w.must(err)
	r, err := b.Program(list[1].Tree)
	w.must(err)
	w.must(trust.CheckProgram(list[1], r))
	if _, err := b.Program(list[0].Tree); !errors.Is(err, trust.ErrNotFound) || b.Programs() != 1 {
		t.Errorf("a program that is not on it: %v", err)
	}
	for i := 0; i < text.Len()-1024; i += 101 { // a stick that was pulled out early; the last 1024 bytes are zeros that say so
		w.must(os.WriteFile(path, text.Bytes()[:i], 0o600))
		if cut, err := trust.OpenBundle(path); err == nil {
			r, err := cut.Program(a.Tree)
			if err == nil && trust.CheckProgram(a, r) == nil && i < text.Len()-1024-511 {
				t.Errorf("whole though cut off at %d", i)
			}
			cut.Close()
		}
	}
	if _, err := trust.OpenBundle(t.TempDir()); !errors.Is(err, trust.ErrMalformed) {
		t.Errorf("a folder: %v", err)
	}
}
