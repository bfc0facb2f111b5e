// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

// progress shows steps, one line each, and between them a line that changes in place. Where nobody watches, that line is
// printed now and then instead.
type progress struct {
	w    *os.File
	tty  bool
	last time.Time
}

// quiet is how often a changing line is printed where there is no terminal.
const quiet = 5 * time.Second

func newProgress(w *os.File) *progress {
	return &progress{w: w, tty: term.IsTerminal(int(w.Fd())), last: time.Now()}
}

// live shows a line that the next call replaces.
func (p *progress) live(label, format string, args ...any) {
	line := stepLine(label, format, args)
	switch {
	case p.tty:
		fmt.Fprintf(p.w, "\r\x1b[K%s", p.fit(line))
	case time.Since(p.last) >= quiet:
		p.last = time.Now()
		fmt.Fprintln(p.w, line)
	}
}

// step shows a line that stays.
func (p *progress) step(label, format string, args ...any) {
	p.clear()
	p.last = time.Now()
	fmt.Fprintln(p.w, stepLine(label, format, args))
}

// clear takes the changing line away.
func (p *progress) clear() {
	if p.tty {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// fit cuts a line to the terminal's width: a wrapped line could not be replaced.
func (p *progress) fit(line string) string {
	width, _, err := term.GetSize(int(p.w.Fd()))
	if r := []rune(line); err == nil && width > 1 && len(r) >= width {
		return string(r[:width-1])
	}
	return line
}

func stepLine(label, format string, args []any) string {
	return fmt.Sprintf("  %-10s %s", label, fmt.Sprintf(format, args...))
}

// number writes n in groups of three: 12 345.
func number[T ~int | ~int64 | ~uint64](n T) string {
	s, sign := fmt.Sprint(n), ""
	if n < 0 {
		s, sign = s[1:], "-"
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return sign + s
}

// plural writes "1 hub", "3 hubs".
func plural[T ~int | ~int64 | ~uint64](n T, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + one + "s"
}
