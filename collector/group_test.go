// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// crowded is a world whose hubs may be followed by several at a time.
type crowded struct{ *world }

func (c crowded) Follow(ctx context.Context, hub edge.ID, visit func(transport.Held) error) error {
	held, err := c.Held(ctx, hub, edge.ID{})
	if err != nil {
		return err
	}
	events := make(chan transport.Held, 10_000)
	c.mu.Lock()
	if c.crowd == nil {
		c.crowd = map[edge.ID][]chan transport.Held{}
	}
	c.crowd[hub] = append(c.crowd[hub], events)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.crowd[hub] = slices.DeleteFunc(c.crowd[hub], func(e chan transport.Held) bool { return e == events })
	}()
	for _, h := range held {
		if err := visit(h); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h := <-events:
			if err := visit(h); err != nil {
				return err
			}
		}
	}
}

func (w *world) group(t testing.TB, outputs ...collector.Output) *collector.Group {
	t.Helper()
	g, err := collector.NewGroup(collector.Config{Source: crowded{w}, Fleet: w.current, Key: w.reader, Reader: w.readerID, Signer: softKey(3)}, outputs)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestGroupFetchesOnce: sinks that stand in the same place are fed by one fetch; one that stands elsewhere gets what it lacks.
func TestGroupFetchesOnce(t *testing.T) {
	w := newWorld(3, 4)
	total := 0
	for i := range 4 {
		d := w.device(i)
		d.epoch(nil)
		d.readings(300, 3)
		w.publish(d.all...)
		total += len(d.all)
	}
	one, two, ahead := newMemory(), newMemory(), newMemory()
	w.pull(t, ahead)
	before := w.given()
	for _, r := range w.group(t, collector.Output{Name: "one", Sink: one}, collector.Output{Name: "two", Sink: two},
		collector.Output{Name: "ahead", Sink: ahead}).Pull(t.Context()) {
		if r.Err != nil || !r.Report.Complete() {
			t.Errorf("%s: %v, %s", r.Name, r.Err, r.Report)
		}
	}
	for _, sink := range []*memory{one, two, ahead} {
		same(t, sink.rows, w.made)
	}
	// A claim beyond what is proven costs a segment more for each sink and hub.
	if n := w.given() - before; n > total+total/20 {
		t.Errorf("the hubs gave %d segments for two sinks that lack %d", n, total)
	}
}

// held is a sink that takes nothing while it is held.
type held struct {
	*memory
	gate chan struct{}
}

func (h *held) Write(ctx context.Context, b collector.Batch) error {
	select {
	case <-h.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	return h.memory.Write(ctx, b)
}

// TestGroupKeepsApart: a sink that is dead and one that hangs stop nobody; both are fed when they are back; meanwhile hubs may let go nothing, but for a
// spare sink and one that remembers nothing.
func TestGroupKeepsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		d := w.device(0)
		d.epoch(nil)
		d.readings(20, 2)
		w.publish(d.all...)
		good, hangs, spare, show := newMemory(), &held{newMemory(), make(chan struct{})}, newMemory(), forgetful{newMemory()}
		spare.fail = errors.New("never there")
		dead, revived := errors.New("connection refused"), newMemory()
		var mu sync.Mutex
		alive, tries := false, 0
		lazy := collector.NewLazy(func(context.Context) (collector.Sink, error) {
			mu.Lock()
			defer mu.Unlock()
			if tries++; !alive {
				return nil, dead
			}
			return revived, nil
		})
		g := w.group(t, collector.Output{Name: "good", Sink: good}, collector.Output{Name: "hangs", Sink: hangs}, collector.Output{Name: "dead", Sink: lazy},
			collector.Output{Name: "spare", Sink: spare, Spare: true}, collector.Output{Name: "show", Sink: show})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Follow(ctx, func(string, collector.Report) {}) }()
		arrived := func(what string, sinks ...*memory) {
			t.Helper()
			for _, s := range sinks {
				s.mu.Lock()
				t.Log(what)
				same(t, s.rows, w.made)
				s.mu.Unlock()
			}
		}
		time.Sleep(2 * time.Minute)
		arrived("the first pull", good, show.memory)
		w.publish(d.readings(30, 2)...)
		time.Sleep(2 * time.Minute)
		arrived("news", good, show.memory)
		if len(hangs.rows) != 0 || len(revived.rows) != 0 {
			t.Error("a sink that takes nothing has something")
		}
		w.wantMark(t, d, -1, w.hubs...)
		if tries > 24 { // 10 without jitter, 20 at the shortest pauses, 240 if the pause stayed a second
			t.Errorf("the dead sink was tried %d times in 4 minutes: the pause does not grow", tries)
		}
		close(hangs.gate)
		mu.Lock()
		alive = true
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		arrived("all are back", good, hangs.memory, revived)
		w.publish(d.readings(1, 1)...)
		time.Sleep(2 * time.Minute)
		w.wantMark(t, d, len(d.all)-1, w.hubs...)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// forgetful remembers nothing.
type forgetful struct{ *memory }

func (forgetful) Marks(context.Context) (map[journal.Chain]collector.Mark, error) { return nil, nil }

// TestForgetfulSinkPromisesNothing: what nobody keeps, hubs keep.
func TestForgetfulSinkPromisesNothing(t *testing.T) {
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(5, 1)
	w.publish(d.all...)
	if _, err := w.collector(t, forgetful{newMemory()}, signing).Pull(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantMark(t, d, -1, w.hubs...)
}

// picky is a sink that refuses a reading.
type picky struct {
	*memory
	refuses func(r *collector.Row) bool
}

func (p *picky) Write(ctx context.Context, b collector.Batch) error {
	for i := range b.Readings {
		if r := &b.Readings[i]; p.refuses(r) {
			return &collector.PoisonError{Chain: b.Chain, Seq: r.Seq, Index: r.Index, Err: errors.New("column too short")}
		}
	}
	if err := b.Check(false); err != nil {
		return err
	}
	return p.memory.Write(ctx, b)
}

// TestDeadLetters: each reading that a sink cannot hold is a line of a file, once, also after a crash between the file and the sink; all others arrive.
func TestDeadLetters(t *testing.T) {
	w := newWorld(2, 1)
	d := w.device(0)
	d.epoch(nil)
	d.readings(4, 5)
	nul := make([]edge.Reading, 6)
	for i := range nul {
		nul[i] = d.reading()
		if i%2 == 0 {
			nul[i].Sample = edge.Sample{Quantity: edge.Quantity{Name: "log", Kind: edge.Text}, Text: "a\x00b"}
		}
	}
	seg := d.keep(d.wr.Readings(d.boot, nul))
	for i, r := range nul {
		if i%2 == 1 {
			w.made[key(seg.Chain, seg.Seq, i, r)] = true
		}
	}
	for k := range w.made {
		if strings.HasPrefix(k, d.chain().String()+" 2 1 ") {
			delete(w.made, k)
		}
	}
	d.readings(3, 2)
	w.publish(d.all...)
	path := filepath.Join(t.TempDir(), "dead.jsonl")
	sink := &picky{newMemory(), func(r *collector.Row) bool { return r.Seq == 2 && r.Index == 1 }}
	for round := range 3 { // the second finds the letters and an empty sink, the third a torn line
		if round == 2 {
			text := must(os.ReadFile(path))
			if err := os.WriteFile(path, text[:len(text)-9], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		sink.memory = newMemory()
		dead := collector.NewDeadLetters(path)
		r, err := w.collector(t, sink, func(c *collector.Config) { c.Dead = dead }).Pull(t.Context())
		if err != nil || !r.Complete() || r.Refused != 4 || !strings.Contains(r.String(), "4 readings refused") {
			t.Fatalf("%v, %d refused, report: %s", err, r.Refused, r)
		}
		same(t, sink.rows, w.made)
		var got []collector.DeadLetter
		for line := range strings.Lines(string(must(os.ReadFile(path)))) {
			var l collector.DeadLetter
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			got = append(got, l)
		}
		if len(got) != 4 || got[0].Seq != 2 || got[0].Index != 1 || got[0].Why != "column too short" {
			t.Fatalf("round %d: %+v", round, got)
		}
		for i, l := range got[1:] {
			if l.Seq != seg.Seq || l.Index != 2*i || l.Value != "a\x00b" || l.Chain != d.chain().String() || !strings.Contains(l.Why, "NUL") {
				t.Errorf("round %d: %+v", round, l)
			}
		}
	}
	if err := os.WriteFile(path, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sink.memory = newMemory()
	_, err := w.collector(t, sink, func(c *collector.Config) { c.Dead = collector.NewDeadLetters(path) }).Pull(t.Context())
	if err == nil || !strings.Contains(err.Error(), "move the file away") || len(sink.rows) != 0 {
		t.Errorf("a file that is none of ours: %v", err)
	}
}
