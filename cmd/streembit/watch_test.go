// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

func watchedReading(name string, value float64, at edge.Instant) edge.Reading {
	sensor, quantity, _ := strings.Cut(name, "/")
	return edge.Reading{Sensor: sensor, Sample: edge.Sample{Quantity: edge.Quantity{Name: quantity, Unit: "Cel"}, Value: value}, At: at}
}

// terminal is what a terminal of some size shows of what was written to it.
func terminal(tb testing.TB, text string) []string {
	tb.Helper()
	lines, row := []string{""}, 0
	for len(text) > 0 {
		if m := regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`).FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			switch m[2] {
			case "A":
				n, _ := strconv.Atoi(m[1])
				row -= n
			case "J":
				lines = lines[:row+1]
			case "K", "m": // a line is written whole
			default:
				tb.Fatalf("sequence %q", m[0])
			}
			if row < 0 {
				tb.Fatal("above the first line")
			}
			continue
		}
		end := strings.IndexAny(text, "\n\r\x1b")
		switch {
		case end == 0 && text[0] == '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
			text = text[1:]
		case end == 0 && text[0] == '\r':
			text = text[1:]
		default:
			if end < 0 {
				end = len(text)
			}
			lines[row], text = text[:end], text[end:]
		}
	}
	return lines
}

// TestScreen: the table stays in its place, keeps what is said above it, erases nothing before it draws, and fits the terminal.
func TestScreen(t *testing.T) {
	pi := fleet.Grant{Member: edge.ID{1}, Name: "pi-1"}
	off := fleet.Grant{Member: edge.ID{2}, Name: "pi-2"}
	var out bytes.Buffer
	columns, rows := 80, 24
	s := &screen{w: &out, plain: true, size: func() (int, int) { return columns, rows }}
	s.begin([]fleet.Grant{pi, off})
	s.redraw()
	if out.Len() != 0 {
		t.Errorf("drawn though nothing has changed: %q", out.String())
	}
	s.state(pi, viaLive)
	s.state(off, "connecting")
	for n := range 3 {
		s.readings(pi, viaLive, []shownReading{{Reading: watchedReading("air/temperature", float64(20+n), edge.Instant{Mono: int64(n)})}})
		s.redraw()
	}
	s.readings(pi, viaHubs, []shownReading{{Reading: watchedReading("air/temperature", 99, edge.Instant{Mono: 1})}})
	s.say(pi, "is back after %s", "3 s")
	s.state(pi, "lost")
	s.redraw()
	got := terminal(t, out.String())
	want := []string{"pi-1 is back after 3 s", "DEVICE  VALUE            NOW  UNIT  TIME        ", "pi-1    air/temperature   22  Cel   lost        ▁▅█", "pi-2                                connecting  ", ""}
	for i := range got {
		got[i] = strings.TrimRight(got[i], " ")
		want[i] = strings.TrimRight(want[i], " ")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the terminal shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if strings.Contains(out.String(), "\x1b[2J") || strings.Contains(out.String(), "\x1b[2m") {
		t.Error("it erases the screen, or has colours despite NO_COLOR")
	}

	columns, rows = 20, 4
	out.Reset()
	for _, name := range []string{"a/a", "b/b", "c/c"} {
		s.readings(pi, viaLive, []shownReading{{Reading: watchedReading(name, 1, edge.Instant{})}})
	}
	s.drawn = 0
	s.redraw()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\x1b[J"), "\n")
	if len(lines) > rows || !strings.Contains(out.String(), "more") {
		t.Errorf("%d lines on a terminal of %d: %q", len(lines), rows, lines)
	}
	for _, l := range lines {
		if n := len([]rune(strings.TrimSuffix(l, "\x1b[K"))); n >= columns {
			t.Errorf("%q has %d characters of %d", l, n, columns)
		}
	}
}

// TestHole: what lies between the last reading before a gap and the first after it, for each value, is in it, whatever else the hubs have.
func TestHole(t *testing.T) {
	one, two, other := journal.BootID{1}, journal.BootID{2}, journal.BootID{3}
	at := func(mono int64) edge.Instant { return edge.Instant{Mono: mono, Wall: 1_760_000_000_000 + mono} }
	var seen lastSeen
	seen.note(direct.Live{Boot: one, Readings: []edge.Reading{watchedReading("a/x", 1, at(100)), watchedReading("b/x", 1, at(90))}})
	same := hole{from: seen, boot: one, to: at(500), next: map[string]int64{"a/x": 500}}
	anew := hole{from: seen, boot: two, to: edge.Instant{Mono: 10, Wall: 1_760_000_010_000}, next: map[string]int64{"a/x": 10}}
	for _, c := range []struct {
		h    hole
		boot journal.BootID
		name string
		at   edge.Instant
		want bool
	}{
		{same, one, "a/x", at(100), false}, {same, one, "a/x", at(101), true}, {same, one, "a/x", at(499), true}, {same, one, "a/x", at(500), false},
		{same, one, "b/x", at(90), false}, {same, one, "b/x", at(95), true}, {same, one, "b/x", at(499), true}, {same, one, "b/x", at(500), false},
		{same, one, "c/x", at(100), false}, {same, one, "c/x", at(200), true}, {same, two, "a/x", at(200), true}, {same, two, "a/x", edge.Instant{Mono: 200}, false},
		{anew, one, "a/x", at(9000), true}, {anew, one, "a/x", at(100), false}, {anew, two, "a/x", at(9), true}, {anew, two, "a/x", at(10), false},
		{anew, other, "a/x", edge.Instant{Mono: 1, Wall: 1_760_000_005_000}, true}, {anew, other, "a/x", edge.Instant{Mono: 1, Wall: 1_760_000_020_000}, false},
	} {
		r := watchedReading(c.name, 1, c.at)
		if got := c.h.has(c.boot, &r); got != c.want {
			t.Errorf("%s at %d of boot %d in the hole to %d of boot %d: %t", c.name, c.at.Mono, c.boot[0], c.h.to.Mono, c.h.boot[0], got)
		}
	}
	unsynced := hole{from: seen, boot: two, to: edge.Instant{Mono: 10}, next: map[string]int64{"a/x": 10}}
	for want, h := range map[string]hole{"400ms": same, "9.9s": anew, "unknown length": unsynced} {
		if got := h.length(); got != want {
			t.Errorf("length %s, want %s", got, want)
		}
	}
	if text := (&hole{lost: 5}).missing(3); !strings.HasPrefix(text, ", 2 of 5 ") || (&hole{lost: 3}).missing(5) != "" {
		t.Errorf("missing: %q", text)
	}
}
