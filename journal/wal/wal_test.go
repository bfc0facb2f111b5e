// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/streembit/edge/journal/wal"
)

// kept is a frame as the tests remember it.
type kept struct {
	at   wal.Pos
	data []byte
}

// open opens the log in dir and returns what Open visited. The log is closed when the test ends.
func open(t testing.TB, dir string, o wal.Options) (*wal.Log, wal.Recovery, []kept) {
	t.Helper()
	var got []kept
	l, rec, err := wal.Open(dir, o, func(p wal.Pos, b []byte) error {
		got = append(got, kept{p, bytes.Clone(b)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if rec.Frames != len(got) {
		t.Errorf("recovery counts %d frames, %d were visited", rec.Frames, len(got))
	}
	return l, rec, got
}

// add appends frames in one call and returns them with their positions.
func add(t testing.TB, l *wal.Log, frames ...[]byte) []kept {
	t.Helper()
	pos, err := l.Append(context.Background(), frames...)
	if err != nil {
		t.Fatal(err)
	}
	if len(pos) != len(frames) {
		t.Fatalf("%d positions for %d frames", len(pos), len(frames))
	}
	var all []kept
	for i, p := range pos {
		all = append(all, kept{p, frames[i]})
	}
	return all
}

// closeLog closes l and fails the test if that fails.
func closeLog(t testing.TB, l *wal.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// same fails the test unless got is exactly want.
func same(t testing.TB, what string, got, want []kept) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d frames, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i].at != want[i].at || !bytes.Equal(got[i].data, want[i].data) {
			t.Fatalf("%s: frame %d is %v with %d bytes, want %v with %d", what, i, got[i].at, len(got[i].data), want[i].at, len(want[i].data))
		}
	}
}

// scan returns what Scan visits from a position on.
func scan(t testing.TB, l *wal.Log, from wal.Pos) []kept {
	t.Helper()
	var got []kept
	err := l.Scan(from, func(p wal.Pos, b []byte) error {
		got = append(got, kept{p, bytes.Clone(b)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// frame returns n bytes that tell which frame they are.
func frame(seed, n int) []byte {
	r, b := rand.New(rand.NewPCG(uint64(seed), uint64(n))), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	l, rec, got := open(t, dir, wal.Options{FileSize: 4096})
	if rec != (wal.Recovery{}) || len(got) != 0 {
		t.Fatalf("a new log: %+v", rec)
	}
	var want []kept
	for i := range 100 {
		want = append(want, add(t, l, frame(i, 1+i*7), frame(i, 1), frame(-i, 300))...)
	}
	want = append(want, add(t, l, frame(1, 10_000))...) // more than a file
	want = append(want, add(t, l, frame(2, 3))...)
	for i, k := range want {
		b, err := l.Read(k.at)
		if err != nil || !bytes.Equal(b, k.data) {
			t.Fatalf("frame %d at %v: %v", i, k.at, err)
		}
		if i > 0 && want[i-1].at.Compare(k.at) >= 0 {
			t.Fatalf("position %v does not follow %v", k.at, want[i-1].at)
		}
	}
	same(t, "scan", scan(t, l, wal.Pos{}), want)
	for i := 0; i < len(want); i += 17 {
		same(t, "scan from "+want[i].at.String(), scan(t, l, want[i].at), want[i:])
	}
	same(t, "scan from the end", scan(t, l, l.End()), nil)
	size, end := l.Size(), l.End()
	closeLog(t, l)
	checkSize(t, dir, size)

	l, rec, got = open(t, dir, wal.Options{FileSize: 4096})
	same(t, "reopened", got, want)
	if !rec.Clean || rec.Dropped != 0 || rec.Reason != "" || l.Size() != size || l.End() != end {
		t.Fatalf("reopened: %+v, size %d (was %d), end %v (was %v)", rec, l.Size(), size, l.End(), end)
	}
	if _, err := os.Stat(filepath.Join(dir, "closed")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an open log has the marker of a closed one: %v", err)
	}
	want = append(want, add(t, l, frame(5, 50))...)
	closeLog(t, l)
	_, rec, got = open(t, dir, wal.Options{})
	same(t, "reopened twice", got, want)
	if !rec.Clean {
		t.Errorf("closed twice, not clean: %+v", rec)
	}
}

// checkSize compares what the log says with what the directory holds.
func checkSize(t testing.TB, dir string, want int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size != want {
		t.Errorf("the files have %d bytes, the log says %d", size, want)
	}
}

func TestConcurrent(t *testing.T) {
	l, _, _ := open(t, t.TempDir(), wal.Options{FileSize: 64 << 10})
	const writers, each = 64, 20
	var mu sync.Mutex
	all := map[wal.Pos][]byte{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			last := wal.Pos{}
			for i := range each {
				a, b := []byte(fmt.Sprintf("writer %d frame %d", w, i)), frame(i, 100)
				pos, err := l.Append(context.Background(), a, b)
				if err != nil || len(pos) != 2 || last.Compare(pos[0]) >= 0 || pos[0].File != pos[1].File {
					t.Errorf("append: %v %v", pos, err)
					return
				}
				last = pos[1]
				if got, err := l.Read(pos[0]); err != nil || !bytes.Equal(got, a) {
					t.Errorf("read of %v: %q %v", pos[0], got, err)
				}
				mu.Lock()
				all[pos[0]], all[pos[1]] = a, b
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := l.Scan(wal.Pos{}, func(wal.Pos, []byte) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	got := scan(t, l, wal.Pos{})
	if len(got) != len(all) || len(got) != writers*each*2 {
		t.Fatalf("%d frames of %d", len(got), len(all))
	}
	for _, k := range got {
		if !bytes.Equal(all[k.at], k.data) {
			t.Errorf("%v differs", k.at)
		}
	}
	st := l.Stats()
	if st.Appends != writers*each || st.Frames != 2*st.Appends || st.Syncs >= st.Appends/2 {
		t.Errorf("%d appends of %d frames took %d syncs: writers do not share them", st.Appends, st.Frames, st.Syncs)
	}
	t.Logf("%d appends, %d syncs, mean %v", st.Appends, st.Syncs, st.MeanSync)
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, wal.Options{})
	if _, _, err := wal.Open(dir, wal.Options{}, nil); !errors.Is(err, wal.ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
}
