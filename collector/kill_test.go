// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// frozen is a world on disk, for another process.
type frozen struct {
	Fleet, Reader []byte
	ReaderID      edge.ID
	Hubs          []edge.ID
	Segments      []frozenSegment
}

type frozenSegment struct {
	Chain journal.Chain
	Seq   uint64
	Raw   []byte
}

func (w *world) freeze(t testing.TB, segs []*journal.Segment) string {
	t.Helper()
	f := frozen{Fleet: must(w.fleet.Encoded()), Reader: must(w.reader.Bytes()), ReaderID: w.readerID, Hubs: w.hubs}
	for _, s := range segs {
		f.Segments = append(f.Segments, frozenSegment{s.Chain, s.Seq, s.Bytes()})
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(f); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "world")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func thaw(t testing.TB, path string) *world {
	t.Helper()
	var f frozen
	if err := gob.NewDecoder(bytes.NewReader(must(os.ReadFile(path)))).Decode(&f); err != nil {
		t.Fatal(err)
	}
	w := &world{fleet: must(fleet.Open(f.Fleet, journal.FleetID{})), reader: must(journal.NewReaderKey(f.Reader)), readerID: f.ReaderID,
		hubs: f.Hubs, stores: map[edge.ID]map[journal.Chain]map[uint64][]byte{}, down: map[edge.ID]error{}, conduct: newConduct()}
	for _, h := range f.Hubs {
		w.stores[h] = map[journal.Chain]map[uint64][]byte{}
	}
	for _, s := range f.Segments {
		for _, h := range f.Hubs {
			w.put(h, s.Chain, s.Seq, s.Raw)
		}
	}
	return w
}

// ready is what a child says before it pulls.
const ready = "ready to pull"

// TestChildPull is not a test of its own: TestKill runs it in processes that it kills.
func TestChildPull(t *testing.T) {
	path := os.Getenv("COLLECTOR_TEST_WORLD")
	if path == "" {
		return
	}
	var sink collector.Sink
	var err error
	if where := os.Getenv("COLLECTOR_TEST_SINK"); os.Getenv("COLLECTOR_TEST_KIND") == "sqlite" {
		sink, err = sqlite.Open(t.Context(), where)
	} else {
		sink, err = postgres.Open(t.Context(), sinktest.PostgresDSN(t), where)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := thaw(t, path)
	fmt.Println(ready)
	if r := w.pull(t, sink); !r.Complete() {
		t.Fatalf("report: %s", r)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKill kills the collector with SIGKILL at random points until one is left to finish.
func TestKill(t *testing.T) {
	w := newWorld(2, 3)
	var segs []*journal.Segment
	for i := range 3 {
		d := w.device(i)
		d.epoch(nil)
		d.readings(400, 25)
		d.epoch(nil)
		d.readings(400, 25)
		segs = append(segs, d.all...)
	}
	path := w.freeze(t, segs)
	for kind, fresh := range databases() {
		t.Run(kind, func(t *testing.T) {
			s := fresh(t)
			killed, inside, limit := 0, 0, 600*time.Millisecond
			for {
				if killChild(t, path, kind, s.Where, rand.N(limit)) {
					break
				}
				if n := s.Count(t, `SELECT count(*) FROM reading`); n > 0 && n < int64(len(w.made)) {
					inside++
				}
				if killed++; killed > 6 {
					limit += limit / 2
				}
			}
			same(t, stored(t, s), w.made)
			if n := s.Count(t, `SELECT count(*) FROM gap`); n != 0 {
				t.Errorf("%d gaps", n)
			}
			t.Logf("killed %d times, %d of them with a part written", killed, inside)
			if killed == 0 {
				t.Error("the collector was never killed")
			}
		})
	}
}

// killChild starts a collector and kills it after a while; true when it ended by itself before, well.
func killChild(t *testing.T, world, kind, where string, after time.Duration) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildPull$")
	cmd.Env = append(os.Environ(), "COLLECTOR_TEST_WORLD="+world, "COLLECTOR_TEST_KIND="+kind, "COLLECTOR_TEST_SINK="+where)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out []string
	kill := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // a child that hangs
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if out = append(out, lines.Text()); lines.Text() == ready {
			kill.Reset(after)
		}
	}
	err = cmd.Wait()
	kill.Stop()
	if err == nil {
		return true
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the collector failed by itself: %v\n%s", err, strings.Join(out, "\n"))
	}
	return false
}

// TestTwoCollectors lets two collectors, each of which reaches another hub only, fill one database at the same time.
func TestTwoCollectors(t *testing.T) {
	for kind, fresh := range databases() {
		t.Run(kind, func(t *testing.T) {
			s := fresh(t)
			w := newWorld(2, 4)
			for i := range 4 {
				d := w.device(i)
				d.epoch(nil)
				d.readings(700, 20)
				w.publish(d.all...)
				w.remove(d.chain(), 100, 120, w.hubs[0])
				w.remove(d.chain(), 300, 310, w.hubs[1])
			}
			var wg sync.WaitGroup
			for i, sink := range []collector.Sink{s.Reopen(t), s.Reopen(t)} {
				c := w.collector(t, sink, func(c *collector.Config) { c.Source = oneHub{w, w.hubs[i]} })
				wg.Go(func() {
					if r, err := c.Pull(t.Context()); err != nil {
						t.Errorf("%v\n%s", err, r)
					}
				})
			}
			wg.Wait()
			if r := w.pull(t, s.Sink); !r.Complete() {
				t.Errorf("report: %s", r)
			}
			same(t, stored(t, s), w.made)
		})
	}
}

// oneHub is a world of which one hub only can be reached.
type oneHub struct {
	*world
	hub edge.ID
}

func (o oneHub) Held(ctx context.Context, hub edge.ID, device edge.ID) ([]transport.Held, error) {
	if hub != o.hub {
		return nil, transport.ErrUnreachable
	}
	return o.world.Held(ctx, hub, device)
}
