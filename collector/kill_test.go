// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
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

// thaw returns a world whose hubs hold what of it was made, unless they get it later.
func thaw(t testing.TB, path string, later func(*world, []frozenSegment)) *world {
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
	later(w, f.Segments)
	return w
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
