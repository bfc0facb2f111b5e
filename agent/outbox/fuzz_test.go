// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// FuzzOpen puts two frames behind those of a real log: one of them changed, and any bytes. The outbox must open, must go on in a new incarnation, and
// gives out nothing but what this device signed.
func FuzzOpen(f *testing.F) {
	_, rs := readerKey(f)
	dir := f.TempDir()
	genuine := map[journal.Hash]bool{}
	for _, s := range small(f, dir, rs, true, false) {
		genuine[s.Hash] = true
	}
	var frames [][]byte
	l, _, err := wal.Open(filepath.Join(dir, "log"), wal.Options{}, func(_ wal.Pos, b []byte) error {
		frames = append(frames, bytes.Clone(b))
		return nil
	})
	check(f, err)
	check(f, l.Close())
	for i := range frames {
		f.Add(i, 0, byte(0), 0, []byte("G"))
		f.Add(i, 60, byte(1), 1, []byte("C"))
	}
	f.Fuzz(func(t *testing.T, which, at int, flip byte, cut int, two []byte) {
		one := bytes.Clone(frames[uint(which)%uint(len(frames))])
		one[uint(at)%uint(len(one))] ^= flip
		one = one[:uint(len(one))-uint(cut)%uint(len(one))]
		dir := t.TempDir()
		o := wal.Options{Wrap: func(f wal.File) wal.File { return unsynced{f} }}
		l, _, err := wal.Open(filepath.Join(dir, "log"), o, nil)
		check(t, err)
		all := append(append([][]byte{}, frames...), one, bytes.Clone(two))
		for _, b := range all {
			if len(b) > 0 && len(b) < 4096 {
				_, err = l.Append(ctx, b)
				check(t, err)
			}
		}
		// no Close: the marker must not be there
		copyLog(t, dir, filepath.Join(dir, "x"), func(_ string, data []byte) []byte { return data })
		check(t, l.Close())
		b, rec, err := outbox.Open(ctx, outbox.Options{Dir: filepath.Join(dir, "x"), Fleet: fleetX, Signer: key(1), Quota: 1 << 20, Wrap: o.Wrap})
		check(t, err)
		defer b.Close()
		mine := map[journal.Hash]bool{start(t, b, "main", rs).Hash: true, seal(t, b, "main", 0, 1).Hash: true}
		if rec.Clean {
			t.Fatal("counts as intact")
		}
		for range rec.Pending + 20 {
			c, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			items, err := b.Take(c, 8)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			check(t, err)
			for _, it := range items {
				if s := it.Segment; !genuine[s.Hash] && !mine[s.Hash] && s.Kind != journal.KindNote {
					t.Fatalf("gives out %s seq %d kind %d, which this device never made: %v", s.Chain, s.Seq, s.Kind, rec)
				}
				r := receipt(3)
				if it.Published {
					r = transport.Receipt{}
				}
				check(t, b.Ack(it, r))
			}
		}
	})
}
