// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// ending says how a file ended when it was scanned, for the decision whether to go on in it.
type ending struct {
	end    int64 // behind the last intact frame
	frames int
	header bool // is intact
	more   bool // there may be intact frames behind end
}

// recovery collects what Open finds.
type recovery struct {
	Recovery
	log    *Log
	visit  func(Pos, []byte) error
	places int
}

// recover scans the log, takes the marker away and makes the last file, or a new one, ready for appending.
func (l *Log) recover(visit func(Pos, []byte) error) (Recovery, error) {
	numbers, err := l.list()
	if err != nil {
		return Recovery{}, err
	}
	marker, err := readMarker(l.dir)
	if err != nil {
		return Recovery{}, err
	}
	rec := &recovery{log: l, visit: visit}
	var last ending
	for i, no := range numbers {
		if i > 0 && no != numbers[i-1]+1 {
			rec.drop(0, fmt.Sprintf("%s is missing", fileName(numbers[i-1]+1)))
		}
		if last, err = rec.file(no, i == len(numbers)-1); err != nil {
			return Recovery{}, err
		}
	}
	rec.Clean = marker.proves(l.state())
	if rec.places > 1 {
		rec.Reason += fmt.Sprintf(" (and %d more places)", rec.places-1)
	}
	// Before anything changes the log, so that no crash can leave a marker beside a log that it does not describe.
	if err := removeMarker(l.dir, l.lock); err != nil {
		return Recovery{}, err
	}
	return rec.Recovery, l.resume(last)
}

// list returns the numbers of the files in the directory, in order.
func (l *Log) list() ([]uint64, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		if no, ok := parseName(e.Name()); ok {
			numbers = append(numbers, no)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// file scans file no and adds it to the log.
func (rec *recovery) file(no uint64, last bool) (ending, error) {
	f, size, err := rec.log.openScan(no, last)
	if err != nil {
		return ending{}, err
	}
	defer f.Close()
	head := make([]byte, min(headerSize, size))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		head = nil // unreadable counts as damaged: the frames have CRCs of their own
	}
	end := ending{end: headerSize}
	if end.header, err = checkHeader(head, no); err != nil {
		return end, err
	}
	if !end.header {
		rec.drop(min(headerSize, size), fmt.Sprintf("%s: header is damaged", fileName(no)))
	}
	seg := segment{no: no, size: size, digest: crc32.Checksum(head, castagnoli)}
	s := &scanner{r: f, no: no, off: headerSize, size: size, maxFrame: int64(rec.log.opt.MaxFrame), ahead: scanAhead}
	end.more, err = s.each(func(p Pos, frame []byte) error {
		seg.digest = crc32.Update(seg.digest, castagnoli, frame[:frameHead])
		end.end = p.Off + int64(len(frame))
		end.frames++
		if rec.visit == nil {
			return nil
		}
		return rec.visit(p, frame[frameHead:])
	}, func(from, to int64) {
		rec.drop(to-from, fmt.Sprintf("%s: no intact frame from byte %d to %d", fileName(no), from, to))
	})
	if err != nil {
		return end, err
	}
	rec.Frames += end.frames
	rec.log.files = append(rec.log.files, seg)
	rec.log.total += size
	return end, nil
}

// drop reports bytes that hold no frame.
func (rec *recovery) drop(bytes int64, why string) {
	rec.log.opt.Logger.Warn("wal: damage found", "dir", rec.log.dir, "what", why, "bytes", bytes)
	if rec.places++; rec.places == 1 {
		rec.Reason = why
	}
	rec.Dropped += bytes
}

// openScan opens file no for scanning. Of the last file only what has reached the disk may count: a killed process
// leaves frames that were written and never synced, and after a failed sync Linux keeps pages in memory, clean, that
// never reached the disk. So it is synced, and its cached pages are given up before they are read.
func (l *Log) openScan(no uint64, last bool) (*os.File, int64, error) {
	flag := os.O_RDONLY
	if last {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(l.path(no), flag, 0)
	if err != nil {
		return nil, 0, err
	}
	if last {
		if err = f.Sync(); err == nil {
			err = dropCache(f)
		}
	}
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// resume makes the last file ready for appending, its torn tail cut off, or begins a new one where the last cannot be
// trusted to be read again.
func (l *Log) resume(last ending) error {
	if len(l.files) == 0 {
		return l.create(1)
	}
	seg := &l.files[len(l.files)-1]
	switch {
	case !last.header && last.frames == 0 && !last.more: // a crash while the file was begun
		no := seg.no
		l.total -= seg.size
		l.files = l.files[:len(l.files)-1]
		return l.create(no)
	case !last.header || last.more:
		return l.create(seg.no + 1)
	}
	f, err := os.OpenFile(l.path(seg.no), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	l.outFile, l.out = f, l.opt.Wrap(osFile{f})
	if last.end < seg.size {
		if err = l.out.Truncate(last.end); err == nil {
			err = l.out.Sync()
		}
		l.total -= seg.size - last.end
		seg.size = last.end
	}
	return err
}
