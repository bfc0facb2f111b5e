// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

var temperature = edge.Quantity{Name: "temperature", Unit: "Cel"}

// world is an agent with a real outbox, and hubs that are a slice.
type world struct {
	t       *testing.T
	reader  journal.ReaderKey
	other   journal.ReaderKey
	readers atomic.Pointer[[]journal.Reader]
	synced  atomic.Bool
	refuse  atomic.Bool // hubs are away
	cfg     agent.Config
	hub     edge.ID
	left    int // readings that were sealed at the stop and wait in the outbox for the next start

	mu      sync.Mutex
	segs    []*journal.Segment
	heads   []time.Time
	logs    []string
	notices []agent.Notice
}

func newWorld(t *testing.T, dir string, probes []agent.Probe, streams ...agent.Stream) *world {
	t.Helper()
	w := &world{t: t, hub: edge.ID{1}}
	var err error
	w.reader, err = journal.GenerateReaderKey()
	check(t, err)
	w.other, err = journal.GenerateReaderKey()
	check(t, err)
	w.grant(w.reader)
	w.synced.Store(true)
	box, _, err := outbox.Open(t.Context(), outbox.Options{Dir: dir, Fleet: journal.FleetID{7}, Signer: journal.NewSoftKey(ed25519.NewKeyFromSeed(make([]byte, 32)))})
	check(t, err)
	if len(streams) == 0 {
		streams = []agent.Stream{{Name: "main", Age: 10 * time.Second, Readings: 1000}}
	}
	logger := slog.New(slog.NewTextHandler(w, nil))
	w.cfg = agent.Config{Boot: journal.BootID{9}, Clock: agent.NewClock(time.Minute, time.Now(), w.synced.Load, time.Time{}), Probes: probes,
		Streams: streams, Readers: func(string) ([]journal.Reader, error) { return *w.readers.Load(), nil },
		Outbox: box, Publisher: w, Heads: w, Hubs: agent.NewHubs(logger), Logger: logger, Notice: func(n agent.Notice) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.notices = append(w.notices, n)
		}}
	return w
}

func (w *world) grant(keys ...journal.ReaderKey) {
	var rs []journal.Reader
	for _, k := range keys {
		r, err := journal.NewReader(k.Public())
		check(w.t, err)
		rs = append(rs, r)
	}
	w.readers.Store(&rs)
}

// run lets the agent work for d of virtual time and stops it in order.
func (w *world) run(d time.Duration, during ...func(*agent.Agent)) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	a, err := agent.New(w.cfg)
	check(w.t, err)
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	time.Sleep(d)
	synctest.Wait()
	for _, f := range during {
		f(a)
	}
	cancel()
	check(w.t, <-done)
	w.left = int(w.cfg.Outbox.Status().Readings)
	check(w.t, w.cfg.Outbox.Close())
}

func (w *world) Publish(_ context.Context, seg *journal.Segment, _ []edge.ID) (transport.Receipt, error) {
	r := transport.Receipt{Targets: []fleet.Grant{{Member: w.hub}, {Member: edge.ID{2}}}}
	if w.refuse.Load() {
		return r, fmt.Errorf("test: %w: %w", transport.ErrNotQuorum, transport.ErrUnreachable)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segs = append(w.segs, seg)
	r.Acked = []edge.ID{w.hub, {2}}
	return r, nil
}

func (w *world) Count(journal.Chain, uint64, []edge.ID) transport.Receipt {
	return transport.Receipt{Targets: []fleet.Grant{{Member: w.hub}, {Member: edge.ID{2}}}, Acked: []edge.ID{w.hub, {2}}}
}

func (w *world) FleetChanged() {}

func (w *world) PutHead(context.Context, []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heads = append(w.heads, time.Now())
	return nil
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logs = append(w.logs, string(p))
	return len(p), nil
}

// pulled opens all that was published, as a reader would, and fails unless the chain is whole.
func (w *world) pulled(key journal.ReaderKey) (readings []edge.Reading, notes []journal.Note) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	ring := journal.NewKeyring(key)
	var last *journal.Link
	segs := slices.SortedFunc(slices.Values(w.segs), func(a, b *journal.Segment) int { return int(a.Seq) - int(b.Seq) })
	for _, s := range segs {
		check(w.t, last.Check(&s.Header))
		l := s.Link()
		last = &l
		switch s.Kind {
		case journal.KindEpoch:
			if _, err := ring.Learn(s); err != nil && !errors.Is(err, journal.ErrNotReader) {
				w.t.Fatal(err)
			}
		case journal.KindReadings:
			rs, err := ring.Readings(s)
			if errors.Is(err, journal.ErrUnknownEpoch) {
				continue
			}
			check(w.t, err)
			readings = append(readings, rs...)
		case journal.KindNote:
			n, err := ring.Note(s)
			if errors.Is(err, journal.ErrUnknownEpoch) {
				continue
			}
			check(w.t, err)
			notes = append(notes, n)
		}
	}
	return readings, notes
}

// steady is a sensor whose nth reading is n.
type steady struct {
	n      float64
	broken *atomic.Bool
	opens  *atomic.Int32
}

var errBus = errors.New("no acknowledge")

func (s *steady) Read(context.Context) ([]edge.Sample, error) {
	if s.broken != nil && s.broken.Load() {
		return nil, fmt.Errorf("steady: read: %w", errBus)
	}
	s.n++
	return []edge.Sample{{Quantity: temperature, Value: s.n}}, nil
}

func (s *steady) Close() error { return nil }

func probe(name string, every time.Duration, s *steady) agent.Probe {
	return agent.Probe{Name: name, Driver: "steady", Stream: "main", Every: every, Open: func(context.Context) (agent.Sensor, error) {
		if s.opens != nil {
			s.opens.Add(1)
		}
		return s, nil
	}}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An hour of sampling every ten seconds: no reading lost, none twice, no drift, in batches.
func TestHour(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, []agent.Probe{probe("a", 10*time.Second, &steady{})}, agent.Stream{Name: "main", Age: time.Minute, Readings: 1000})
		w.run(time.Hour + time.Second)
		readings, _ := w.pulled(w.reader)
		if len(readings)+w.left != 361 || w.left > 7 {
			t.Fatalf("%d readings published and %d sealed in an hour of one per ten seconds, want 361 in all", len(readings), w.left)
		}
		first := readings[0].At
		for i, r := range readings {
			if r.Value != float64(i+1) || r.At.Mono-first.Mono != int64(i)*10_000 || !r.At.Synced() {
				t.Fatalf("reading %d is %v at %d ms after the first, synced %v", i, r.Value, r.At.Mono-first.Mono, r.At.Synced())
			}
		}
		if n := len(w.segs); n > 70 {
			t.Errorf("%d segments for an hour of one-minute batches", n)
		}
		for i := 1; i < len(w.heads); i++ {
			if gap := w.heads[i].Sub(w.heads[i-1]); gap < time.Minute {
				t.Errorf("two heads of one chain %s apart", gap)
			}
		}
		if len(w.heads) < 30 {
			t.Errorf("%d heads in an hour", len(w.heads))
		}
	})
}

// A broken sensor is reported once, opened anew, and comes back; the other sensor never misses a beat.
func TestBrokenSensorLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		sick := &steady{broken: &atomic.Bool{}, opens: &atomic.Int32{}}
		sick.broken.Store(true)
		w := newWorld(t, dir, []agent.Probe{probe("well", time.Second, &steady{}), probe("sick", time.Second, sick)})
		go func() {
			time.Sleep(10 * time.Minute)
			sick.broken.Store(false)
		}()
		w.run(20*time.Minute+time.Millisecond, func(a *agent.Agent) {
			for _, h := range a.Status().Sensors {
				if h.Error != "" || h.LastOK.IsZero() {
					t.Errorf("%s is not well after the repair: %+v", h.Sensor, h)
				}
			}
		})
		readings, _ := w.pulled(w.reader)
		count := map[string]int{}
		for _, r := range readings {
			count[r.Sensor]++
		}
		if count["well"]+w.left < 1201 || count["sick"] < 200 {
			t.Errorf("in 1200 s the well sensor has %d readings, the repaired one %d, %d wait", count["well"], count["sick"], w.left)
		}
		if n := sick.opens.Load(); n < 3 || n > 20 {
			t.Errorf("the sick sensor was opened %d times: want some, with a pause that grows", n)
		}
		told := 0
		for _, line := range w.logs {
			if strings.Contains(line, "sensor fails") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("the fault was logged %d times, want once", told)
		}
	})
}

// Unsynced readings carry no wall time; once the clock is set, a note ties the boot's time to it.
func TestClockComesLater(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, []agent.Probe{probe("a", time.Second, &steady{})})
		w.synced.Store(false)
		go func() {
			time.Sleep(30 * time.Second)
			w.synced.Store(true)
		}()
		w.run(time.Minute)
		readings, notes := w.pulled(w.reader)
		var clock *journal.ClockNote
		for _, n := range notes {
			if n.Clock != nil {
				clock = n.Clock
			}
		}
		if clock == nil {
			t.Fatal("no clock note")
		}
		unsynced := 0
		want := map[float64]int64{}
		for _, r := range readings {
			if !r.At.Synced() {
				unsynced++
				r.At = clock.Restamp(w.cfg.Boot, r.At)
			}
			want[r.Value] = r.At.Wall
		}
		if unsynced < 29 || unsynced > 31 {
			t.Errorf("%d unsynced readings in 30 s", unsynced)
		}
		for v := 2.0; v <= float64(len(readings)); v++ {
			if d := want[v] - want[v-1]; d < 998 || d > 1002 {
				t.Errorf("readings %v and %v are %d ms apart after restamping", v-1, v, d)
			}
		}
	})
}

// A wall clock before the floor is not believed, whoever says that it is right.
func TestClockFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agent.NewClock(time.Hour, time.Now(), func() bool { return true }, time.Now().Add(time.Minute))
		if at, _ := c.Now(); at.Synced() || at.Mono != time.Hour.Milliseconds() {
			t.Errorf("before the floor: %+v", at)
		}
		time.Sleep(2 * time.Minute)
		if at, era := c.Now(); !at.Synced() || era != 1 || at.Wall != time.Now().UnixMilli() {
			t.Errorf("after the floor: %+v, era %d", at, era)
		}
	})
}

// A new reader reads from the next batch on, and not before; the key also changes daily.
func TestEpochs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, []agent.Probe{probe("a", time.Minute, &steady{})}, agent.Stream{Name: "main", Age: 10 * time.Minute, Readings: 1000})
		go func() {
			time.Sleep(5 * time.Hour)
			w.grant(w.reader, w.other)
		}()
		w.run(50 * time.Hour)
		all, _ := w.pulled(w.reader)
		late, _ := w.pulled(w.other)
		if len(all)+w.left != 3001 || len(late) < 2690 || len(late) > 2711 {
			t.Errorf("the old reader reads %d of 3001 and %d wait, the new one reads %d: want those of 45 hours", len(all), w.left, len(late))
		}
		epochs := 0
		for _, s := range w.segs {
			if s.Kind == journal.KindEpoch {
				epochs++
			}
		}
		if epochs != 3 { // start, new reader, a day after that
			t.Errorf("%d epochs, want 3", epochs)
		}
	})
}

// While hubs are away everything waits; when they come back it is published in full.
func TestOutage(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, []agent.Probe{probe("a", time.Second, &steady{})})
		w.refuse.Store(true)
		w.cfg.Receipts = openReceipts(t, dir)
		go func() {
			time.Sleep(10 * time.Minute)
			if s := w.cfg.Outbox.Status(); s.Published != 0 || s.Readings < 580 {
				t.Errorf("during the outage: %+v", s)
			}
			w.refuse.Store(false)
		}()
		w.run(15 * time.Minute)
		if readings, _ := w.pulled(w.reader); len(readings) < 890 {
			t.Errorf("%d readings of 15 minutes came through", len(readings))
		}
	})
}

func openReceipts(t *testing.T, dir string) *agent.Receipts {
	t.Helper()
	r, err := agent.OpenReceipts(filepath.Join(dir, "receipts"))
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

func TestNewRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for want, change := range map[string]func(*agent.Config){
			`its stream "main" is not`: func(c *agent.Config) { c.Streams = nil },
			"interval 0s":              func(c *agent.Config) { c.Probes[0].Every = 0 },
			"batches of 0s":            func(c *agent.Config) { c.Streams[0].Age = 0 },
			"and 0 readings":           func(c *agent.Config) { c.Streams[0].Readings = 0 },
		} {
			w := newWorld(t, t.TempDir(), []agent.Probe{probe("a", time.Second, &steady{})})
			change(&w.cfg)
			if _, err := agent.New(w.cfg); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
			check(t, w.cfg.Outbox.Close())
		}
	})
}

// An outbox that gives nothing out any more ends the agent, which would otherwise sample for nobody.
func TestClosedOutboxEndsRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, []agent.Probe{probe("a", time.Second, &steady{})})
		a, err := agent.New(w.cfg)
		check(t, err)
		go func() {
			time.Sleep(30 * time.Second)
			check(t, w.cfg.Outbox.Close())
		}()
		if err := a.Run(t.Context()); !errors.Is(err, outbox.ErrClosed) {
			t.Errorf("got %v, want %v", err, outbox.ErrClosed)
		}
	})
}

// A sensor that was closed after failures is not shown as open while it waits to be opened anew.
func TestBrokenSensorIsNotOpen(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		sick := &steady{broken: &atomic.Bool{}, opens: &atomic.Int32{}}
		sick.broken.Store(true)
		w := newWorld(t, dir, []agent.Probe{probe("sick", 10*time.Millisecond, sick)})
		w.run(500*time.Millisecond, func(a *agent.Agent) {
			if h := a.Status().Sensors[0]; h.Open || h.Errors != 3 || h.Error == "" {
				t.Errorf("after three failures: %+v", h)
			}
		})
	})
}

// A publisher that is cut off by the limit of time shows in the status.
func TestSlowHubsShow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, []agent.Probe{probe("a", time.Second, &steady{})})
		w.cfg.Publisher = stuck{}
		w.run(5*time.Minute, func(a *agent.Agent) {
			if s := a.Status(); !strings.Contains(s.Error, context.DeadlineExceeded.Error()) {
				t.Errorf("the status says %q", s.Error)
			}
		})
	})
}

// stuck is a publisher whose hubs never answer.
type stuck struct{}

func (stuck) Publish(ctx context.Context, _ *journal.Segment, _ []edge.ID) (transport.Receipt, error) {
	<-ctx.Done()
	return transport.Receipt{}, ctx.Err()
}

func (stuck) Count(journal.Chain, uint64, []edge.ID) transport.Receipt { return transport.Receipt{} }

func (stuck) FleetChanged() {}

// talker is a sensor whose readings are long words that do not compress.
type talker struct{ r *rand.Rand }

func (s *talker) Read(context.Context) ([]edge.Sample, error) {
	word := make([]byte, 3000)
	for i := range word {
		word[i] = byte('a' + s.r.IntN(26))
	}
	return []edge.Sample{{Quantity: edge.Quantity{Name: "log", Kind: edge.Text}, Text: string(word)}}, nil
}

func (s *talker) Close() error { return nil }

// Long texts close a batch by bytes; after an outage of the disk what waits is cut into segments of that size too.
func TestLongTexts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := agent.Probe{Name: "journal", Driver: "talker", Stream: "main", Every: time.Second, Open: func(context.Context) (agent.Sensor, error) {
			return &talker{rand.New(rand.NewPCG(1, 2))}, nil
		}}
		w := newWorld(t, dir, []agent.Probe{p}, agent.Stream{Name: "main", Age: time.Hour, Readings: 8000})
		w.run(10 * time.Minute)
		readings, _ := w.pulled(w.reader)
		if len(readings)+w.left != 601 {
			t.Errorf("%d readings published, %d wait, of 601", len(readings), w.left)
		}
		for _, s := range w.segs {
			if n := len(s.Bytes()); n > 2*journal.TargetSegment {
				t.Errorf("seq %d has %d bytes", s.Seq, n)
			}
		}
	})
}

// A line that a power cut tore does not spoil the next one.
func TestReceiptsAfterTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receipts")
	check(t, os.WriteFile(path, []byte("{\"chain\":\"a\"}\n{\"chain\":\"b"), 0o600))
	r, err := agent.OpenReceipts(path)
	check(t, err)
	w, err := journal.NewWriter(journal.FleetID{1}, "main", journal.NewSoftKey(ed25519.NewKeyFromSeed(make([]byte, 32))))
	check(t, err)
	seg, err := w.Plain(nil, 0, journal.Stamp{})
	check(t, err)
	check(t, r.Note(seg, transport.Receipt{}))
	check(t, r.Close())
	text, err := os.ReadFile(path)
	check(t, err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	var n agent.ReceiptNote
	if len(lines) != 3 || json.Unmarshal([]byte(lines[2]), &n) != nil || n.Chain != w.Chain().String() {
		t.Errorf("receipts are %q", text)
	}
}
