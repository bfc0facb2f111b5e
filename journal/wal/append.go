// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	maxGroup  = 4 << 20               // bytes written by one group commit, one larger call apart
	maxWindow = 10 * time.Millisecond // longest wait for more callers
)

// request is one call of Append. It belongs to the committer from when it is queued until done has its result.
type request struct {
	buf  []byte // the frames, their CRCs missing
	pos  []Pos
	done chan error // capacity 1: the committer never waits for a caller
}

// Append writes the frames, together and in order, and returns where each starts once all are durable. Callers at the
// same time share one write and one sync. The frames are copied before Append waits.
//
// If ctx ends first, ctx.Err() is returned and the frames may or may not become durable. A crash during the call may
// leave some first frames of it. Errors: ErrFrameTooLarge, ErrFrameEmpty, ErrClosed; ErrFull when the quota or the disk
// (then syscall.ENOSPC too) has no room: nothing was written and the log goes on; ErrFailed and its cause after any
// other disk error, and from then on.
func (l *Log) Append(ctx context.Context, frames ...[]byte) ([]Pos, error) {
	pos, err := l.append(ctx, frames)
	if err != nil {
		return nil, fmt.Errorf("wal: appending to %s: %w", l.dir, err)
	}
	return pos, nil
}

func (l *Log) append(ctx context.Context, frames [][]byte) ([]Pos, error) {
	size := 0
	for _, f := range frames {
		if len(f) == 0 {
			return nil, ErrFrameEmpty
		}
		if len(f) > l.opt.MaxFrame {
			return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLarge, len(f), l.opt.MaxFrame)
		}
		size += frameHead + len(f)
	}
	if err := ctx.Err(); err != nil || size == 0 {
		return nil, err
	}
	r := &request{buf: make([]byte, 0, size), pos: make([]Pos, 0, len(frames)), done: make(chan error, 1)}
	for _, f := range frames {
		r.buf = appendFrame(r.buf, f)
	}
	if err := l.queue(r); err != nil {
		return nil, err
	}
	select {
	case err := <-r.done:
		return r.pos, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Log) queue(r *request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.failed != nil {
		return l.failed
	}
	l.pending = append(l.pending, r)
	if n := len(l.pending); n == 1 || n >= l.callers {
		l.signal()
	}
	return nil
}

// signal wakes the committer.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run is the committer: the only goroutine that writes files between Open and Close.
func (l *Log) run() {
	defer close(l.done)
	for {
		l.gather()
		group, rotate, closed := l.take()
		if len(group) > 0 {
			l.finish(group, l.commit(group, rotate))
		} else if closed {
			return
		} else {
			<-l.wake
		}
	}
}

// gather waits until as many callers have queued as there were around the last commit, but for a small part of what a
// sync takes. Without it the first to come back would have a sync of its own, each time. A lone caller never waits.
func (l *Log) gather() {
	l.mu.Lock()
	window := min(l.stats.MeanSync/4, maxWindow)
	idle := len(l.pending) == 0
	l.mu.Unlock()
	if idle {
		return
	}
	timer := time.NewTimer(window)
	defer timer.Stop()
	for !l.gathered() {
		select {
		case <-l.wake:
		case <-timer.C:
			return
		}
	}
}

func (l *Log) gathered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending) >= l.callers || l.closed
}

// take returns the queued requests that the next write serves, at least one if there is one, and whether they need a
// new file. They stay within the quota unless there is only one.
func (l *Log) take() (group []*request, rotate, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return nil, false, l.closed
	}
	used, free := l.files[len(l.files)-1].size, int64(maxGroup)
	if l.opt.Quota > 0 {
		free = min(free, l.opt.Quota-l.total)
	}
	if rotate = used > headerSize && used+int64(len(l.pending[0].buf)) > l.opt.FileSize; rotate {
		used, free = headerSize, free-headerSize
	}
	free = min(free, l.opt.FileSize-used)
	n := 0
	for n < len(l.pending) {
		if free -= int64(len(l.pending[n].buf)); free < 0 && n > 0 {
			break
		}
		n++
	}
	group = l.pending[:n:n]
	l.pending = l.pending[n:]
	return group, rotate, l.closed
}

// finish tells the callers of a group.
func (l *Log) finish(group []*request, err error) {
	l.mu.Lock()
	l.callers = len(group) + len(l.pending)
	if errors.Is(err, ErrFailed) {
		l.failed = err
		group = append(group, l.pending...)
		l.pending = nil
	}
	l.mu.Unlock()
	for _, r := range group {
		r.done <- err
	}
}

// commit makes a group durable.
func (l *Log) commit(group []*request, rotate bool) error {
	if err := l.checkQuota(group, rotate); err != nil {
		return err
	}
	if rotate {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	seg := l.active()
	data := l.seal(group, seg)
	if _, err := l.out.WriteAt(data, seg.size); err != nil {
		return l.writeFailed(seg, err)
	}
	start := time.Now()
	if err := l.out.Sync(); err != nil {
		return fmt.Errorf("%w: syncing %s: %w", ErrFailed, fileName(seg.no), err)
	}
	l.committed(group, data, time.Since(start))
	return nil
}

func (l *Log) checkQuota(group []*request, rotate bool) error {
	need := int64(0)
	for _, r := range group {
		need += int64(len(r.buf))
	}
	if rotate {
		need += headerSize
	}
	if have := l.Size(); l.opt.Quota > 0 && have+need > l.opt.Quota {
		return fmt.Errorf("%w: %d bytes of the quota of %d are used and %d more are needed", ErrFull, have, l.opt.Quota, need)
	}
	return nil
}

// seal gives the frames of a group their places behind seg, and returns their bytes.
func (l *Log) seal(group []*request, seg segment) []byte {
	off := seg.size
	for _, r := range group {
		for b := r.buf; len(b) > 0; {
			n := frameLen(b)
			p := Pos{seg.no, off}
			seal(b[:n], p)
			r.pos = append(r.pos, p)
			b, off = b[n:], off+n
		}
	}
	if len(group) == 1 {
		return group[0].buf
	}
	l.buf = l.buf[:0]
	for _, r := range group {
		l.buf = append(l.buf, r.buf...)
	}
	return l.buf
}

// writeFailed turns an error of a write into what the callers get. When the disk is full, what was written of the group
// is cut off again; if that works the log goes on.
func (l *Log) writeFailed(seg segment, cause error) error {
	if diskFull(cause) {
		err := l.out.Truncate(seg.size)
		if err == nil {
			err = l.out.Sync()
		}
		if err == nil {
			return fmt.Errorf("%w: %w", ErrFull, cause)
		}
		cause = errors.Join(cause, err)
	}
	return fmt.Errorf("%w: writing %s: %w", ErrFailed, fileName(seg.no), cause)
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// committed notes that data, the frames of group, are durable at the end of the active file.
func (l *Log) committed(group []*request, data []byte, sync time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seg := &l.files[len(l.files)-1]
	seg.size += int64(len(data))
	l.total += int64(len(data))
	for b := data; len(b) > 0; b = b[frameLen(b):] {
		seg.digest = crc32.Update(seg.digest, castagnoli, b[:frameHead])
		l.stats.Frames++
	}
	l.stats.Appends += uint64(len(group))
	l.stats.Bytes += uint64(len(data))
	l.stats.Syncs++
	l.stats.LastSync = sync
	if l.stats.MeanSync == 0 {
		l.stats.MeanSync = sync
	}
	l.stats.MeanSync += (sync - l.stats.MeanSync) / 8
}

func (l *Log) active() segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[len(l.files)-1]
}

// rotate begins the file after the active one.
func (l *Log) rotate() error {
	no := l.active().no + 1
	err := l.create(no)
	if err == nil {
		return nil
	}
	if diskFull(err) && os.Remove(filepath.Join(l.dir, fileName(no))) == nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("%w: beginning %s: %w", ErrFailed, fileName(no), err)
}

// create makes file no, durable with its header, the active one. An older file of that number holds nothing that was
// ever acknowledged.
func (l *Log) create(no uint64) error {
	f, err := os.OpenFile(filepath.Join(l.dir, fileName(no)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	out, head := l.opt.Wrap(osFile{f}), newHeader(no)
	if _, err = out.WriteAt(head, 0); err == nil {
		if err = out.Sync(); err == nil {
			err = l.lock.Sync()
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if l.outFile != nil {
		_ = l.outFile.Close() // all of it was synced
	}
	l.out, l.outFile = out, f
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, segment{no: no, size: headerSize, digest: crc32.Checksum(head, castagnoli)})
	l.total += headerSize
	l.stats.Syncs++
	l.stats.Bytes += headerSize
	return nil
}
