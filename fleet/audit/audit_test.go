// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/fleet/audit"
)

func open(t *testing.T, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir string) (all []audit.Event, damaged int) {
	t.Helper()
	damaged, err := audit.Read(dir, func(e audit.Event) error { all = append(all, e); return nil })
	check(t, err)
	return all, damaged
}

func TestLog_GoesOnAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	synced := false
	for round := range 3 {
		l := open(t, audit.Options{Dir: dir, Boot: fmt.Sprint("boot-", round), Synced: func() bool { return synced }})
		check(t, l.Add(audit.Event{Event: "grant", Who: "ann", What: fmt.Sprint("device-", round)}))
		check(t, l.Refused(audit.Event{Event: "refused-claim", Who: "stranger"}))
		check(t, l.Close())
		synced = true
	}
	all, damaged := read(t, dir)
	if len(all) != 6 || damaged != 0 {
		t.Fatalf("%d events, %d damaged", len(all), damaged)
	}
	for i, e := range all {
		if e.Seq != uint64(i+1) || e.Boot != fmt.Sprint("boot-", i/2) || e.Synced != (i >= 2) || time.Since(e.Time) > time.Hour {
			t.Errorf("line %d: %+v", i, e)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestLog_TornLine: whatever part of the last line a power cut leaves, the rest is read and the log goes on with the next number.
func TestLog_TornLine(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Options{Dir: dir})
	for range 3 {
		check(t, l.Add(audit.Event{Event: "grant", What: "device"}))
	}
	check(t, l.Close())
	names, err := filepath.Glob(filepath.Join(dir, "decided-*"))
	check(t, err)
	whole, err := os.ReadFile(names[0])
	check(t, err)
	last := strings.LastIndexByte(strings.TrimSpace(string(whole)), '\n') + 1
	for cut := last; cut < len(whole); cut++ {
		check(t, os.WriteFile(names[0], whole[:cut], 0o600))
		if all, damaged := read(t, dir); len(all) != 2 || damaged != 0 {
			t.Fatalf("cut at %d: %d events, %d damaged", cut, len(all), damaged)
		}
		l := open(t, audit.Options{Dir: dir})
		check(t, l.Add(audit.Event{Event: "revoke"}))
		check(t, l.Close())
		all, damaged := read(t, dir)
		if len(all) != 3 || damaged != 0 || all[2].Event != "revoke" || all[2].Seq != 3 {
			t.Fatalf("cut at %d: %d damaged, %+v", cut, damaged, all)
		}
	}
}

// TestLog_DamageIsCounted: a changed line is not an event, and does not hide the others.
func TestLog_DamageIsCounted(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Options{Dir: dir})
	for range 3 {
		check(t, l.Add(audit.Event{Event: "grant"}))
	}
	names, err := filepath.Glob(filepath.Join(dir, "decided-*"))
	check(t, err)
	data, err := os.ReadFile(names[0])
	check(t, err)
	data[0] = '#'
	check(t, os.WriteFile(names[0], data, 0o600))
	if all, damaged := read(t, dir); len(all) != 2 || damaged != 1 {
		t.Errorf("%d events, %d damaged", len(all), damaged)
	}
}

// TestLog_StaysBounded writes many times what fits; the newest stay. Refusals, however many, never push out what was decided.
func TestLog_StaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 64 << 10
		dir := t.TempDir()
		l := open(t, audit.Options{Dir: dir, Max: limit})
		check(t, l.Add(audit.Event{Event: "grant", What: "the first"}))
		detail := strings.Repeat("é", 400) // longer than a line may hold
		for i := range 400 {
			time.Sleep(10 * time.Second) // of the bubble: so that the rate never holds one back
			check(t, l.Refused(audit.Event{Event: "refused-claim", Who: fmt.Sprint("stranger-", i), Detail: detail}))
		}
		all, _ := read(t, dir)
		if all[0].What != "the first" {
			t.Errorf("the oldest is %+v: refusals pushed out a grant", all[0])
		}
		for i := range 400 {
			check(t, l.Add(audit.Event{Event: "grant", What: fmt.Sprint(i), Detail: detail}))
		}
		all, damaged := read(t, dir)
		if last := all[len(all)-1]; last.What != "399" || last.Seq != 801 || damaged != 0 || !strings.HasPrefix(detail, last.Detail) {
			t.Errorf("%d damaged, the newest is %+v", damaged, last)
		}
		size := int64(0)
		entries, err := os.ReadDir(dir)
		check(t, err)
		for _, e := range entries {
			info, err := e.Info()
			check(t, err)
			size += info.Size()
		}
		if size > limit || size < limit/2 {
			t.Errorf("%d bytes of %d", size, limit)
		}
		if !slices.IsSortedFunc(all, func(a, b audit.Event) int { return int(a.Seq) - int(b.Seq) }) {
			t.Error("not in order")
		}
	})
}

// TestRefused_FloodIsCounted: a flood costs a few lines, and its size is known afterwards.
func TestRefused_FloodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := open(t, audit.Options{Dir: dir})
		const flood = 5000
		for range flood {
			check(t, l.Refused(audit.Event{Event: "refused-claim"}))
			time.Sleep(time.Millisecond)
		}
		check(t, l.Refused(audit.Event{Event: "refused-stream"})) // another kind is not held back
		time.Sleep(time.Minute)
		check(t, l.Refused(audit.Event{Event: "refused-claim"}))
		for range 100 {
			check(t, l.Refused(audit.Event{Event: "refused-claim"}))
		}
		check(t, l.Close())
		all, _ := read(t, dir)
		told := uint64(0)
		for _, e := range all {
			if e.Event == "refused-claim" {
				told += e.Dropped
				if e.Detail == "" {
					told++
				}
			}
		}
		if told != flood+101 || len(all) > 30 {
			t.Errorf("%d lines tell of %d refusals", len(all), told)
		}
	})
}

// TestRefused_ManyKinds: kinds that somebody outside could choose do not get around the limit, nor fill the memory.
func TestRefused_ManyKinds(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Options{Dir: dir})
	for i := range 2000 {
		check(t, l.Refused(audit.Event{Event: fmt.Sprint("kind-", i)}))
	}
	check(t, l.Close())
	all, _ := read(t, dir)
	told := uint64(0)
	for _, e := range all {
		if told += e.Dropped; e.Detail == "" {
			told++
		}
	}
	if len(all) > 300 || told != 2000 {
		t.Errorf("%d lines tell of %d refusals", len(all), told)
	}
}

func TestOpen_OneWriter(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Options{Dir: dir})
	if _, err := audit.Open(audit.Options{Dir: dir}); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := l.Add(audit.Event{Event: "grant"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	check(t, l.Close())
	if err := l.Add(audit.Event{Event: "grant"}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("written after Close: %v", err)
	}
	check(t, open(t, audit.Options{Dir: dir}).Close())
	if events, _ := read(t, dir); len(events) != 8 {
		t.Errorf("%d events", len(events))
	}
	if events, _ := read(t, filepath.Join(dir, "nowhere")); len(events) != 0 {
		t.Errorf("%d events of nothing", len(events))
	}
}

func BenchmarkAdd(b *testing.B) {
	l, err := audit.Open(audit.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := l.Add(audit.Event{Event: "grant", Who: "12D3KooWNonsense", What: "pi-1"}); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
