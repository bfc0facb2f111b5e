// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
)

const (
	drawEvery  = 200 * time.Millisecond // what changes faster cannot be read
	watchSpark = 30                     // characters
	sparkKeeps = 4 * watchSpark         // values
)

// screen shows a table that changes in place. Each drawing is one write, of lines that cover the old ones: nothing is erased first, so nothing flickers.
type screen struct {
	w     io.Writer
	size  func() (columns, rows int)
	plain bool // no colours

	mu     sync.Mutex
	states map[edge.ID]string
	names  map[edge.ID]string
	rows   map[rowKey]*watchRow
	drawn  int  // lines that are on the screen
	stale  bool // something has changed since
	ended  chan struct{}
	ticks  sync.WaitGroup
}

type rowKey struct {
	device edge.ID
	name   string
}

type watchRow struct {
	last   edge.Reading
	recent []float64
}

func newScreen(a *app, grants []fleet.Grant) *screen {
	s := &screen{w: a.out, plain: os.Getenv("NO_COLOR") != "", ended: make(chan struct{}), size: func() (int, int) {
		if f, ok := a.out.(*os.File); ok {
			if columns, rows, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && rows > 0 {
				return columns, rows
			}
		}
		return 80, 24
	}}
	s.begin(grants)
	s.ticks.Go(func() {
		t := time.NewTicker(drawEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				s.redraw()
			case <-s.ended:
				return
			}
		}
	})
	return s
}

func (s *screen) begin(grants []fleet.Grant) {
	s.states, s.names, s.rows = map[edge.ID]string{}, map[edge.ID]string{}, map[rowKey]*watchRow{}
	for _, g := range grants {
		s.names[g.Member], s.states[g.Member] = g.Name, ""
	}
}

func (s *screen) readings(g fleet.Grant, via string, all []shownReading) {
	if via == viaHubs { // it is older than what is shown, and may be many
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = true
	for _, r := range all {
		key := rowKey{g.Member, r.Name()}
		row := s.rows[key]
		if row == nil {
			row = &watchRow{}
			s.rows[key] = row
		}
		row.last = r.Reading
		if r.Kind != edge.Text {
			if len(row.recent) == sparkKeeps {
				row.recent = slices.Delete(row.recent, 0, 1)
			}
			row.recent = append(row.recent, r.Value)
		}
	}
}

// say prints a line that stays, above the table.
func (s *screen) say(g fleet.Grant, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	columns, _ := s.size()
	s.draw(fit(fmt.Sprintf("%s %s", g.Name, fmt.Sprintf(format, args...)), columns))
}

func (s *screen) state(g fleet.Grant, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = s.stale || s.states[g.Member] != state
	if _, known := s.names[g.Member]; !known {
		s.renamed(g)
	}
	s.states[g.Member] = state
}

// renamed goes on with what the device of that name showed under another key.
func (s *screen) renamed(g fleet.Grant) {
	for id, name := range s.names {
		if name != g.Name {
			continue
		}
		for key, row := range s.rows {
			if key.device == id {
				delete(s.rows, key)
				s.rows[rowKey{g.Member, key.name}] = row
			}
		}
		delete(s.names, id)
		delete(s.states, id)
	}
	s.names[g.Member] = g.Name
}

func (s *screen) close() {
	close(s.ended)
	s.ticks.Wait()
	s.redraw()
}

func (s *screen) redraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale {
		s.draw("")
	}
}

// draw writes the table over the old one, after a line that stays if there is one.
func (s *screen) draw(first string) {
	s.stale = false
	var b bytes.Buffer
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", s.drawn)
	}
	if first != "" {
		fmt.Fprintf(&b, "%s\x1b[K\n", first)
	}
	lines := s.table()
	for _, l := range lines {
		fmt.Fprintf(&b, "%s\x1b[K\n", l)
	}
	b.WriteString("\x1b[J")
	s.drawn = len(lines)
	_, _ = s.w.Write(b.Bytes()) // a terminal that is gone ends the program by its signal
}

// table returns the lines that fit the terminal.
func (s *screen) table() []string {
	columns, rows := s.size()
	var text bytes.Buffer
	t := cli.NewTable(&text, 2)
	t.Row("DEVICE", "VALUE", "NOW", "UNIT", "TIME", "")
	keys := slices.SortedFunc(maps.Keys(s.rows), func(a, b rowKey) int {
		return cmp.Or(cmp.Compare(s.names[a.device], s.names[b.device]), a.device.Compare(b.device), cmp.Compare(a.name, b.name))
	})
	live := make([]bool, 1, len(keys)+1)
	shownDevices := map[edge.ID]bool{}
	for _, k := range keys {
		row := s.rows[k]
		shownDevices[k.device] = true
		at := "unsynced"
		if row.last.At.Synced() {
			at = row.last.At.Time().Local().Format(time.TimeOnly)
		}
		if s.states[k.device] != viaLive {
			at = s.states[k.device]
		}
		live = append(live, s.states[k.device] == viaLive)
		t.Row(s.names[k.device], k.name, latest(row.last), row.last.Unit, at, sparkline(row.recent, watchSpark))
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.names), func(a, b edge.ID) int { return cmp.Or(cmp.Compare(s.names[a], s.names[b]), a.Compare(b)) }) {
		if !shownDevices[id] {
			live = append(live, false)
			t.Row(s.names[id], "", "", "", s.states[id], "")
		}
	}
	t.Flush()
	var lines []string
	for i, l := range bytes.Split(bytes.TrimRight(text.Bytes(), "\n"), []byte("\n")) {
		if i == rows-2 && len(live) > rows-1 {
			lines = append(lines, fit(fmt.Sprintf("… and %d more: a higher terminal shows them", len(live)-i), columns))
			break
		}
		line := fit(string(l), columns)
		if i < len(live) && i > 0 && !live[i] && !s.plain {
			line = "\x1b[2m" + line + "\x1b[0m"
		}
		lines = append(lines, line)
	}
	return lines
}

// latest is a value for a column of some width.
func latest(r edge.Reading) string {
	switch r.Kind {
	case edge.State:
		return map[bool]string{true: "on", false: "off"}[r.Value == 1]
	case edge.Text:
		return shorten(shown(r.Text), 24)
	}
	return strconv.FormatFloat(r.Value, 'g', 7, 64)
}

// fit cuts a line to the terminal's width: one that wraps could not be drawn over.
func fit(line string, columns int) string {
	if r := []rune(line); len(r) >= columns {
		return string(r[:max(0, columns-1)])
	}
	return line
}
