// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	scanAhead = 256 << 10 // bytes read at once when many frames are wanted,
	readAhead = 4 << 10   // and when one is
	// searchBudget bounds the bytes checksummed while looking for the next frame behind damage: data can be made to look
	// like the beginning of a frame at each byte. Random data needs about MaxFrame/8192 bytes for each byte searched.
	searchBudget = 512 << 20
)

var errUnreadable = errors.New("cannot be read further")

// scanner reads the intact frames of one file in order.
type scanner struct {
	r        io.ReaderAt
	no       uint64
	off      int64 // where the next frame should start
	size     int64
	maxFrame int64  // longest frame looked for behind damage
	ahead    int64  // read at once
	buf      []byte // the bytes from base on
	base     int64
	spent    int64 // of searchBudget
}

// each calls visit for each intact frame, head included, and damaged for each stretch that is skipped. more: there may
// be frames that cannot be read.
func (s *scanner) each(visit func(Pos, []byte) error, damaged func(from, to int64)) (more bool, err error) {
	for {
		frame, at, skipped, err := s.next()
		if skipped > 0 {
			damaged(at-skipped, at)
		}
		if err != nil {
			return errors.Is(err, errUnreadable), nil
		}
		if err := visit(Pos{s.no, at}, frame); err != nil {
			return false, err
		}
	}
}

// next returns the next intact frame, head included and valid until the next call, where it starts and how many bytes
// before it were skipped. At the end the error is io.EOF and skipped the bytes behind the last intact frame; it wraps
// errUnreadable if there may be more frames, but the disk or the budget does not let us read them.
func (s *scanner) next() (frame []byte, at, skipped int64, err error) {
	from := s.off
	if from >= s.size {
		return nil, 0, 0, io.EOF
	}
	frame, err = s.frame(from, frameLimit)
	at = from
	if err == nil && frame == nil {
		frame, at, err = s.resync(from)
	}
	if err != nil {
		s.off = s.size
		return nil, s.size, s.size - from, err
	}
	s.off = at + int64(len(frame))
	return frame, at, at - from, nil
}

// frame returns the frame at off if its data are at most limit bytes and it is intact, else nil.
func (s *scanner) frame(off, limit int64) ([]byte, error) {
	if off+frameHead >= s.size {
		return nil, nil
	}
	b, err := s.bytes(off, frameHead)
	if err != nil {
		return nil, err
	}
	n := frameLen(b)
	if n == frameHead || n-frameHead > limit || n > s.size-off {
		return nil, nil
	}
	s.spent += n
	if b, err = s.bytes(off, n); err != nil || !intact(b, Pos{s.no, off}) {
		return nil, err
	}
	return b, nil
}

// resync returns the first intact frame after the damaged one at bad, or io.EOF.
func (s *scanner) resync(bad int64) (frame []byte, at int64, err error) {
	b, err := s.bytes(bad, min(frameHead, s.size-bad))
	if err != nil {
		return nil, 0, err
	}
	if len(b) == frameHead { // the usual case first: the length is right and only the data are damaged
		at = bad + frameLen(b)
		if frame, err = s.frame(at, frameLimit); frame != nil || err != nil {
			return frame, at, err
		}
	}
	s.spent = 0
	for at = bad + 1; at+frameHead < s.size; at++ {
		if b, err = s.bytes(at, 4); err != nil {
			return nil, 0, err
		}
		if n := binary.LittleEndian.Uint32(b); n == 0 || int64(n) > s.maxFrame {
			continue // here, not only in frame: this loop runs for every byte
		}
		if frame, err = s.frame(at, s.maxFrame); frame != nil || err != nil {
			return frame, at, err
		}
		if s.spent > searchBudget {
			return nil, 0, fmt.Errorf("%w: gave up looking for the next frame", errUnreadable)
		}
	}
	return nil, 0, io.EOF
}

// bytes returns n bytes at off, valid until the next call.
func (s *scanner) bytes(off, n int64) ([]byte, error) {
	if off < s.base || off+n > s.base+int64(len(s.buf)) {
		want := min(max(n, s.ahead), s.size-off)
		if int64(cap(s.buf)) < want {
			s.buf = make([]byte, want)
		}
		s.buf, s.base = s.buf[:want], off
		if got, err := s.r.ReadAt(s.buf, off); int64(got) < n {
			s.buf = s.buf[:0]
			return nil, fmt.Errorf("%w: %w", errUnreadable, err)
		} else {
			s.buf = s.buf[:got]
		}
	}
	return s.buf[off-s.base:][:n], nil
}
