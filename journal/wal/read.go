// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Read returns the frame that starts at p, a position that Append, Open or Scan gave; the bytes are the caller's.
// Errors: ErrGone if it was dropped or is not durable, ErrCorrupt, ErrClosed, or the disk's.
func (l *Log) Read(p Pos) (_ []byte, err error) {
	defer wrap(&err, "reading frame "+p.String()+" of", l.dir)
	seg, err := l.from(p.File)
	if err != nil {
		return nil, err
	}
	if seg.no != p.File || p.Off < headerSize || p.Off >= seg.size {
		return nil, ErrGone
	}
	f, err := os.Open(l.path(p.File))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &scanner{r: f, no: seg.no, size: seg.size, ahead: readAhead}
	frame, err := s.frame(p.Off, frameLimit)
	switch {
	case err == nil && frame == nil:
		err = ErrCorrupt
	case errors.Is(err, io.EOF): // the file is shorter than what was durable
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	return frame[frameHead:], nil
}

// Scan calls visit, in order, for every intact frame at or after from that was durable when Scan began; the bytes are
// valid until visit returns. from is the zero Pos, End, or a position that Append, Open or Scan gave; what was dropped
// since is left out. Damaged frames are skipped as by Open, and logged. An error of visit ends Scan and is returned
// wrapped. visit may call the log's other methods.
func (l *Log) Scan(from Pos, visit func(Pos, []byte) error) (err error) {
	defer wrap(&err, "scanning", l.dir)
	for end := l.End(); from.Compare(end) < 0; {
		seg, err := l.from(from.File)
		if err != nil {
			return err
		}
		if seg.no != from.File {
			from = Pos{File: seg.no}
		}
		if seg.no == end.File {
			seg.size = end.Off
		}
		if err := l.scanFile(seg, max(from.Off, headerSize), visit); err != nil {
			return err
		}
		from = Pos{File: seg.no + 1}
	}
	return nil
}

func (l *Log) scanFile(seg segment, off int64, visit func(Pos, []byte) error) error {
	f, err := os.Open(l.path(seg.no))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dropped meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	s := &scanner{r: f, no: seg.no, off: off, size: seg.size, maxFrame: int64(l.opt.MaxFrame), ahead: scanAhead}
	_, err = s.each(func(p Pos, frame []byte) error {
		return visit(p, frame[frameHead:])
	}, func(from, to int64) {
		l.opt.Logger.Warn("wal: damage skipped", "dir", l.dir, "file", fileName(seg.no), "from", from, "to", to)
	})
	return err
}

// from returns the first file whose number is at least no, or ErrGone.
func (l *Log) from(no uint64) (segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return segment{}, ErrClosed
	}
	i, _ := slices.BinarySearchFunc(l.files, no, func(s segment, no uint64) int { return cmp.Compare(s.no, no) })
	if i == len(l.files) {
		return segment{}, ErrGone
	}
	return l.files[i], nil
}

// Drop removes the files that lie completely before a position, never the one that is written, oldest first, and returns
// how many bytes that freed. They are gone for good when it returns without error.
func (l *Log) Drop(before Pos) (freed int64, err error) {
	defer wrap(&err, "dropping files of", l.dir)
	l.dropping.Lock()
	defer l.dropping.Unlock()
	for {
		seg, err := l.from(0)
		if err != nil {
			return freed, err
		}
		if seg.no == l.End().File || before.Compare(Pos{seg.no, seg.size}) < 0 {
			break
		}
		if err := os.Remove(l.path(seg.no)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return freed, err
		}
		l.mu.Lock()
		l.files = l.files[1:]
		l.total -= seg.size
		l.mu.Unlock()
		freed += seg.size
	}
	if freed == 0 {
		return 0, nil
	}
	return freed, l.lock.Sync()
}

// Size returns the bytes of all files, headers included: what counts against the quota.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// End returns the position behind the last durable frame. The next frame starts there, or in the next file.
func (l *Log) End() Pos {
	seg := l.active()
	return Pos{seg.no, seg.size}
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}
