// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/streembit/edge/journal/wal"
)

// disk is a File that fails on demand.
type disk struct {
	wal.File
	writeErr, syncErr, cutErr error
	partial                   int           // bytes written before writeErr
	hold                      chan struct{} // Sync waits for it
	inSync                    chan struct{} // Sync says here that it waits
}

func (d *disk) wrap(f wal.File) wal.File { d.File = f; return d }

func (d *disk) WriteAt(b []byte, off int64) (int, error) {
	if d.writeErr == nil {
		return d.File.WriteAt(b, off)
	}
	n, err := d.File.WriteAt(b[:min(d.partial, len(b))], off)
	return n, errors.Join(err, d.writeErr)
}

func (d *disk) Sync() error {
	if d.hold != nil {
		if d.inSync != nil {
			d.inSync <- struct{}{}
		}
		<-d.hold
	}
	if d.syncErr != nil {
		return d.syncErr
	}
	return d.File.Sync()
}

func (d *disk) Truncate(n int64) error {
	if d.cutErr != nil {
		return d.cutErr
	}
	return d.File.Truncate(n)
}

// TestDiskError: after an error of the disk every append is refused with the cause, no marker is written, and what was
// acknowledged before is there when the log is opened again.
func TestDiskError(t *testing.T) {
	cause := syscall.EIO
	for name, breakDisk := range map[string]func(d *disk){
		"sync":              func(d *disk) { d.syncErr = cause },
		"write":             func(d *disk) { d.writeErr, d.partial = cause, 13 },
		"full, cannot cut":  func(d *disk) { d.writeErr, d.partial, d.cutErr = syscall.ENOSPC, 13, cause },
		"full, cannot sync": func(d *disk) { d.writeErr, d.partial, d.syncErr = syscall.ENOSPC, 13, cause },
	} {
		t.Run(name, func(t *testing.T) {
			dir, d := t.TempDir(), &disk{}
			l, _, _ := open(t, dir, wal.Options{Wrap: d.wrap})
			want := add(t, l, frame(1, 100), frame(2, 200))
			breakDisk(d)
			if _, err := l.Append(t.Context(), frame(3, 100)); !errors.Is(err, wal.ErrFailed) || !errors.Is(err, cause) {
				t.Fatalf("append: %v", err)
			}
			*d = disk{File: d.File} // well again, but who knows what is on it
			if _, err := l.Append(t.Context(), frame(4, 100)); !errors.Is(err, wal.ErrFailed) || !errors.Is(err, cause) {
				t.Fatalf("append after it: %v", err)
			}
			same(t, "scan", scan(t, l, wal.Pos{}), want)
			if err := l.Close(); !errors.Is(err, wal.ErrFailed) {
				t.Fatalf("close: %v", err)
			}
			l, rec, got := open(t, dir, wal.Options{})
			if len(got) < len(want) {
				t.Fatalf("%d frames of %d", len(got), len(want))
			}
			same(t, "reopened", got[:len(want)], want)
			if rec.Clean {
				t.Error("clean")
			}
			add(t, l, frame(5, 5))
		})
	}
}

// TestFailedWaiters: callers that wait while a sync fails all learn it.
func TestFailedWaiters(t *testing.T) {
	d := &disk{}
	l, _, _ := open(t, t.TempDir(), wal.Options{Wrap: d.wrap})
	d.hold, d.syncErr = make(chan struct{}), syscall.EIO
	const callers = 10
	errs := make(chan error, callers)
	for i := range callers {
		go func() {
			_, err := l.Append(context.Background(), frame(i, 10))
			errs <- err
		}()
	}
	close(d.hold)
	for range callers {
		if err := <-errs; !errors.Is(err, wal.ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%v", err)
		}
	}
}

// TestDiskFull: with no room on the disk nothing stays of the append, and the log goes on when there is room again.
func TestDiskFull(t *testing.T) {
	dir, d := t.TempDir(), &disk{}
	l, _, _ := open(t, dir, wal.Options{Wrap: d.wrap, FileSize: 1000})
	want := add(t, l, frame(1, 500))
	size := l.Size()
	for _, n := range []int{100, 900} { // the second needs a new file
		d.writeErr, d.partial = syscall.ENOSPC, 20
		if _, err := l.Append(t.Context(), frame(2, n)); !errors.Is(err, wal.ErrFull) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, wal.ErrFailed) {
			t.Fatalf("append of %d: %v", n, err)
		}
		checkSize(t, dir, size)
		d.writeErr = nil
		d.File = activeFile(t, dir)
	}
	if l.Size() != size {
		t.Errorf("size %d, was %d", l.Size(), size)
	}
	want = append(want, add(t, l, frame(3, 100))...)
	closeLog(t, l)
	_, rec, got := open(t, dir, wal.Options{})
	same(t, "reopened", got, want)
	if !rec.Clean {
		t.Errorf("%+v", rec)
	}
}

type plainFile struct{ *os.File }

// activeFile opens the last log file: the wrapper of the file that could not be begun had taken the place of its own.
func activeFile(t *testing.T, dir string) wal.File {
	all := files(t, dir)
	f, err := os.OpenFile(all[len(all)-1], os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return plainFile{f}
}

// skip skips the test, loudly, or fails it where all must run.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("not run: " + why)
	}
	t.Skip("SKIPPED: " + why)
}

// TestRealDiskFull fills a file system of 256 KiB.
func TestRealDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		skip(t, "mounting a small tmpfs needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		skip(t, "mounting a small tmpfs: "+err.Error())
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	l, _, _ := open(t, dir, wal.Options{FileSize: 50_000})
	var want []kept
	var err error
	for i := range 1000 {
		var pos []wal.Pos
		data := frame(i, 1+i*37%6000)
		if pos, err = l.Append(t.Context(), data); err != nil {
			break
		}
		want = append(want, kept{pos[0], data})
	}
	if !errors.Is(err, wal.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d frames: %v", len(want), err)
	}
	freed, err := l.Drop(wal.Pos{File: 2})
	if err != nil || freed == 0 {
		t.Fatalf("drop: %d %v", freed, err)
	}
	for want[0].at.File == 1 {
		want = want[1:]
	}
	want = append(want, add(t, l, frame(1, 5000))...)
	checkSize(t, dir, l.Size())
	closeLog(t, l)
	l, rec, got := open(t, dir, wal.Options{})
	same(t, "reopened", got, want)
	t.Logf("%d frames, %+v", len(got), rec)
	closeLog(t, l)
}

func TestQuotaAndDrop(t *testing.T) {
	dir := t.TempDir()
	o := wal.Options{FileSize: 1000, Quota: 5000}
	l, _, _ := open(t, dir, o)
	var want []kept
	for i := 0; ; i++ {
		pos, err := l.Append(t.Context(), frame(i, 100))
		if errors.Is(err, wal.ErrFull) && !errors.Is(err, syscall.ENOSPC) {
			break
		}
		must(t, err)
		want = append(want, kept{pos[0], frame(i, 100)})
	}
	if l.Size() > o.Quota || l.Size() < o.Quota-200 {
		t.Errorf("full with %d bytes of %d", l.Size(), o.Quota)
	}
	checkSize(t, dir, l.Size())
	if freed, err := l.Drop(wal.Pos{File: 1, Off: 500}); freed != 0 || err != nil {
		t.Errorf("dropped %d of a file that is needed: %v", freed, err)
	}
	before := l.Size()
	freed, err := l.Drop(wal.Pos{File: 3, Off: 30})
	if err != nil || freed == 0 || l.Size() != before-freed {
		t.Fatalf("freed %d, size %d, was %d: %v", freed, l.Size(), before, err)
	}
	checkSize(t, dir, l.Size())
	if _, err := l.Read(want[0].at); !errors.Is(err, wal.ErrGone) {
		t.Errorf("read of a dropped frame: %v", err)
	}
	for want[0].at.File < 3 {
		want = want[1:]
	}
	want = append(want, add(t, l, frame(7, 100))...)
	same(t, "scan", scan(t, l, wal.Pos{}), want)
	closeLog(t, l)
	l, rec, got := open(t, dir, o)
	same(t, "reopened", got, want)
	if !rec.Clean || rec.Reason != "" {
		t.Errorf("%+v", rec)
	}
	if _, err := l.Drop(l.End()); err != nil {
		t.Fatal(err)
	}
	if got := scan(t, l, wal.Pos{}); len(got) == 0 || got[0].at.File != l.End().File {
		t.Errorf("the file that is written was dropped, or others were not: %d frames", len(got))
	}
}

func TestRefused(t *testing.T) {
	l, _, _ := open(t, t.TempDir(), wal.Options{MaxFrame: 10})
	want := add(t, l, frame(1, 10))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		frames [][]byte
		want   error
	}{
		"too large": {t.Context(), [][]byte{{1}, frame(2, 11)}, wal.ErrFrameTooLarge},
		"empty":     {t.Context(), [][]byte{{1}, {}}, wal.ErrFrameEmpty},
		"cancelled": {ended, [][]byte{{1}}, context.Canceled},
		"nothing":   {t.Context(), nil, nil},
	} {
		if pos, err := l.Append(c.ctx, c.frames...); !errors.Is(err, c.want) || len(pos) != 0 {
			t.Errorf("%s: %v %v", name, pos, err)
		}
	}
	same(t, "scan", scan(t, l, wal.Pos{}), want)
	for _, p := range []wal.Pos{{}, {File: 1}, {File: 1, Off: 99}, l.End(), {File: 9, Off: 24}} {
		if _, err := l.Read(p); !errors.Is(err, wal.ErrGone) {
			t.Errorf("read of %v: %v", p, err)
		}
	}
	if _, err := l.Read(wal.Pos{File: 1, Off: 25}); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("read of half a frame: %v", err)
	}
	closeLog(t, l)
	closeLog(t, l)
	_, err := l.Append(t.Context(), []byte{1})
	_, readErr := l.Read(want[0].at)
	if !errors.Is(err, wal.ErrClosed) || !errors.Is(readErr, wal.ErrClosed) {
		t.Errorf("after close: %v, %v", err, readErr)
	}
	if _, _, err := wal.Open(t.TempDir(), wal.Options{MaxFrame: 1 << 30}, nil); err == nil {
		t.Error("a MaxFrame of 1 GiB is taken")
	}
}

// TestAckAfterSync: nobody hears of success, or sees the frame, while the sync is under way.
func TestAckAfterSync(t *testing.T) {
	d := &disk{}
	l, _, _ := open(t, t.TempDir(), wal.Options{Wrap: d.wrap})
	before := l.End()
	d.hold, d.inSync = make(chan struct{}), make(chan struct{})
	acked := make(chan error, 1)
	go func() {
		_, err := l.Append(context.Background(), []byte("frame"))
		acked <- err
	}()
	<-d.inSync
	select {
	case err := <-acked:
		t.Errorf("acknowledged before the sync ended: %v", err)
	default:
	}
	if got := scan(t, l, wal.Pos{}); len(got) != 0 || l.End() != before {
		t.Errorf("%d frames are visible before the sync ended", len(got))
	}
	d.inSync = nil // the hold stays open from now on
	close(d.hold)
	must(t, <-acked)
	same(t, "after it", scan(t, l, wal.Pos{}), []kept{{before, []byte("frame")}})
}

// TestCancelled: a caller that gives up while the disk hangs neither waits nor harms the others.
func TestCancelled(t *testing.T) {
	d := &disk{}
	l, _, _ := open(t, t.TempDir(), wal.Options{Wrap: d.wrap})
	d.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 2)
	for _, c := range []context.Context{ctx, context.Background()} {
		go func() {
			_, err := l.Append(c, frame(1, 10))
			got <- err
		}()
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled caller: %v", err)
	}
	close(d.hold)
	if err := <-got; err != nil {
		t.Fatalf("the other caller: %v", err)
	}
	if n := len(scan(t, l, wal.Pos{})); n < 1 || n > 2 {
		t.Errorf("%d frames", n)
	}
}
