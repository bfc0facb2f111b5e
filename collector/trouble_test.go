// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// twin makes a device that goes on with the same chain from a copy of its state: a clone.
func (d *device) twin() *device {
	c := *d
	tip := d.all[len(d.all)-1].Link()
	c.wr = must(journal.ResumeWriter(d.chain(), &tip, d.key))
	c.all = slices.Clone(d.all)
	return &c
}

func TestPullFork(t *testing.T) {
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(9, 1)
	w.publish(d.all...)
	clone := d.twin()
	d.epoch(nil)
	d.readings(5, 1) // 10 to 15 on hub 0 …
	for _, s := range d.all[10:] {
		w.store(w.hubs[0], s)
	}
	first := map[string]bool{}
	for k := range w.made {
		first[k] = true
	}
	sink := newMemory()
	w.down[w.hubs[1]] = transport.ErrUnreachable
	if r := w.pull(t, sink); !r.Complete() {
		t.Fatalf("report: %s", r)
	}
	clone.epoch(nil)
	clone.readings(9, 1) // … and 10 to 19 differently on hub 1
	for _, s := range clone.all[10:] {
		w.store(w.hubs[1], s)
	}
	w.down = map[edge.ID]error{}
	r := w.pull(t, sink)
	if len(r.Forks) != 1 || r.Forks[0].Seq != 15 || r.BadCount == 0 || len(sink.forks) != 1 {
		t.Fatalf("report: %s", r)
	}
	if c, seq, err := sink.forks[0].Proof.Prove(w.fleet.ID()); err != nil || c != d.chain() || seq != 15 {
		t.Errorf("the proof says %s, %d, %v", c, seq, err)
	}
	same(t, sink.rows, first) // the first branch is kept, nothing of the other
	if r.Missing != 0 && !strings.Contains(r.Chains[0].Missing[0].Reason, "branch") {
		t.Errorf("report: %s", r)
	}
	if !strings.Contains(r.String(), "FORK") {
		t.Errorf("the report does not show the fork:\n%s", r)
	}
}

// TestPullHeadContradicts: the head of the DHT names another segment than the hubs have.
func TestPullHeadContradicts(t *testing.T) {
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	clone := d.twin()
	d.readings(1, 1)
	w.publish(d.all...)
	clone.epoch(nil)
	w.heads[d.chain()] = clone.all[1].SignedHeader()
	r := w.pull(t, newMemory())
	if len(r.Forks) != 1 || r.Forks[0].Seq != 1 {
		t.Errorf("report: %s", r)
	}
}

// TestPullRestampsAndExplains: clock notes, gap notes and continuations reach the database.
func TestPullRestampsAndExplains(t *testing.T) {
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			s := fresh(t)
			w := newWorld(3, 1)
			d := w.device(0)
			d.wall = 0
			d.epoch(nil)
			d.readings(5, 2)
			old := d.chain()
			w.publish(d.all...)
			if r := w.pull(t, s.Sink); !r.Complete() {
				t.Fatalf("report: %s", r)
			}
			for _, r := range s.Readings(t) {
				if r.Clock != "unsynced" || r.TS != -1 {
					t.Fatalf("before the clock note: %+v", r)
				}
			}
			d.readings(3, 2) // 6 to 8: lost with the old incarnation, 8 is known to have existed
			last := d.all[8].Link()
			d.life("main")
			d.epoch(&journal.Continuation{Incarnation: old.Incarnation, Last: last})
			d.note(journal.Note{Clock: &journal.ClockNote{Boot: d.boot, Mono: 1000, Wall: 1_700_000_001_000}})
			d.note(journal.Note{Gap: &journal.GapNote{Reason: journal.GapRecovery, Incarnation: old.Incarnation, From: 6, To: 8, Segments: 3, Readings: 6}})
			d.readings(2, 2)
			w.publish(d.all...)
			r := w.pull(t, s.Sink)
			gaps := s.Gaps(t)
			want := []sinktest.Gap{{Chain: old.String(), First: 6, Last: 8, Reason: "no hub holds it", Explained: "damaged log"}}
			if r.Missing != 3 || !slices.Equal(gaps, want) || !strings.Contains(r.String(), "damaged log") {
				t.Errorf("gaps %+v, report: %s", gaps, r)
			}
			rows := s.Readings(t)
			if len(rows) != 14 {
				t.Errorf("%d readings", len(rows))
			}
			for _, r := range rows {
				if r.Clock != "restamped" || r.TS != 1_700_000_000_000+r.Mono {
					t.Errorf("after the clock note: %+v", r)
				}
			}
		})
	}
}

func databases() map[string]func(testing.TB) sinktest.Subject {
	return map[string]func(testing.TB) sinktest.Subject{"sqlite": sinktest.SQLite, "postgres": sinktest.Postgres}
}

// stored returns what a database holds, in the form of world.made.
func stored(t testing.TB, s sinktest.Subject) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, r := range s.Readings(t) {
		v := r.Value
		switch v {
		case "true":
			v = "1"
		case "false":
			v = "0"
		}
		k := fmt.Sprintf("%s %d %d %s=%s", r.Chain, r.Seq, r.Idx, r.Name, v)
		if out[k] {
			t.Errorf("twice in the database: %s", k)
		}
		out[k] = true
	}
	return out
}

// TestPullSetsPoisonAside: a reading that the database cannot hold costs its segment, not the chain.
func TestPullSetsPoisonAside(t *testing.T) {
	s := sinktest.Postgres(t)
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(3, 2)
	nul := d.reading()
	nul.Sample = edge.Sample{Quantity: edge.Quantity{Name: "log", Kind: edge.Text}, Text: "a\x00b"}
	seg := d.keep(d.wr.Readings(d.boot, []edge.Reading{nul}))
	d.readings(3, 2)
	w.publish(d.all...)
	r := w.pull(t, s.Sink)
	if r.Missing != 1 || r.Chains[0].Missing[0].First != seg.Seq || !strings.Contains(r.String(), "NUL") {
		t.Errorf("report: %s", r)
	}
	same(t, stored(t, s), w.made)
}

// TestDeadLettersOfADatabase: with a dead-letter file the reading alone is missing, and nothing is a gap.
func TestDeadLettersOfADatabase(t *testing.T) {
	s := sinktest.Postgres(t)
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(3, 2)
	good, nul := d.reading(), d.reading()
	nul.Sample = edge.Sample{Quantity: edge.Quantity{Name: "log", Kind: edge.Text}, Text: "a\x00b"}
	seg := d.keep(d.wr.Readings(d.boot, []edge.Reading{good, nul}))
	w.made[key(seg.Chain, seg.Seq, 0, good)] = true
	d.readings(3, 2)
	w.publish(d.all...)
	path := filepath.Join(t.TempDir(), "collect.postgres.dead.jsonl")
	r, err := w.collector(t, s.Sink, func(c *collector.Config) { c.Dead = collector.NewDeadLetters(path) }).Pull(t.Context())
	if err != nil || r.Missing != 0 || r.Refused != 1 || len(s.Gaps(t)) != 0 {
		t.Errorf("%v, report: %s", err, r)
	}
	same(t, stored(t, s), w.made)
	if text := string(must(os.ReadFile(path))); !strings.Contains(text, `"index":1`) || strings.Count(text, "\n") != 1 {
		t.Errorf("the file says %s", text)
	}
}

// TestClockJumps: the device's clock jumps back by decades and forward by centuries, and so does the collector's: everything arrives, in the order of seq, with the
// times that were signed.
func TestClockJumps(t *testing.T) {
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			s := fresh(t)
			w := newWorld(2, 1)
			d := w.device(0)
			d.epoch(nil)
			for _, wall := range []int64{1_700_000_000_000, 1, 8_000_000_000_000, 0, 1_700_000_000_500} {
				d.wall = wall
				d.readings(3, 4)
			}
			w.publish(d.all...)
			if r := w.pull(t, s.Sink); !r.Complete() || r.Refused != 0 {
				t.Fatalf("report: %s", r)
			}
			b := collector.Batch{Chain: sinktest.Chain(1, 1), Mark: &journal.Link{}, Readings: sinktest.Rows(0, 0, 2), Received: time.UnixMilli(1)}
			if err := s.Sink.Write(t.Context(), b); err != nil { // it is 1970 here
				t.Error(err)
			}
			rows := s.Readings(t)
			for i, r := range rows[1:] {
				if rows[i].Chain == r.Chain && rows[i].Mono >= r.Mono && r.Chain == d.chain().String() {
					t.Errorf("%+v stands after %+v", r, rows[i])
				}
			}
			if len(rows) != 15*4+2 {
				t.Errorf("%d readings", len(rows))
			}
		})
	}
}

// TestPullErrors: what ends a run, and what the report says then.
func TestPullErrors(t *testing.T) {
	w := newWorld(2, 2)
	for i := range 2 {
		d := w.device(i)
		d.epoch(nil)
		d.readings(5, 1)
		w.publish(d.all...)
	}
	sink := newMemory()
	sink.fail = errors.New("disk full")
	r, err := w.collector(t, sink).Pull(t.Context())
	if !errors.Is(err, sink.fail) || r.Readings != 0 || r.Complete() || !strings.Contains(r.String(), "stopped") {
		t.Errorf("%v, report: %s", err, r)
	}
	sink.fail = nil
	for _, h := range w.hubs {
		w.down[h] = transport.ErrUnreachable
	}
	_, err = w.collector(t, sink).Pull(t.Context())
	if !errors.Is(err, collector.ErrNoHub) || !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("all hubs away: %v", err)
	}
	none := newWorld(0, 1)
	if _, err := none.collector(t, sink).Pull(t.Context()); !errors.Is(err, transport.ErrNoHubs) {
		t.Errorf("no hub in the fleet: %v", err)
	}
	if _, err := collector.New(collector.Config{}); err == nil {
		t.Error("an empty config was taken")
	}
}
