// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
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
func (l *Log) Append(ctx context.Context, frames ...[]byte) (_ []Pos, err error) {
	defer wrap(&err, "appending to", l.dir)
	r, err := l.newRequest(frames)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil || len(frames) == 0 {
		return nil, err
	}
	if err := l.queue(r); err != nil {
		return nil, err
	}
	select {
	case err := <-r.done:
		if err != nil {
			return nil, err
		}
		return r.pos, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Log) newRequest(frames [][]byte) (*request, error) {
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
	r := &request{buf: make([]byte, 0, size), pos: make([]Pos, 0, len(frames)), done: make(chan error, 1)}
	for _, f := range frames {
		r.buf = appendFrame(r.buf, f)
	}
	return r, nil
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
	var timeout <-chan time.Time
	for {
		l.mu.Lock()
		n, enough, window := len(l.pending), l.callers, min(l.stats.MeanSync/4, maxWindow)
		closed := l.closed
		l.mu.Unlock()
		if n == 0 || n >= enough || closed {
			return
		}
		if timeout == nil {
			timeout = time.After(window)
		}
		select {
		case <-l.wake:
		case <-timeout:
			return
		}
	}
}

// take returns the queued requests that the next write serves, at least one if there is one, and whether they need a
// new file. They fit the file, and are within the quota, unless there is only one.
func (l *Log) take() (group []*request, rotate, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return nil, false, l.closed
	}
	used, free := l.files[len(l.files)-1].size, l.quotaLeft()
	if rotate = used > headerSize && used+int64(len(l.pending[0].buf)) > l.opt.FileSize; rotate {
		used, free = headerSize, free-headerSize
	}
	free = min(free, l.opt.FileSize-used, maxGroup)
	n := 0
	for ; n < len(l.pending); n++ {
		if free -= int64(len(l.pending[n].buf)); free < 0 && n > 0 {
			break
		}
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
	data := l.join(group)
	l.mu.Lock()
	left := l.quotaLeft()
	l.mu.Unlock()
	if rotate {
		left -= headerSize
	}
	if left < int64(len(data)) {
		return fmt.Errorf("%w: %d bytes do not fit in the %d left of the quota of %d", ErrFull, len(data), max(left, 0), l.opt.Quota)
	}
	if rotate {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	seg := l.active()
	place(group, &seg, data)
	if _, err := l.out.WriteAt(data, l.End().Off); err != nil {
		return l.writeFailed(l.End(), err)
	}
	start := time.Now()
	if err := l.out.Sync(); err != nil {
		return fmt.Errorf("%w: syncing %s: %w", ErrFailed, fileName(seg.no), err)
	}
	l.committed(group, seg, time.Since(start))
	return nil
}

// quotaLeft returns how many bytes the files may still grow; l.mu is held.
func (l *Log) quotaLeft() int64 {
	if l.opt.Quota == 0 {
		return math.MaxInt64
	}
	return l.opt.Quota - l.total
}

// join returns the bytes of a group.
func (l *Log) join(group []*request) []byte {
	if len(group) == 1 {
		return group[0].buf
	}
	l.buf = l.buf[:0]
	for _, r := range group {
		l.buf = append(l.buf, r.buf...)
	}
	return l.buf
}

// place seals the frames of a group, whose bytes are data, for their places behind seg, and makes seg hold them.
func place(group []*request, seg *segment, data []byte) {
	for _, r := range group {
		for range cap(r.pos) {
			p, n := Pos{seg.no, seg.size}, frameLen(data)
			seal(data[:n], p)
			r.pos = append(r.pos, p)
			seg.add(data[:n])
			data = data[n:]
		}
	}
}

// writeFailed turns an error of a write into what the callers get. When the disk is full, what was written of the group
// is cut off again; if that works the log goes on.
func (l *Log) writeFailed(end Pos, cause error) error {
	if diskFull(cause) {
		err := l.out.Truncate(end.Off)
		if err == nil {
			err = l.out.Sync()
		}
		if err == nil {
			return fmt.Errorf("%w: %w", ErrFull, cause)
		}
		cause = errors.Join(cause, err)
	}
	return fmt.Errorf("%w: writing %s: %w", ErrFailed, fileName(end.File), cause)
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// committed notes that a group is durable and that the active file is now seg.
func (l *Log) committed(group []*request, seg segment, sync time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := &l.files[len(l.files)-1]
	grown := seg.size - last.size
	*last = seg
	l.total += grown
	for _, r := range group {
		l.stats.Frames += uint64(len(r.pos))
	}
	l.stats.Appends += uint64(len(group))
	l.stats.Bytes += uint64(grown)
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
	no := l.End().File + 1
	err := l.create(no)
	if diskFull(err) && os.Remove(l.path(no)) == nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err != nil {
		return fmt.Errorf("%w: beginning %s: %w", ErrFailed, fileName(no), err)
	}
	return nil
}

// create makes file no, durable with its header, the active one. An older file of that number holds nothing that was
// ever acknowledged.
func (l *Log) create(no uint64) error {
	f, err := os.OpenFile(l.path(no), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
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
