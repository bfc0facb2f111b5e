// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table prints columns aligned by the characters that a person sees, some of them to the right, which text/tabwriter
// cannot mix. For one goroutine.
type Table struct {
	w     io.Writer
	rows  [][]string
	right map[int]bool // columns of numbers
}

// NewTable returns an empty table for w; the columns in right, from 0, are aligned to the right.
func NewTable(w io.Writer, right ...int) *Table {
	t := &Table{w: w, right: map[int]bool{}}
	for _, c := range right {
		t.right[c] = true
	}
	return t
}

// Row adds a row.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// Flush prints the rows; then the table is empty again.
func (t *Table) Flush() {
	var width []int
	for _, r := range t.rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range t.rows {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i > 0 {
				b.WriteString("  ")
			}
			if t.right[i] {
				c, pad = pad+c, ""
			}
			b.WriteString(c + pad)
		}
		_, _ = io.WriteString(t.w, strings.TrimRight(b.String(), " ")+"\n") // a closed pipe ends the program by SIGPIPE
	}
	t.rows = nil
}

// Quote makes s one word for a POSIX shell, so that a suggested command can be pasted.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@=,~%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
