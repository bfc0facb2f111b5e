// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Read returns the frame that starts at p, a position that Append, Open or Scan gave; the bytes are the caller's.
// Errors: ErrGone if it was dropped or is not durable, ErrCorrupt, ErrClosed, or the disk's.
func (l *Log) Read(p Pos) ([]byte, error) {
	data, err := l.read(p)
	if err != nil {
		return nil, fmt.Errorf("wal: reading frame %v of %s: %w", p, l.dir, err)
	}
	return data, nil
}

func (l *Log) read(p Pos) ([]byte, error) {
	seg, err := l.from(p.File)
	if err != nil {
		return nil, err
	}
	if seg.no != p.File || p.Off < headerSize || p.Off >= seg.size {
		return nil, ErrGone
	}
	f, err := os.Open(filepath.Join(l.dir, fileName(p.File)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, frameHead)
	if _, err := f.ReadAt(head, p.Off); err == io.EOF {
		return nil, ErrCorrupt
	} else if err != nil {
		return nil, err
	}
	n := frameLen(head)
	if n == frameHead || n > frameHead+frameLimit || n > seg.size-p.Off {
		return nil, ErrCorrupt
	}
	frame := make([]byte, n)
	if _, err := f.ReadAt(frame, p.Off); err != nil && err != io.EOF {
		return nil, err
	}
	if !intact(frame, p) {
		return nil, ErrCorrupt
	}
	return frame[frameHead:], nil
}

// Scan calls visit, in order, for every intact frame at or after from that was durable when Scan began; the bytes are
// valid until visit returns. from is the zero Pos, End, or a position that Append, Open or Scan gave; what was dropped
// since is left out. Damaged frames are skipped as by Open, and logged. An error of visit ends Scan and is returned
// wrapped. visit may call the log's other methods.
func (l *Log) Scan(from Pos, visit func(Pos, []byte) error) error {
	if err := l.scan(from, l.End(), visit); err != nil {
		return fmt.Errorf("wal: scanning %s: %w", l.dir, err)
	}
	return nil
}

func (l *Log) scan(from, end Pos, visit func(Pos, []byte) error) error {
	for from.Compare(end) < 0 {
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
	f, err := os.Open(filepath.Join(l.dir, fileName(seg.no)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dropped meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	s := l.scanner(f, seg, off)
	for {
		frame, at, skipped, err := s.next()
		if skipped > 0 {
			l.opt.Logger.Warn("wal: damage skipped", "dir", l.dir, "file", fileName(seg.no), "bytes", skipped)
		}
		if err != nil {
			return nil // the end, or nothing that can be read: the later files count
		}
		if err := visit(Pos{seg.no, at}, frame[frameHead:]); err != nil {
			return err
		}
	}
}

func (l *Log) scanner(r io.ReaderAt, seg segment, off int64) *scanner {
	return &scanner{r: r, no: seg.no, off: off, size: seg.size, maxFrame: int64(l.opt.MaxFrame)}
}

// from returns the first file whose number is at least no, or ErrGone.
func (l *Log) from(no uint64) (segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return segment{}, ErrClosed
	}
	i, _ := slices.BinarySearchFunc(l.files, no, func(s segment, no uint64) int { return Pos{File: s.no}.Compare(Pos{File: no}) })
	if i == len(l.files) {
		return segment{}, ErrGone
	}
	return l.files[i], nil
}

// Drop removes the files that lie completely before a position, never the one that is written, oldest first, and returns
// how many bytes that freed. They are gone for good when it returns without error.
func (l *Log) Drop(before Pos) (int64, error) {
	l.dropping.Lock()
	defer l.dropping.Unlock()
	freed := int64(0)
	for {
		seg, err := l.from(0)
		if err != nil {
			return freed, fmt.Errorf("wal: dropping files of %s: %w", l.dir, err)
		}
		if seg.no == l.End().File || before.Compare(Pos{seg.no, seg.size}) < 0 {
			break
		}
		if err := os.Remove(filepath.Join(l.dir, fileName(seg.no))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return freed, fmt.Errorf("wal: dropping files of %s: %w", l.dir, err)
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
	if err := l.lock.Sync(); err != nil {
		return freed, fmt.Errorf("wal: dropping files of %s: %w", l.dir, err)
	}
	return freed, nil
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
