// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// simKey is the key of the n-th member.
func simKey(n uint64) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(binary.LittleEndian.AppendUint64(bytes.Repeat([]byte{7}, ed25519.SeedSize-8), n)))
}

// crowd is many devices in this process: each has a server of its own, a description that it signed, and a pipe for a line.
type crowd struct {
	devices map[edge.ID]*simDevice
	tasks   sync.WaitGroup

	open, most atomic.Int64 // streams
}

type simDevice struct {
	key    journal.SoftKey
	server *direct.Server
	fault  string // off, breaks, hangs, cut
	dials  atomic.Int64
	done   atomic.Int64
}

// Direct implements dialer.
func (c *crowd) Direct(ctx context.Context, member edge.ID) (io.ReadWriteCloser, p2p.Path, error) {
	d := c.devices[member]
	if d.fault == "off" {
		return nil, p2p.Path{}, fmt.Errorf("no way to it: %w", transport.ErrUnreachable)
	}
	mine, theirs := net.Pipe()
	c.tasks.Go(func() { _ = d.server.Serve(context.Background(), theirs, simKey(0).ID()) })
	for now := c.open.Add(1); ; {
		most := c.most.Load()
		if now <= most || c.most.CompareAndSwap(most, now) {
			break
		}
	}
	s := &simStream{Conn: mine, c: c}
	if d.fault == "cut" && d.dials.Add(1) == 1 { // once its first request is on the way
		s.left.Store(3) // frames: opening, description, the call
	}
	return s, p2p.Path{Addr: "/memory/1"}, ctx.Err()
}

// simStream is the operator's end of a line.
type simStream struct {
	net.Conn
	c      *crowd
	left   atomic.Int64 // writes until it breaks; 0 = it does not
	closed sync.Once
}

func (s *simStream) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if s.left.Load() > 0 && s.left.Add(-1) == 0 {
		err = errors.Join(errors.New("the line is cut"), s.Close())
	}
	return n, err
}

func (s *simStream) Close() error {
	s.closed.Do(func() { s.c.open.Add(-1) })
	return s.Conn.Close()
}

// Do implements direct.Doer.
func (d *simDevice) Do(ctx context.Context, _ *direct.Order) (any, error) {
	d.done.Add(1)
	switch d.fault {
	case "breaks":
		return nil, errors.New("the lamp is broken")
	case "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return map[string]any{"reads": true}, nil
}

// memoryLedger is a device's ledger for as long as it runs: the disks of so many devices are not what is measured.
type memoryLedger struct {
	mu   sync.Mutex
	past map[direct.RequestID]direct.Past
}

func (l *memoryLedger) Begin(i direct.Intent) (direct.Past, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, known := l.past[i.ID]; known {
		return p, nil
	}
	l.past[i.ID] = direct.Past{Known: true, Digest: i.Digest}
	return direct.Past{}, nil
}

func (l *memoryLedger) End(id direct.RequestID, o direct.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.past[id]
	p.Ended = &o
	l.past[id] = p
	return nil
}

type noAudit struct{}

func (noAudit) Called(direct.Act)         {}
func (noAudit) Ended(direct.Act, error)   {}
func (noAudit) Refused(direct.Act, error) {}

// newCrowd makes n devices of a fleet that the first key owns, every hundredth with each of the faults.
func newCrowd(t *testing.T, n int) (*crowd, *fleet.Fleet) {
	t.Helper()
	recovery, err := journal.GenerateReaderKey()
	check(t, err)
	f, err := fleet.Found(fleet.Founding{Name: "lab", Owner: simKey(0), Spare: simKey(1 << 40).ID(), Recovery: recovery.Public()}, time.Now())
	check(t, err)
	c := &crowd{devices: map[edge.ID]*simDevice{}}
	var grants []fleet.Grant
	for i := 1; i <= n; i++ {
		d := &simDevice{key: simKey(uint64(i)), fault: map[int]string{7: "off", 13: "breaks", 29: "hangs", 31: "cut"}[i%100]}
		c.devices[d.key.ID()] = d
		grants = append(grants, fleet.Grant{Member: d.key.ID(), Name: fmt.Sprintf("pi-%04d", i), Roles: fleet.Device, Labels: []string{"hall=4"}})
	}
	f, err = f.Grant(fleet.Author{Key: simKey(0)}, time.Now(), grants...)
	check(t, err)
	lamp := []edge.Quantity{{Name: "switch", Kind: edge.State}}
	for id, d := range c.devices {
		td := thing.Build(thing.Device{ID: id, Sensors: []thing.Sensor{{Name: "lamp", Stream: "main", Measures: lamp, Outputs: lamp}}})
		td.NextVersion(0)
		record, err := thing.Sign(d.key, td)
		check(t, err)
		d.server, err = direct.NewServer(direct.Options{Self: id, Fleet: func() *fleet.Fleet { return f }, Thing: func() (*thing.Description, []byte) { return td, record },
			Doer: d, Ledger: &memoryLedger{past: map[direct.RequestID]direct.Past{}}, Audit: noAudit{}})
		check(t, err)
	}
	t.Cleanup(func() {
		for _, d := range c.devices {
			check(t, d.server.Close())
		}
		c.tasks.Wait()
	})
	return c, f
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// peakHeap samples the heap until stop, which returns the most that was in use above the start.
func peakHeap() (stop func() uint64) {
	now := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runtime.GC()
	base, peak := now(), uint64(0)
	end, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, now())
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() uint64 { close(end); <-over; return peak - min(base, peak) }
}

// TestCallGroup_Thousand: streembit call on a thousand devices, of which thirty do not do it in three ways and ten lose the line in the middle. All the others do it, each
// once, never more at a time than --parallel says; the rest is told apart. Time and memory are printed.
func TestCallGroup_Thousand(t *testing.T) {
	const devices, bad = 1000, 30
	c, f := newCrowd(t, devices)
	dir := t.TempDir()
	messages, err := os.Create(filepath.Join(dir, "stderr"))
	check(t, err)
	t.Cleanup(func() { check(t, messages.Close()) })
	var out bytes.Buffer
	a := &app{out: &out, err: messages}
	r := &reacher{dial: c, office: &office{desk: desk{app: a, dir: fleetDir(dir)}, know: &knowledge{fleet: f}, author: fleet.Author{Key: simKey(0)}}}
	for round, name := range []string{"descriptions fetched", "descriptions known"} {
		out.Reset()
		c.most.Store(0)
		call := calling{desk: r.desk, selector: "hall=4", op: direct.Call, name: "lamp/switch", words: []string{"value=on", "for=10s"}, timeout: 4 * time.Second, atOnce: 64}
		stop, began := peakHeap(), time.Now()
		err = call.askAll(context.Background(), r)
		took, heap := time.Since(began), stop()
		t.Logf("%s: %d devices, %d at once, in %s (of which about %s are the timeouts of those that are off or hang), heap at most %.1f MiB more, both sides",
			name, devices, call.atOnce, took.Round(time.Millisecond), call.timeout, float64(heap)/(1<<20))
		if outcome().Code(err) == cli.OK || !strings.Contains(err.Error(), fmt.Sprintf("%d of 1 000 devices failed", bad)) {
			t.Errorf("%v", err)
		}
		if got := strings.Count(out.String(), "  reads=on  "); got != devices-bad {
			t.Errorf("%d did it, want %d", got, devices-bad)
		}
		if most := c.most.Load(); most > int64(call.atOnce) || most < 2 {
			t.Errorf("%d at once, want at most %d", most, call.atOnce)
		}
		if open := c.open.Load(); open != 0 {
			t.Errorf("%d streams are left open", open)
		}
		if heap > 256<<20 {
			t.Errorf("%d bytes of heap", heap)
		}
		for id, d := range c.devices {
			want := int64(round + 1)
			if d.fault == "off" {
				want = 0
			}
			if got := d.done.Load(); got != want {
				t.Errorf("%s (%s) did it %d times, want %d", id, d.fault, got, want)
			}
			d.dials.Store(0) // cut once in each round
		}
	}
	text, err := os.ReadFile(messages.Name())
	check(t, err)
	if want := "970 of 1 000 devices: 10 cancelled, 10 failed, 10 unreachable\n"; strings.Count(string(text), want) != 2 {
		t.Errorf("the summary is not %q:\n%s", want, text[max(0, len(text)-500):])
	}
}
