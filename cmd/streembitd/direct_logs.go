// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"sync"
)

// Bounds of what is remembered of the log.
const (
	logLines = 1000
	logBytes = 256 << 10
)

// recentLog remembers the last lines of the log, for the action logs: the service manager's journal may be out of this program's reach. Safe for concurrent use.
type recentLog struct {
	mu    sync.Mutex
	lines [][]byte
	size  int
}

// with returns a logger that writes to l and is remembered.
func (r *recentLog) with(l *slog.Logger, level slog.Level) *slog.Logger {
	return slog.New(slog.NewMultiHandler(l.Handler(), slog.NewJSONHandler(r, &slog.HandlerOptions{Level: level})))
}

// Write takes one line.
func (r *recentLog) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, bytes.Clone(line))
	r.size += len(line)
	drop := 0
	for ; len(r.lines)-drop > logLines || r.size > logBytes; drop++ {
		r.size -= len(r.lines[drop])
		r.lines[drop] = nil
	}
	r.lines = r.lines[drop:]
	return len(line), nil
}

// last returns the last n lines in a row.
func (r *recentLog) last(n int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Join(r.lines[max(0, len(r.lines)-n):], nil)
}
