// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/test/swarm"
)

// faulty makes an outbox whose disk fails as told, and what it logs.
type faulty struct {
	fault atomic.Pointer[error]
	room  atomic.Int64
	o     outbox.Options
	logs  swarm.Buffer
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{o: options(t.TempDir())}
	f.room.Store(1 << 40)
	f.o.Wrap = func(file wal.File) wal.File { return disk{file, &f.fault, &f.room} }
	f.o.Logger = slog.New(slog.NewTextHandler(&f.logs, nil))
	return f
}

func (f *faulty) sync(err error) { f.fault.Store(&err) }

// A card that fails at each fsync for an hour is alarmed once, tried again with a pause that grows, and used again by itself.
func TestDiskError_AlarmedOnce(t *testing.T) {
	k, rs := readerKey(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty(t)
		b, _, err := outbox.Open(ctx, f.o)
		check(t, err)
		defer b.Close()
		h := newHistory(t)
		h.add(start(t, b, "main", rs), seal(t, b, "main", 0, 1))
		f.sync(syscall.EIO)
		tries := 0
		for range 1800 { // as the agent does, every two seconds
			if _, err := b.Seal(ctx, "main", boot, readings(1, 1)); !errors.Is(err, wal.ErrFailed) {
				t.Fatalf("seal: %v", err)
			}
			tries++
			time.Sleep(2 * time.Second)
		}
		if b.Status().Failed == "" || b.Known() > 3 {
			t.Errorf("status says %q, %d chains are kept", b.Status().Failed, b.Known())
		}
		f.fault.Store(nil)
		time.Sleep(time.Minute)
		h.add(seal(t, b, "main", 1, 1))
		if alarms, ends := f.logs.Count("outbox: disk error"), f.logs.Count("takes segments again"); alarms != 1 || ends != 1 {
			t.Errorf("%d alarms and %d ends in %d tries:\n%s", alarms, ends, tries, &f.logs)
		}
		h.add(drain(t, b, receipt(3))...)
		values, gaps, after := h.read(k)
		if len(values) != 2 || values[0] != 0 || values[1] != 1 || len(gaps) != 0 {
			t.Errorf("values %v, gaps %v", values, gaps)
		}
		h.linked(after)
		check(t, b.Close())
		b, _, err = outbox.Open(ctx, f.o)
		check(t, err)
		defer b.Close()
		if n := b.Status().Pending; n != 0 {
			t.Errorf("after a restart %d segments are pending: what was in doubt, and sealed again", n)
		}
		start(t, b, "main", rs)
		f.sync(syscall.EIO) // the next one is alarmed again
		if _, err := b.Seal(ctx, "main", boot, readings(2, 1)); err == nil || f.logs.Count("outbox: disk error") != 2 {
			t.Errorf("%v, %d alarms", err, f.logs.Count("outbox: disk error"))
		}
		f.fault.Store(nil)
	})
}

// While a disk is full each attempt begins an incarnation in vain; none of them stays in memory.
func TestDiskFull_LeavesNothingBehind(t *testing.T) {
	k, rs := readerKey(t)
	f := newFaulty(t)
	b, _ := open(t, f.o)
	start(t, b, "main", rs)
	seal(t, b, "main", 0, 1)
	f.room.Store(0)
	for range 200 {
		if _, err := b.Seal(ctx, "main", boot, readings(1, 1)); !errors.Is(err, wal.ErrFull) {
			t.Fatalf("seal: %v", err)
		}
	}
	if n := b.Known(); n > 2 {
		t.Errorf("%d chains are kept", n)
	}
	f.room.Store(1 << 40)
	seal(t, b, "main", 1, 1)
	h := newHistory(t)
	h.add(drain(t, b, receipt(3))...)
	values, gaps, after := h.read(k)
	if len(values) != 2 || len(gaps) != 0 || len(after) != 1 || b.Known() > 2 {
		t.Errorf("values %v, gaps %v, continuations %v, %d chains", values, gaps, after, b.Known())
	}
	h.linked(after)
}

// A strict outbox spools again by itself after an error of the disk; what it could not spool is sealed all the same, and after a power cut no reading
// comes twice and none that was spooled is missing.
func TestSpool_AfterDiskError(t *testing.T) {
	for name, cause := range map[string]error{"fsync": syscall.EIO, "full": syscall.ENOSPC} {
		t.Run(name, func(t *testing.T) {
			_, rs := readerKey(t)
			synctest.Test(t, func(t *testing.T) {
				f := newFaulty(t)
				f.o.Durability = outbox.Strict
				b, _, err := outbox.Open(ctx, f.o)
				check(t, err)
				start(t, b, "main", rs)
				check(t, b.Spool(ctx, "main", boot, readings(0, 4)))
				if errors.Is(cause, syscall.ENOSPC) {
					f.room.Store(0)
				} else {
					f.sync(cause)
				}
				for i := range 3 {
					if err := b.Spool(ctx, "main", boot, readings(4+2*i, 2)); !errors.Is(err, cause) {
						t.Fatalf("spool: %v", err)
					}
				}
				f.fault.Store(nil)
				f.room.Store(1 << 40)
				time.Sleep(2 * time.Second)
				check(t, b.Spool(ctx, "main", boot, readings(10, 5)))
				seal(t, b, "main", 0, 11) // the first spooled, all that were not, and one that is again
				check(t, b.Close())
				b, rec, err := outbox.Open(ctx, f.o)
				check(t, err)
				defer b.Close()
				var left []float64
				for _, s := range rec.Spooled {
					for _, r := range s.Readings {
						left = append(left, r.Value)
					}
				}
				if len(left) != 4 || left[0] != 11 || left[3] != 14 {
					t.Errorf("not sealed yet: %v, want 11 to 14", left)
				}
			})
		})
	}
}
