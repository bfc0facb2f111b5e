// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// world is a fleet with hubs in memory that hold real segments. It is a collector.Source.
type world struct {
	mu       sync.Mutex
	fleet    *fleet.Fleet
	owner    journal.SoftKey
	reader   journal.ReaderKey
	readerID edge.ID
	hubs     []edge.ID
	stores   map[edge.ID]map[journal.Chain]map[uint64][]byte
	down     map[edge.ID]error
	heads    map[journal.Chain][]byte
	follows  map[edge.ID]chan transport.Held
	crowd    map[edge.ID][]chan transport.Held // those who follow beside others: crowded
	fetches  int
	made     map[string]bool // what the devices sealed for the reader: chain seq idx value
	lies     map[edge.ID]uint64
	conduct
}

func softKey(seed uint64) journal.SoftKey {
	s := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(s, seed)
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(s))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newWorld founds a fleet of so many hubs and devices; device i has softKey(1000+i).
func newWorld(hubs, devices int) *world {
	w := &world{owner: softKey(1), reader: must(journal.GenerateReaderKey()), readerID: softKey(3).ID(),
		stores: map[edge.ID]map[journal.Chain]map[uint64][]byte{}, down: map[edge.ID]error{}, heads: map[journal.Chain][]byte{},
		follows: map[edge.ID]chan transport.Held{}, made: map[string]bool{}, lies: map[edge.ID]uint64{}, conduct: newConduct()}
	recovery := must(journal.GenerateReaderKey())
	f := must(fleet.Found(fleet.Founding{Name: "farm", Owner: w.owner, Spare: softKey(2).ID(), Recovery: recovery.Public()}, time.Now()))
	grants := []fleet.Grant{{Member: w.readerID, Name: "server", Roles: fleet.Collector,
		Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"*"}}}, Reader: w.reader.Public()}}
	for i := range hubs {
		id := softKey(100 + uint64(i)).ID()
		w.hubs = append(w.hubs, id)
		w.stores[id] = map[journal.Chain]map[uint64][]byte{}
		grants = append(grants, fleet.Grant{Member: id, Name: fmt.Sprintf("hub-%d", i), Roles: fleet.Hub})
	}
	for i := range devices {
		grants = append(grants, fleet.Grant{Member: softKey(1000 + uint64(i)).ID(), Name: fmt.Sprintf("device-%d", i), Roles: fleet.Device})
	}
	w.fleet = must(f.Grant(fleet.Author{Key: w.owner}, time.Now(), grants...))
	return w
}

func (w *world) store(hub edge.ID, s *journal.Segment) { w.put(hub, s.Chain, s.Seq, s.Bytes()) }

func (w *world) put(hub edge.ID, chain journal.Chain, seq uint64, raw []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stores[hub][chain] == nil {
		w.stores[hub][chain] = map[uint64][]byte{}
	}
	w.stores[hub][chain][seq] = raw
	if f := w.follows[hub]; f != nil {
		f <- transport.Held{Chain: chain, Spans: []transport.Span{{First: seq, Last: seq}}}
	}
	for _, f := range w.crowd[hub] {
		f <- transport.Held{Chain: chain, Spans: []transport.Span{{First: seq, Last: seq}}}
	}
}

// publish puts a segment on all hubs.
func (w *world) publish(segs ...*journal.Segment) {
	for _, s := range segs {
		for _, h := range w.hubs {
			w.store(h, s)
		}
	}
}

// remove takes segments from hubs.
func (w *world) remove(chain journal.Chain, first, last uint64, hubs ...edge.ID) {
	for _, h := range hubs {
		for seq := first; seq <= last; seq++ {
			delete(w.stores[h][chain], seq)
		}
	}
}

func (w *world) Held(ctx context.Context, hub edge.ID, device edge.ID) ([]transport.Held, error) {
	if err := w.freezes(ctx, hub); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if err := w.down[hub]; err != nil {
		return nil, err
	}
	out := slices.Clone(w.claims[hub])
	for chain, segs := range w.stores[hub] {
		if device != (edge.ID{}) && device != chain.Device {
			continue
		}
		h := transport.Held{Chain: chain, Floor: w.floors[hub][chain].Floor, Past: w.floors[hub][chain].Past}
		for _, seq := range sortedSeqs(segs) {
			if n := len(h.Spans); n > 0 && h.Spans[n-1].Last+1 == seq {
				h.Spans[n-1].Last = seq
				continue
			}
			h.Spans = append(h.Spans, transport.Span{First: seq, Last: seq})
		}
		if lie := w.lies[hub]; lie > 0 {
			h.Spans = []transport.Span{{First: 0, Last: lie}}
		}
		out = append(out, h)
	}
	return out, nil
}

func sortedSeqs(segs map[uint64][]byte) []uint64 {
	var seqs []uint64
	for seq := range segs {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return seqs
}

func (w *world) Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func([]byte) error) error {
	if err := w.freezes(ctx, hub); err != nil {
		return err
	}
	if w.mute[hub] {
		<-ctx.Done()
		return ctx.Err()
	}
	w.mu.Lock()
	err := w.down[hub]
	w.fetches++
	w.asked++
	var out [][]byte
	for seq := span.First; seq <= span.Last; seq++ {
		if raw := w.stores[hub][chain][seq]; raw != nil {
			out = append(out, raw)
		}
	}
	w.served[hub] += len(out)
	w.mu.Unlock()
	if err != nil {
		return err
	}
	buf := make([]byte, 0, journal.MaxSegment)
	for _, raw := range out {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf = append(buf[:0], raw...) // the slice is the visitor's only during the visit
		if err := visit(buf); err != nil {
			return fmt.Errorf("world: %w", err)
		}
	}
	return nil
}

func (w *world) Head(_ context.Context, chain journal.Chain) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked++
	if h := w.heads[chain]; h != nil {
		return h, nil
	}
	return nil, transport.ErrNoHead
}

// device makes segments.
type device struct {
	w     *world
	key   journal.SoftKey
	wr    *journal.Writer
	boot  journal.BootID
	mono  int64
	wall  int64 // of mono 0; 0 = not synchronised
	count int
	all   []*journal.Segment
	mute  bool // what it seals is not for the reader
}

func (w *world) device(i int) *device {
	d := &device{w: w, key: softKey(1000 + uint64(i)), wall: 1_700_000_000_000, mono: 1000}
	d.boot[0] = byte(i + 1)
	d.life("main")
	return d
}

// life begins a new incarnation.
func (d *device) life(stream string) {
	d.wr = must(journal.NewWriter(d.w.fleet.ID(), stream, d.key))
	d.all = nil
}

func (d *device) chain() journal.Chain { return d.wr.Chain() }

func (d *device) stamp() journal.Stamp {
	d.mono += 10
	at := edge.Instant{Mono: d.mono}
	if d.wall != 0 {
		at.Wall = d.wall + d.mono
	}
	return journal.Stamp{Boot: d.boot, At: at}
}

func (d *device) keep(s *journal.Segment, err error) *journal.Segment {
	must(s, err)
	if err := d.wr.Commit(s); err != nil {
		panic(err)
	}
	d.all = append(d.all, s)
	return s
}

func (d *device) epoch(after *journal.Continuation, readers ...journal.Reader) *journal.Segment {
	d.mute = len(readers) > 0
	if !d.mute {
		readers = must(d.w.fleet.Readers(d.chain().Device, d.chain().Stream))
	}
	return d.keep(d.wr.Epoch(readers, after, d.stamp()))
}

func (d *device) note(n journal.Note) *journal.Segment { return d.keep(d.wr.Note(n, d.stamp())) }

// readings makes n segments of per readings of all kinds and notes what was made.
func (d *device) readings(n, per int) []*journal.Segment {
	out := make([]*journal.Segment, 0, n)
	for range n {
		batch := make([]edge.Reading, per)
		for i := range batch {
			batch[i] = d.reading()
		}
		s := d.keep(d.wr.Readings(d.boot, batch))
		if !d.mute {
			for i, r := range batch {
				d.w.made[key(s.Chain, s.Seq, i, r)] = true
			}
		}
		out = append(out, s)
	}
	return out
}

func (d *device) reading() edge.Reading {
	d.count++
	r := edge.Reading{Sensor: "bme280-0", At: d.stamp().At}
	switch d.count % 4 {
	case 0:
		r.Sample = edge.Sample{Quantity: edge.Quantity{Name: "door", Kind: edge.State}, Value: float64(d.count / 4 % 2)}
	case 1:
		r.Sample = edge.Sample{Quantity: edge.Quantity{Name: "log", Kind: edge.Text}, Text: fmt.Sprintf("Tür %d 門 'x' \"y\"\t\n\\", d.count)}
	case 2:
		r.Sample = edge.Sample{Quantity: edge.Quantity{Name: "pulses", Unit: "count", Kind: edge.Counter}, Value: float64(d.count)}
	default:
		r.Sample = edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: float64(d.count)/7 - 20}
	}
	return r
}

// key names one reading in its place, with its value.
func key(c journal.Chain, seq uint64, idx int, r edge.Reading) string {
	v := fmt.Sprint(r.Value)
	if r.Kind == edge.Text {
		v = r.Text
	}
	return fmt.Sprintf("%s %d %d %s=%s", c, seq, idx, r.Quantity.Name, v)
}

// memory is a sink in memory, with the rules that the contract suite holds sinks to.
type memory struct {
	mu    sync.Mutex
	rows  map[string]bool
	marks map[journal.Chain]collector.Mark
	forks []collector.Fork
	fail  error
}

func newMemory() *memory {
	return &memory{rows: map[string]bool{}, marks: map[journal.Chain]collector.Mark{}}
}

func (m *memory) Marks(context.Context) (map[journal.Chain]collector.Mark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.marks), nil
}

func (m *memory) Write(ctx context.Context, b collector.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.fail, ctx.Err()); err != nil {
		return err
	}
	mark := m.marks[b.Chain]
	move, err := b.Advance(mark.Link)
	if err != nil {
		return err
	}
	mark.Gaps = b.Regap(mark.Gaps, mark.Link).Apply(mark.Gaps)
	if move {
		mark.Link = b.Mark
	}
	m.marks[b.Chain] = mark
	for _, r := range b.Readings {
		m.rows[key(b.Chain, r.Seq, r.Index, r.Reading)] = true
	}
	m.forks = append(m.forks, b.Forks...)
	return nil
}

func (m *memory) Close() error { return nil }

func (w *world) collector(t testing.TB, sink collector.Sink, change ...func(*collector.Config)) *collector.Collector {
	t.Helper()
	cfg := collector.Config{Source: w, Sink: sink, Fleet: w.current, Key: w.reader, Reader: w.readerID}
	for _, f := range change {
		f(&cfg)
	}
	c, err := collector.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pull pulls once and fails the test on an error of the run.
func (w *world) pull(t testing.TB, sink collector.Sink) collector.Report {
	t.Helper()
	r, err := w.collector(t, sink).Pull(t.Context())
	if err != nil {
		t.Fatalf("pull: %v\n%s", err, r)
	}
	return r
}

// same compares what was made with what arrived, as sets.
func same(t testing.TB, got, want map[string]bool) {
	t.Helper()
	shown := 0
	for k := range want {
		if !got[k] && shown < 5 {
			shown++
			t.Errorf("made and not in the sink: %s", k)
		}
	}
	for k := range got {
		if !want[k] && shown < 10 {
			shown++
			t.Errorf("in the sink and never made: %s", k)
		}
	}
}

// spoil returns a copy with one bit turned.
func spoil(raw []byte, at int) []byte {
	out := bytes.Clone(raw)
	out[at] ^= 1
	return out
}
