// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/journal"
)

// said keeps a log.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

// tail lets a collector follow in the background, and returns what it logs.
func (w *world) tail(t *testing.T, s sinktest.Subject, dead collector.Dead) *said {
	t.Helper()
	log := &said{}
	ctx, cancel := context.WithCancel(t.Context())
	c := w.collector(t, s.Sink, func(c *collector.Config) {
		c.Log, c.Dead = slog.New(slog.NewTextHandler(log, nil)), dead
	})
	done := make(chan error)
	go func() { done <- c.Follow(ctx, func(collector.Report) {}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return log
}

// TestDiskFull fills the disk of the database, a real one, twice while a collector follows. It says what to do, the file is sound and can be read, nothing
// is lost, and it goes on by itself when there is room.
func TestDiskFull(t *testing.T) {
	disk := sinktest.SmallDisk(t, "4m")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, 1)
		d := w.device(0)
		d.epoch(nil)
		w.publish(d.all...)
		s := sinktest.SQLiteAt(t, filepath.Join(disk, "readings.db"))
		log := w.tail(t, s, nil)
		for round := range 2 {
			w.publish(d.readings(20, 20)...)
			synctest.Wait()
			before := stored(t, s)
			same(t, before, w.made)
			log.take()
			free := sinktest.FillUp(t, disk)
			w.publish(d.readings(60, 50)...)
			synctest.Wait()
			if text := log.take(); !strings.Contains(text, "readings.db") || !strings.Contains(text, "full: make room, nothing is lost") {
				t.Errorf("round %d: it logs %s", round, text)
			}
			time.Sleep(10 * time.Minute) // it tries again and again
			synctest.Wait()
			kept := stored(t, s)
			for k := range before {
				if !kept[k] {
					t.Fatalf("round %d: %s was there before the disk was full", round, k)
				}
			}
			if len(kept) == len(w.made) {
				t.Fatalf("round %d: the disk was not full", round)
			}
			t.Logf("round %d: %d readings before, %d while the disk was full, %d to come", round, len(before), len(kept), len(w.made)-len(kept))
			free()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			same(t, stored(t, s), w.made)
		}
		if n := s.Count(t, `SELECT count(*) FROM gap`); n != 0 {
			t.Errorf("%d gaps", n)
		}
	})
}

// TestDiskFull_DeadLetters: the disk of the dead-letter file is full when readings come that the database cannot hold. Nothing passes them before the file has
// them, and it has each once, whole, though the disk took the first part of a line.
func TestDiskFull_DeadLetters(t *testing.T) {
	disk := sinktest.SmallDisk(t, "128k")
	path := filepath.Join(disk, "collect.sqlite.dead.jsonl")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, 1)
		d := w.device(0)
		d.epoch(nil)
		bad := map[string]bool{} // places that the file must hold
		w.publish(append(d.all, d.poisoned(1, bad))...)
		s := sinktest.SQLite(t)
		s.Sink = strict{s.Sink}
		log := w.tail(t, s, collector.NewDeadLetters(path))
		synctest.Wait()
		same(t, stored(t, s), w.made)
		same(t, places(t, path, false), bad)
		before := len(bad)
		log.take()
		free := sinktest.FillUp(t, disk)
		w.publish(append(d.readings(3, 5), d.poisoned(60, bad))...)
		synctest.Wait()
		if text := log.take(); !strings.Contains(text, path) || !strings.Contains(text, "no space left on device") || !strings.Contains(text, "make room") {
			t.Errorf("it logs %s", text)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if kept := len(places(t, path, true)); kept < before || kept == len(bad) {
			t.Errorf("the file holds %d letters, of %d before and %d now", kept, before, len(bad))
		}
		if text := must(os.ReadFile(path)); bytes.HasSuffix(text, []byte("\n")) {
			t.Error("the disk took no part of a line")
		}
		if got := len(stored(t, s)); got == len(w.made) {
			t.Error("readings passed while the letters beside them were nowhere")
		}
		free()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		same(t, stored(t, s), w.made)
		same(t, places(t, path, false), bad)
		if n := s.Count(t, `SELECT count(*) FROM gap`); n != 0 {
			t.Errorf("%d gaps", n)
		}
	})
}

// strict is a database that holds no NUL, as PostgreSQL.
type strict struct{ collector.Sink }

func (s strict) Write(ctx context.Context, b collector.Batch) error {
	if err := b.Check(false); err != nil {
		return err
	}
	return s.Sink.Write(ctx, b)
}

// poisoned makes a segment of n readings and as many that the database cannot hold, and notes both.
func (d *device) poisoned(n int, bad map[string]bool) *journal.Segment {
	var batch []edge.Reading
	for range n {
		nul := d.reading()
		nul.Sample = edge.Sample{Quantity: edge.Quantity{Name: "log", Kind: edge.Text}, Text: "a\x00b"}
		batch = append(batch, d.reading(), nul)
	}
	s := d.keep(d.wr.Readings(d.boot, batch))
	for i, r := range batch {
		if i%2 == 0 {
			d.w.made[key(s.Chain, s.Seq, i, r)] = true
		} else {
			bad[fmt.Sprintf("%s/%d/%d", s.Chain, s.Seq, i)] = true
		}
	}
	return s
}

// places reads which readings a dead-letter file holds; only torn files may end within a line.
func places(t *testing.T, path string, torn bool) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for dec := json.NewDecoder(bytes.NewReader(must(os.ReadFile(path)))); ; {
		var l collector.DeadLetter
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) || torn && errors.Is(err, io.ErrUnexpectedEOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		place := fmt.Sprintf("%s/%d/%d", l.Chain, l.Seq, l.Index)
		if out[place] {
			t.Errorf("twice in the file: %s", place)
		}
		out[place] = true
	}
}
