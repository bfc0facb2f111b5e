// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The two sets of files; a file is named by the seq of its first line.
const (
	decidedPrefix = "decided-"
	refusedPrefix = "refused-"
	suffix        = ".jsonl"
)

// parts is into how many files a set is divided: so much of it, or less, is lost when the oldest goes.
const parts = 8

// files is one set of files.
type files struct {
	dir, prefix string
	max         int64 // bytes of all
	current     *os.File
	size        int64 // of current
}

// names lists the set's files, oldest first.
func (f *files) names() ([]string, error) {
	entries, err := os.ReadDir(f.dir) // sorted, and the names are of one length
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), f.prefix) && strings.HasSuffix(e.Name(), suffix) && e.Type().IsRegular() {
			out = append(out, filepath.Join(f.dir, e.Name()))
		}
	}
	return out, nil
}

// resume opens the newest file for more, cuts off a torn last line, and returns the last seq.
func (f *files) resume() (last uint64, err error) {
	names, err := f.names()
	if err != nil || len(names) == 0 {
		return 0, err
	}
	for i, name := range slices.Backward(names) {
		data, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		whole := bytes.LastIndexByte(data, '\n') + 1
		last = lastSeq(data[:whole])
		if i == len(names)-1 {
			if err := f.reopen(name, int64(whole), len(data) > whole); err != nil {
				return 0, err
			}
		}
		if last > 0 { // else the file holds no line that can be read
			break
		}
	}
	return last, nil
}

func (f *files) reopen(name string, size int64, torn bool) (err error) {
	if f.current, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	f.size = size
	if torn {
		return errors.Join(f.current.Truncate(size), f.current.Sync())
	}
	return nil
}

func lastSeq(lines []byte) (last uint64) {
	for line := range bytes.Lines(lines) {
		var e Event
		if json.Unmarshal(line, &e) == nil {
			last = max(last, e.Seq)
		}
	}
	return last
}

// append writes one line durably, into a new file when the current one is full.
func (f *files) append(seq uint64, line []byte) error {
	if f.current != nil && f.size+int64(len(line)) > f.max/parts {
		if err := f.close(); err != nil {
			return err
		}
	}
	if f.current == nil {
		if err := f.begin(seq); err != nil {
			return err
		}
	}
	_, err := f.current.Write(line)
	if err = errors.Join(err, f.current.Sync()); err != nil {
		// What the disk has of the line nobody knows: the next line goes into the file as it was before.
		return errors.Join(err, f.current.Truncate(f.size))
	}
	f.size += int64(len(line))
	return nil
}

// begin removes the oldest files until one more fits, and starts it.
func (f *files) begin(seq uint64) error {
	names, err := f.names()
	if err != nil {
		return err
	}
	for len(names) > parts-1 {
		if err := os.Remove(names[0]); err != nil {
			return err
		}
		names = names[1:]
	}
	name := filepath.Join(f.dir, fmt.Sprintf("%s%020d%s", f.prefix, seq, suffix))
	if f.current, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err != nil {
		return err
	}
	f.size = 0
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (f *files) close() error {
	if f.current == nil {
		return nil
	}
	err := f.current.Close()
	f.current = nil
	return err
}

// Read visits the events of a folder in the order in which they happened, and returns how many lines could not be read. The log may be open for
// writing elsewhere; a line that is just being written counts for nothing. A folder that is not there holds none.
func Read(dir string, visit func(Event) error) (damaged int, err error) {
	var all []Event
	for _, prefix := range []string{decidedPrefix, refusedPrefix} {
		names, err := (&files{dir: dir, prefix: prefix}).names()
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("audit: reading: %w", err)
		}
		for i, name := range names {
			events, bad, err := readFile(name, i == len(names)-1)
			if errors.Is(err, fs.ErrNotExist) { // the oldest was removed just now
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("audit: reading: %w", err)
			}
			all, damaged = append(all, events...), damaged+bad
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, e := range all {
		if err := visit(e); err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

func readFile(name string, newest bool) (events []Event, damaged int, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil { // the end, and perhaps half a line before it
			if len(line) > 0 && !newest {
				damaged++
			}
			return events, damaged, nil
		}
		var e Event
		if json.Unmarshal(line, &e) != nil {
			damaged++
			continue
		}
		events = append(events, e)
	}
}
