// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

func TestFull(t *testing.T) {
	w, dir := newWorld(t, 1), t.TempDir()
	o := w.options()
	o.Quota = 64 << 10
	s := open(t, dir, o)
	c := w.chain(t, w.device, "main")
	twin := (*chain)(nil)
	var kept []*journal.Segment
	for {
		if len(kept) == 3 {
			twin = c.twin(w.device)
		}
		seg := c.next(100)
		err := s.Put(context.Background(), seg.Bytes())
		if err != nil {
			refused(t, err, transport.RefusedFull, w.hub.ID(), "full")
			break
		}
		kept = append(kept, seg)
	}
	if len(kept) < 20 {
		t.Fatalf("full after %d segments", len(kept))
	}
	put(t, s, kept[0]) // held already: no room is needed
	refused(t, s.Put(context.Background(), twin.next(1).Bytes()), transport.RefusedFork, w.hub.ID(), "seq 3")
	if n := len(s.Forks(context.Background())); n != 1 {
		t.Errorf("full, and %d proofs were kept", n)
	}
	check(t, s.Close())
	s = open(t, dir, o)
	if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(kept)) {
		t.Errorf("%d of %d acknowledged segments", len(got), len(kept))
	}
	if size := s.Stats().Bytes; size > o.Quota {
		t.Errorf("%d bytes on disk, quota %d", size, o.Quota)
	}
}

func TestDamageIsNotHeld(t *testing.T) {
	w, dir := newWorld(t, 1), t.TempDir()
	s := open(t, dir, w.options())
	c := w.chain(t, w.device, "main")
	segs := c.many(10)
	put(t, s, segs...)
	flip(t, dir, segs[4].Bytes())
	if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(slices.Delete(slices.Clone(segs), 4, 5))) {
		t.Fatalf("%d segments", len(got))
	}
	held, err := s.Held(context.Background(), w.device.ID())
	check(t, err)
	if len(held) != 1 || fmt.Sprint(held[0].Spans) != "[{{} 0 3} {{} 5 9}]" || s.Stats().Damaged != 1 {
		t.Fatalf("held %v, %+v", held, s.Stats())
	}
	put(t, s, segs[4])
	for range 2 {
		if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(segs)) {
			t.Fatalf("after it was put again: %d segments", len(got))
		}
		check(t, s.Close())
		s = open(t, dir, w.options())
	}
}

// flip changes one bit in the middle of data wherever it stands in a file of dir.
func flip(t testing.TB, dir string, data []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	check(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		check(t, err)
		if i := bytes.Index(b, data); i >= 0 {
			b[i+len(data)/2] ^= 4
			out, err := os.OpenFile(f, os.O_WRONLY, 0)
			check(t, err)
			_, err = out.WriteAt(b, 0)
			check(t, err)
			check(t, out.Close())
			return
		}
	}
	t.Fatal("the segment is in no file")
}
