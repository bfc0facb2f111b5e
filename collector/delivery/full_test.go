// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/collector/sinktest"
)

// TestDiskFull fills the real disk of the checkpoints while the server is well. The write says what to do, the checkpoint stays behind what was delivered and
// never before it, also for who opens the file anew, and it goes on when there is room: the server has every reading, those that it gets again with the
// same ids.
func TestDiskFull(t *testing.T) {
	disk := sinktest.SmallDisk(t, "2m")
	path := filepath.Join(disk, "checkpoints.db")
	d := &desk{}
	s := open(t, path, d, delivery.Options{Rows: 64, PerSegment: true})
	const per = 10
	var next uint64
	write := func() error { return s.Write(t.Context(), batch(next, next+9, per)) }
	stands := func() uint64 { // seqs that are accounted for
		t.Helper()
		m, err := s.Marks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m[sinktest.Chain(1, 1)].Link.Seq + 1
	}
	for range 5 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
		next += 10
	}
	free := sinktest.FillUp(t, disk)
	var err error
	for ; err == nil && next < 100_000; next += 10 { // the log of the database has some room still
		err = write()
	}
	next -= 10 // that one failed
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "full: make room") {
		t.Fatalf("%d segments, then %v", next, err)
	}
	for range 3 {
		if err := write(); err == nil {
			t.Fatal("the disk is full, and the write was well")
		}
	}
	if got := stands(); got != next || len(d.got) < int(next*per) {
		t.Errorf("the checkpoint is at %d of %d, the server has %d readings", got, next, len(d.got))
	}
	free()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, d, delivery.Options{Rows: 64, PerSegment: true})
	if got := stands(); got != next {
		t.Errorf("opened anew the checkpoint is at %d of %d", got, next)
	}
	for range 3 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
		next += 10
	}
	sent := len(d.got)
	ids := slices.Compact(slices.Sorted(slices.Values(d.got)))
	var want []string
	b := batch(0, next-1, per)
	p := delivery.Parcel{Chain: b.Chain, Rows: b.Readings}
	for i := range p.Rows {
		want = append(want, p.RowID(&p.Rows[i])+"@"+fmt.Sprint(p.Rows[i].At.Wall))
	}
	slices.Sort(want)
	if !slices.Equal(ids, want) || stands() != next {
		t.Errorf("the server has %d different readings of %d, the checkpoint is at %d of %d", len(ids), len(want), stands(), next)
	}
	t.Logf("%d readings, %d sent again while the disk was full", len(want), sent-len(ids))
}
