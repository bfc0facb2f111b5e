// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// receipt is one published segment, as a device notes it in its receipts file (streembitd, [outbox] receipts).
type receipt struct {
	Chain    string `json:"chain"` // <device>/<stream>/<incarnation>
	Seq      uint64 `json:"seq"`
	Readings int    `json:"readings"`
	Hash     string `json:"hash"` // of the segment's header, hexadecimal
	Copies   int    `json:"copies"`
}

// receipts follows a receipts file while it grows.
type receipts struct {
	path string
	read int64 // bytes read so far, whole lines only
	all  []receipt
}

// poll reads the lines that have come since. A last line without its end is left for the next time: the device was
// killed while it wrote it, or is writing.
func (r *receipts) poll() error {
	f, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading receipts: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, r.read, 1<<30))
	if err != nil {
		return fmt.Errorf("reading receipts: %w", err)
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range bytes.Lines(whole) {
		var c receipt
		if err := json.Unmarshal(line, &c); err != nil {
			return fmt.Errorf("reading receipts %s, line %d: %w", r.path, len(r.all)+1, err)
		}
		r.all = append(r.all, c)
	}
	r.read += int64(len(whole))
	return nil
}

// readings is how many readings are published.
func (r *receipts) readings() int {
	n := 0
	for _, c := range r.all {
		n += c.Readings
	}
	return n
}

// copies is how many hubs held the newest segment when it counted as published.
func (r *receipts) copies() int {
	if len(r.all) == 0 {
		return 0
	}
	return r.all[len(r.all)-1].Copies
}
