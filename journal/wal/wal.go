// SPDX-License-Identifier: Apache-2.0

// Package wal is an append-only log of opaque frames on disk, made for cards and disks that lose their power: the
// outbox of a device and the store of a hub are both one Log. Many writers share one fdatasync (group commit), a torn
// tail is cut off when the log is opened, damage in the middle costs the damaged frames only, and an error of the disk
// stops the log instead of being retried.
//
// On disk a log is a directory of files 0000000000000001.wal, 0000000000000002.wal, … Integers are little-endian:
//
//	file   = header frame*
//	header = "streemWL" | version u32 = 1 | file number u64 | CRC-32C of the 20 bytes before u32
//	frame  = length u32 (of data, at least 1) | CRC-32C u32 | data
//
// A frame's CRC (Castagnoli, RFC 3720 appendix B.4) runs over file number u64, offset of the frame u64, length u32 and
// data: so neither a stale block of an older file nor a frame inside somebody's data can pass for a frame of the log.
package wal

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// What errors of this package wrap.
var (
	ErrClosed        = errors.New("log is closed")
	ErrCorrupt       = errors.New("frame is damaged on disk")
	ErrFailed        = errors.New("log stopped after a disk error; close it and open it again")
	ErrFrameTooLarge = errors.New("frame is larger than the log allows")
	ErrFrameEmpty    = errors.New("a frame holds at least one byte")
	ErrFull          = errors.New("log is full; drop what is no longer needed")
	ErrGone          = errors.New("no frame there: it was dropped, or never written")
	ErrLocked        = errors.New("another process has the log open")
	ErrVersion       = errors.New("not a log that this program can read")
)

// Options of a log; zero values mean the defaults.
type Options struct {
	FileSize int64        // bytes at which a new file is begun; default 1 MiB. One Append never spans two files.
	MaxFrame int          // bytes of the largest frame that Append takes; default 512 KiB, at most 16 MiB
	Quota    int64        // bytes that all files together may have, headers included; 0 = no limit
	Logger   *slog.Logger // damage found is logged here; nil = nowhere

	// Wrap, where set, stands between the log and each file that it writes; tests make disks fail with it.
	Wrap func(File) File
}

// File is how the log writes a file. Sync makes the data and the size durable (fdatasync).
type File interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
}

// Pos is where a frame starts. The zero Pos lies before everything.
type Pos struct {
	File uint64 // the file's number, from 1
	Off  int64  // bytes from the file's beginning
}

// Compare orders positions: -1 if p lies before o, 0 if they are the same, 1 if p lies after o.
func (p Pos) Compare(o Pos) int {
	return cmp.Or(cmp.Compare(p.File, o.File), cmp.Compare(p.Off, o.Off))
}

// String returns "file:offset" in decimal.
func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.File, p.Off) }

// Recovery says what Open found. Damage in the middle of the log stays on disk, is skipped and is reported by each Open;
// Clean then says whether it was there already when the log was closed.
type Recovery struct {
	Frames  int    // intact frames
	Dropped int64  // bytes cut off or skipped
	Reason  string // what was dropped first, and how many more places there are; "" if nothing
	// Clean: the marker that Close writes was there and proved that the log is, in place and content, exactly what was
	// closed. It is false for a new log and after a kill, a truncation, a copy or a restored backup, and on file systems
	// that do not number their files for good (FAT).
	Clean bool
}

// Stats are counters since Open.
type Stats struct {
	Appends  uint64        // calls of Append that became durable
	Frames   uint64        // frames that became durable
	Syncs    uint64        // fdatasync calls of files
	Bytes    uint64        // bytes written to files, headers included
	LastSync time.Duration // how long the last group's sync took
	MeanSync time.Duration // moving average over about 8 groups
}

// Log is an open log. All methods may be called concurrently.
type Log struct {
	dir  string
	opt  Options
	lock *os.File      // the directory, with the lock on it
	wake chan struct{} // capacity 1: something is pending, or the log closes
	done chan struct{} // closed when the committer has ended

	closing  sync.Once
	closeErr error
	dropping sync.Mutex // one Drop at a time

	mu      sync.Mutex
	files   []segment // by number; the last is the one that is written
	pending []*request
	closed  bool
	failed  error
	total   int64 // bytes of all files
	callers int   // around the last commit
	stats   Stats

	// The committer's own, Open and Close apart.
	out     File
	outFile *os.File
	buf     []byte
}

// segment is one file of the log: what of it is durable, and a CRC of its header and of all its frames' heads.
type segment struct {
	no     uint64
	size   int64
	digest uint32
}

// add takes a sealed frame that stands at the end of the file into account.
func (s *segment) add(frame []byte) {
	s.digest = crc32.Update(s.digest, castagnoli, frame[:frameHead])
	s.size += int64(len(frame))
}

func (l *Log) path(no uint64) string { return filepath.Join(l.dir, fileName(no)) }

// wrap says in an error what was being done to which log.
func wrap(err *error, doing, dir string) {
	if *err != nil {
		*err = fmt.Errorf("wal: %s %s: %w", doing, dir, *err)
	}
}

// Open opens the log in dir, creating the directory if need be, and calls visit (which may be nil) for every intact
// frame in order; the bytes belong to the log and are valid until visit returns. A torn tail is cut off. An error of
// visit ends Open and leaves the log as it was. Only one Log can have a directory open: ErrLocked. Files of another
// version are refused: ErrVersion.
func Open(dir string, o Options, visit func(Pos, []byte) error) (_ *Log, rec Recovery, err error) {
	defer wrap(&err, "opening", dir)
	l := &Log{dir: dir, opt: o, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err = l.opt.setDefaults(); err != nil {
		return nil, rec, err
	}
	if l.lock, err = lockDir(dir); err != nil {
		return nil, rec, err
	}
	if rec, err = l.recover(visit); err != nil {
		l.release()
		return nil, rec, err
	}
	go l.run()
	return l, rec, nil
}

func (o *Options) setDefaults() error {
	o.FileSize = cmp.Or(o.FileSize, 1<<20)
	o.MaxFrame = cmp.Or(o.MaxFrame, 512<<10)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Wrap == nil {
		o.Wrap = func(f File) File { return f }
	}
	if o.FileSize < 0 || o.Quota < 0 || o.MaxFrame < 0 || o.MaxFrame > frameLimit {
		return fmt.Errorf("options: FileSize %d, Quota %d and MaxFrame %d must be positive, MaxFrame at most %d",
			o.FileSize, o.Quota, o.MaxFrame, frameLimit)
	}
	return nil
}

// Close waits for the appends under way, then writes the marker that lets the next Open report Clean; after a disk error
// it writes none and returns that error. Later calls return what the first returned.
func (l *Log) Close() error {
	l.closing.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		l.signal()
		<-l.done
		l.dropping.Lock() // a Drop under way changes what the marker describes
		defer l.dropping.Unlock()
		if l.closeErr = l.failed; l.closeErr == nil {
			l.closeErr = l.writeMarker()
		}
		l.release()
		wrap(&l.closeErr, "closing", l.dir)
	})
	return l.closeErr
}

// release gives back the files and the lock. What counts was synced before, so that errors here mean nothing.
func (l *Log) release() {
	if l.outFile != nil {
		_ = l.outFile.Close()
	}
	_ = l.lock.Close()
}
