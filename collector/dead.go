// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// DeadLetter is a reading that a sink cannot hold, in its place, and why. Its JSON form is a line of the dead-letter file.
type DeadLetter struct {
	Chain  string `json:"chain"` // journal.Chain.String
	Seq    uint64 `json:"seq"`
	Index  int    `json:"index"`
	Name   string `json:"name"` // sensor/quantity
	Unit   string `json:"unit,omitempty"`
	Value  string `json:"value"`             // as text: a number may be none that JSON has; bytes that are not UTF-8 are escaped as Go does
	Time   int64  `json:"time_ms,omitempty"` // since 1970 UTC, 0 = the device did not know it
	MonoMS int64  `json:"mono_ms"`           // since the boot
	Why    string `json:"why"`
}

// deadLetter says of a row why it was refused.
func deadLetter(chain journal.Chain, r *Row, why error) DeadLetter {
	return DeadLetter{Chain: chain.String(), Seq: r.Seq, Index: r.Index, Name: printable(r.Sensor + "/" + r.Quantity.Name), Unit: printable(r.Unit),
		Value: shownValue(&r.Reading), Time: r.At.Wall, MonoMS: r.At.Mono, Why: why.Error()}
}

func shownValue(r *edge.Reading) string {
	switch r.Kind {
	case edge.Text:
		return printable(r.Text)
	case edge.State:
		return strconv.FormatBool(r.Value == 1)
	}
	return strconv.FormatFloat(r.Value, 'g', -1, 64)
}

// printable keeps text, and escapes what JSON would replace.
func printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strconv.QuoteToASCII(s)
}

// bury takes the reading that the sink refused out of the batch, with all others that are refused for the same kind of reason, and keeps them.
func (w *work) bury(c *Collector, p *PoisonError) error {
	var letters []DeadLetter
	rows := make([]Row, 0, len(w.Readings))
	strict, general := false, false // the sink takes no NUL; it is what no sink takes
	for i := range w.Readings {
		if r := &w.Readings[i]; r.Seq == p.Seq && r.Index == p.Index {
			general = checkRow(r, true) != nil
			strict = !general && checkRow(r, false) != nil
		}
	}
	for i := range w.Readings {
		r := &w.Readings[i]
		var why error
		switch {
		case r.Seq == p.Seq && r.Index == p.Index:
			why = p.Err
		case general || strict:
			why = checkRow(r, !strict)
		}
		if why == nil {
			rows = append(rows, *r)
			continue
		}
		letters = append(letters, deadLetter(w.Chain, r, why))
	}
	if len(letters) == 0 {
		return fmt.Errorf("collector: the sink refuses reading %d of seq %d of %s, which is not in the batch", p.Index, p.Seq, w.Chain)
	}
	if err := c.cfg.Dead.Put(letters); err != nil {
		return err
	}
	w.Readings = rows
	w.refused += uint64(len(letters))
	return nil
}

// DeadLetters is a file of DeadLetter, a JSON object a line. It is made when the first one comes. Safe for concurrent use by one process.
type DeadLetters struct {
	path string

	mu    sync.Mutex
	known map[string]bool // places that the file has; nil: it was not read yet
}

// NewDeadLetters returns the letters in a file, which need not be there.
func NewDeadLetters(path string) *DeadLetters { return &DeadLetters{path: path} }

// Path returns the file's name.
func (d *DeadLetters) Path() string { return d.path }

func (l *DeadLetter) place() string {
	return l.Chain + "/" + strconv.FormatUint(l.Seq, 10) + "/" + strconv.Itoa(l.Index)
}

// Put implements Dead: it appends what the file does not have yet, and syncs it.
func (d *DeadLetters) Put(letters []DeadLetter) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.put(letters); err != nil {
		d.known = nil // what it holds now is read anew
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w (make room, nothing is lost, what is missing is pulled then)", err)
		}
		return fmt.Errorf("collector: writing dead letters to %s: %w", d.path, err)
	}
	return nil
}

func (d *DeadLetters) put(letters []DeadLetter) error {
	if d.known == nil {
		if err := d.read(); err != nil {
			return err
		}
	}
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	enc.SetEscapeHTML(false)
	fresh := slices.DeleteFunc(slices.Clone(letters), func(l DeadLetter) bool { return d.known[l.place()] })
	for i := range fresh {
		if err := enc.Encode(&fresh[i]); err != nil {
			return err
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := appendSynced(d.path, lines.Bytes()); err != nil {
		return err
	}
	for i := range fresh {
		d.known[fresh[i].place()] = true
	}
	return nil
}

// read learns what the file holds. A last line that a crash tore is cut off: its reading comes again.
func (d *DeadLetters) read() error {
	text, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		d.known = map[string]bool{}
		return nil
	}
	if err != nil {
		return err
	}
	if whole := bytes.LastIndexByte(text, '\n') + 1; whole < len(text) {
		if err := os.Truncate(d.path, int64(whole)); err != nil {
			return err
		}
		text = text[:whole]
	}
	known := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(text))
	for n := 1; ; n++ {
		var l DeadLetter
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("entry %d is none of ours, move the file away: %w", n, err)
		}
		known[l.place()] = true
	}
	d.known = known
	return nil
}

// appendSynced appends to a file that may have to be made, and returns when both it and its name are on the disk.
func appendSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
