// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/streembit/edge/cmd/internal/cli"
)

// verdict counts in the database what the device had noted as published, shows the latest values and says how it went.
func (d *demo) verdict(ctx context.Context) error {
	db, err := d.openLedger(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = db.close() }() // it was only read
	all, err := db.series(ctx)
	if err != nil {
		return err
	}
	got, err := db.count(ctx, d.notes.all)
	if err != nil {
		return err
	}
	missing := len(got.absent) + d.otherGaps()
	d.showSeries(all)
	fmt.Fprintf(d.app.out, "\n  database   %s\n  try        %s\n\n", db.place, db.example)
	if got.beyond > 0 {
		fmt.Fprintf(d.app.out, "+%d readings were on hubs, and are in the database, without the device having noted an acknowledgement\n", got.beyond)
	}
	published := d.notes.readings()
	verified := int(d.report.Verified) - got.beyond - forged(got)
	fmt.Fprintf(d.app.out, "published=%d pulled=%d verified=%d missing=%d db=%s\n", published, got.pulled, verified, missing, db.place)
	if published == 0 || got.pulled != published || verified != published || missing != 0 {
		return cli.Try(fmt.Errorf("readings were lost or changed: %w", errUnverified), "streembit demo --keep, then read the logs")
	}
	return nil
}

// forged counts the readings of segments that the device had noted with another hash.
func forged(c count) int {
	n := 0
	for _, r := range c.forged {
		n += r.Readings
	}
	return n
}

// otherGaps counts the segments that the collector misses beyond those that the device noted as published.
func (d *demo) otherGaps() int {
	noted := map[place]bool{}
	for _, r := range d.notes.all {
		noted[place{r.Chain, r.Seq}] = true
	}
	n := 0
	for _, c := range d.report.Chains {
		for _, g := range c.Missing {
			for seq := g.First; seq <= g.Last; seq++ {
				if !noted[place{c.Chain, seq}] {
					n++
				}
			}
		}
	}
	return n
}

// place is where a segment stands.
type place struct {
	chain string
	seq   uint64
}

// series is everything the database has of one quantity of one sensor.
type series struct {
	name, unit string
	values     []float64 // in order; none for texts
	latest     string
	readings   int
}

const sparkWidth = 24

func (d *demo) showSeries(all []series) {
	fmt.Fprintln(d.app.err)
	t := cli.NewTable(d.app.out, 1, 4)
	t.Row("  SENSOR", "LATEST", "UNIT", "COURSE", "READINGS")
	for _, s := range all {
		t.Row("  "+s.name, shorten(s.latest, 20), s.unit, sparkline(s.values, sparkWidth), number(s.readings))
	}
	t.Flush()
}

func shorten(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// value writes a number as a person reads it: five significant digits, large ones in groups of three, and no exponent
// where it can be helped.
func value(v float64) string {
	a := math.Abs(v)
	switch {
	case a != 0 && (a >= 1e15 || a < 1e-4):
		return strconv.FormatFloat(v, 'g', 5, 64)
	case a >= 1e5:
		return number(int64(math.Round(v)))
	}
	s := strconv.FormatFloat(v, 'f', decimals(a), 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// decimals is how many places after the point make five significant digits of a ≥ 0.
func decimals(a float64) int {
	n := 4
	for ; a >= 10 && n > 0; a /= 10 {
		n--
	}
	return n
}
