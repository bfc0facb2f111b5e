// SPDX-License-Identifier: Apache-2.0

// Package chaos tries to make Streembit edge lose what it called published: it kills processes, cuts the power, empties, fills, freezes and
// corrupts hubs, and cuts the network. Each trial has a control, the same fleet without the one thing that is meant to help; a control that
// loses nothing fails the trial, because then the trial shows nothing.
//
// Published is what the device noted in its receipts file, and nothing else. Received is what a collector wrote to SQLite.
// CHAOS=long makes the trials long and prints a table at the end; CHAOS_SEED=n repeats the random choices of a run.
package chaos_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/streembit/edge/test/swarm"
)

// table is what the trials of this run found.
type table struct {
	mu   sync.Mutex
	rows []*trial
}

var found table

func TestMain(m *testing.M) {
	code := (swarm.Tests{M: m}).Run()
	if long() {
		found.print()
	}
	os.Exit(code)
}

// long reports whether the long forms are wanted.
func long() bool { return os.Getenv("CHAOS") == "long" }

// seed is what all random choices of the run come from.
var seed = sync.OnceValue(func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("CHAOS_SEED"), 10, 64); err == nil {
		return n
	}
	return rand.Uint64N(1e9)
})

// trial is one row of the table: what was done how often, and what became of the readings.
type trial struct {
	*testing.T
	name   string
	rounds int
	rng    *rand.Rand // of this trial alone, so that each can be repeated without the others
	began  time.Time
	took   time.Duration

	main, control outcome
	controlled    string // what the control lacked
}

// outcome is what a collector got of what a device had called published. All numbers are readings.
type outcome struct{ published, received, lost, twice int }

func (o *outcome) add(p outcome) {
	o.published += p.published
	o.received += p.received
	o.lost += p.lost
	o.twice += p.twice
}

// next takes the outcome of the next image of one fleet, of which the one before was a part.
func (o *outcome) next(p outcome) {
	p.lost, p.twice = max(o.lost, p.lost), max(o.twice, p.twice)
	*o = p
}

// begin starts a trial of so many rounds in the short and the long form.
func begin(t *testing.T, name string, short, longer int) *trial {
	t.Helper()
	rounds := short
	if long() {
		rounds = longer
	}
	if n, err := strconv.Atoi(os.Getenv("CHAOS_ROUNDS")); err == nil && n > 0 {
		rounds = n
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name())) // a hash does not fail
	tr := &trial{T: t, name: name, rounds: rounds, rng: rand.New(rand.NewPCG(seed(), h.Sum64())), began: time.Now()}
	t.Logf("random choices: CHAOS_SEED=%d", seed())
	return tr
}

// with is the trial in a test of its own below it, which uses no random choices while another does.
func (tr *trial) with(t *testing.T) *trial {
	sub := *tr
	sub.T = t
	return &sub
}

// some returns a random time up to most.
func (tr *trial) some(most time.Duration) time.Duration {
	return time.Duration(tr.rng.Int64N(int64(most)))
}

// end judges the trial and prints its line.
func (tr *trial) end() {
	tr.Helper()
	tr.took = time.Since(tr.began)
	if tr.main.published == 0 || tr.control.published == 0 {
		tr.Errorf("published %d readings, the control %d: the trial shows nothing", tr.main.published, tr.control.published)
	}
	if tr.main.lost != 0 || tr.main.twice != 0 {
		tr.Errorf("%d published readings lost, %d received twice", tr.main.lost, tr.main.twice)
	}
	if tr.control.lost == 0 {
		tr.Errorf("the control (%s) lost nothing: the trial shows nothing", tr.controlled)
	}
	tr.Logf("%s: rounds=%d published=%d received=%d lost=%d twice=%d; control (%s): published=%d lost=%d; %s", tr.name, tr.rounds, tr.main.published,
		tr.main.received, tr.main.lost, tr.main.twice, tr.controlled, tr.control.published, tr.control.lost, tr.took.Round(100*time.Millisecond))
	found.mu.Lock()
	defer found.mu.Unlock()
	found.rows = append(found.rows, tr)
}

// print writes the table for bench/RESULTS.md.
func (f *table) print() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 1, ' ', 0)
	fmt.Fprintf(&b, "\nChaos, %s, seed %d (readings)\n\n", time.Now().UTC().Format("2006-01-02"), seed())
	fmt.Fprintln(w, "| trial\t| rounds\t| published\t| received\t| lost\t| twice\t| control: lost of published\t| time\t| verdict\t|")
	fmt.Fprintln(w, "|---\t|---:\t|---:\t|---:\t|---:\t|---:\t|---\t|---:\t|---\t|")
	for _, tr := range f.rows {
		verdict := "held"
		if tr.Failed() {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "| %s\t| %d\t| %d\t| %d\t| %d\t| %d\t| %s: %d of %d\t| %s\t| %s\t|\n", tr.name, tr.rounds, tr.main.published, tr.main.received,
			tr.main.lost, tr.main.twice, tr.controlled, tr.control.lost, tr.control.published, tr.took.Round(time.Second), verdict)
	}
	_ = w.Flush() // a strings.Builder does not fail
	fmt.Println(b.String())
}

// skip skips the trial, loudly, or fails it where all must run.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("not run: " + why)
	}
	t.Skip("SKIPPED: " + why)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
