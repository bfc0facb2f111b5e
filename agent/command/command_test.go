// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

func key(b byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
}

var (
	owner, device, eve = key(1), key(3), key(5)
	switchOn           = edge.Quantity{Name: "switch", Kind: edge.State}
	warmth             = edge.Quantity{Name: "temperature", Unit: "Cel"}
)

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// board is a relay and a thermometer that do as the test says.
type board struct {
	began time.Time
	boot  journal.BootID

	mu     sync.Mutex
	on     float64
	fail   error
	before func()        // a Set
	hang   chan struct{} // of the pump; nil = it works
	sets   []float64
	seen   []edge.Sample
	at     int64
	every  map[string]time.Duration
}

func (b *board) uptime() (journal.BootID, int64) {
	return b.boot, time.Since(b.began).Milliseconds() + 1000
}

func (b *board) Set(ctx context.Context, sensor string, v edge.Sample) error {
	if sensor == "pump" {
		select {
		case <-b.hang:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.before != nil {
		b.before()
	}
	if sensor != "relay" || v.Quantity != switchOn {
		return fmt.Errorf("%s %+v", sensor, v)
	}
	if b.fail != nil {
		return b.fail
	}
	b.on = v.Value
	b.sets = append(b.sets, v.Value)
	return nil
}

func (b *board) Read(_ context.Context, sensor string) ([]edge.Sample, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sensor == "relay" || sensor == "pump" {
		return []edge.Sample{{Quantity: switchOn, Value: b.on}}, b.fail
	}
	return []edge.Sample{{Quantity: warmth, Value: 21.5}}, b.fail
}

func (b *board) Latest(sensor string) ([]edge.Sample, edge.Instant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sensor == "air" {
		return b.seen, edge.Instant{Mono: b.at}
	}
	return nil, edge.Instant{}
}

func (b *board) Interval(sensor string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.every[sensor]
}

func (b *board) SetInterval(sensor string, d time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.every[sensor] = d
	return nil
}

func (b *board) state() (on bool, sets int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.on != 0, len(b.sets)
}

// nowhere is hubs that nobody reaches; shelf is hubs that keep what they are given.
type nowhere struct{}

func (nowhere) PutThing(context.Context, edge.ID, []byte) error { return errors.New("no hub") }
func (nowhere) Thing(context.Context, edge.ID) ([]byte, error)  { return nil, errors.New("no hub") }

type shelf struct {
	mu     sync.Mutex
	record []byte
	puts   int
}

func (s *shelf) PutThing(_ context.Context, _ edge.ID, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = record
	s.puts++
	return nil
}

func (s *shelf) Thing(context.Context, edge.ID) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record == nil {
		return nil, errors.New("none")
	}
	return s.record, nil
}

func (s *shelf) holds() (record []byte, puts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record, s.puts
}

// run starts a device on what is in a folder; stop ends it.
func run(t *testing.T, dir string, b *board, hubs command.Board) (d *command.Device, stop func()) {
	t.Helper()
	recovery, err := journal.GenerateReaderKey()
	ok(t, err)
	f, err := fleet.Found(fleet.Founding{Name: "lab", Owner: owner, Spare: key(2).ID(), Recovery: recovery.Public()}, time.UnixMilli(1_760_000_000_000))
	ok(t, err)
	f, err = f.Grant(fleet.Author{Key: owner}, time.UnixMilli(1_760_000_000_000), fleet.Grant{Member: device.ID(), Name: "pi-1", Roles: fleet.Device})
	ok(t, err)
	set, err := command.OpenSettings(dir)
	ok(t, err)
	has := []command.Sensor{
		{Sensor: thing.Sensor{Name: "relay", Stream: "main", Measures: []edge.Quantity{switchOn}, Outputs: []edge.Quantity{switchOn}}, Every: time.Minute},
		{Sensor: thing.Sensor{Name: "pump", Stream: "main", Measures: []edge.Quantity{switchOn}, Outputs: []edge.Quantity{switchOn}}, Every: time.Minute},
		{Sensor: thing.Sensor{Name: "air", Stream: "main", Measures: []edge.Quantity{warmth}, Fastest: time.Second}, Every: time.Minute}}
	b.every = map[string]time.Duration{}
	for _, s := range has {
		b.every[s.Name] = set.Interval(s.Name, s.Every, s.Fastest)
	}
	d, err = command.New(command.Config{Dir: dir, Signer: device, Fleet: func() *fleet.Fleet { return f }, Sensors: b, Pace: b, Settings: set, Has: has,
		Program: "test", Uptime: b.uptime, Logger: slog.New(slog.DiscardHandler)})
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { d.Run(ctx, hubs) })
	return d, func() { cancel(); done.Wait() }
}

func ask(d *command.Device, op direct.Op, name string, v any) (any, error) {
	return d.Do(context.Background(), &direct.Order{Peer: owner.ID(), Op: op, Name: name, Value: v})
}

func newBoard() *board { return &board{began: time.Now(), boot: journal.BootID{1}} }

// TestHold: an output goes back after its time, and what is set for good stays.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		d, stop := run(t, dir, b, nowhere{})
		defer stop()
		b.before = func() { // a power cut now leaves the hold on the disk
			if raw, err := os.ReadFile(filepath.Join(dir, "holds.cbor")); err != nil || !strings.Contains(string(raw), "relay/switch") {
				t.Errorf("the output was touched before its end was noted: %v", err)
			}
		}
		v, err := ask(d, direct.Call, "relay/switch", map[string]any{"value": true, "for": 5})
		if err != nil || fmt.Sprint(v) != "map[for:5 reads:true]" {
			t.Fatalf("%v %v", v, err)
		}
		time.Sleep(4 * time.Second)
		if _, err := ask(d, direct.Call, "relay/switch", map[string]any{"value": true, "for": uint64(5)}); err != nil { // held on: what it goes back to stays
			t.Fatal(err)
		}
		time.Sleep(4900 * time.Millisecond)
		synctest.Wait()
		if on, _ := b.state(); !on {
			t.Error("back too early")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if on, _ := b.state(); on {
			t.Error("not back")
		}
		b.before = nil
		_, err = ask(d, direct.Call, "relay/switch", map[string]any{"value": true, "for": 2.5})
		ok(t, err)
		_, err = ask(d, direct.Set, "relay/switch", true)
		ok(t, err)
		time.Sleep(time.Minute)
		if on, _ := b.state(); !on {
			t.Error("what was set for good went back")
		}
	})
}

// TestHold_Restart: an output goes back when its time has come although the program was started anew, and at once when the machine was.
func TestHold_Restart(t *testing.T) {
	for _, c := range []struct {
		name   string
		reboot bool
		after  time.Duration // of the start
	}{{"program", false, 6 * time.Second}, {"machine", true, 0}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b := newBoard()
				d, stop := run(t, dir, b, nowhere{})
				_, err := ask(d, direct.Call, "relay/switch", map[string]any{"value": true, "for": 10})
				ok(t, err)
				time.Sleep(4 * time.Second)
				stop()
				if c.reboot {
					b.boot, b.began = journal.BootID{2}, time.Now()
				}
				began := time.Now()
				_, stop = run(t, dir, b, nowhere{})
				defer stop()
				for {
					synctest.Wait()
					if on, _ := b.state(); !on {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(began); took < c.after || took > c.after+50*time.Millisecond {
					t.Errorf("back %s after the start, want %s", took, c.after)
				}
			})
		})
	}
}

// TestHold_Fails: an output that cannot be put back is tried until it is.
func TestHold_Fails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		d, stop := run(t, dir, b, nowhere{})
		defer stop()
		_, err := ask(d, direct.Call, "relay/switch", map[string]any{"value": true, "for": 1})
		ok(t, err)
		b.mu.Lock()
		b.fail = errors.New("bus gone")
		b.mu.Unlock()
		time.Sleep(time.Hour)
		b.mu.Lock()
		b.fail = nil
		b.mu.Unlock()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if on, sets := b.state(); on || sets != 2 {
			t.Errorf("on %t after %d sets", on, sets)
		}
		b.mu.Lock()
		b.fail = errors.New("bus gone")
		b.mu.Unlock()
		if _, err := ask(d, direct.Call, "relay/switch", map[string]any{"value": true, "for": 1}); err == nil || !strings.Contains(err.Error(), "nothing was set") {
			t.Errorf("with nothing to go back to: %v", err)
		}
	})
}

// TestHold_OneHangs: an output whose chip hangs keeps no other one from going back.
func TestHold_OneHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		d, stop := run(t, dir, b, nowhere{})
		defer stop()
		b.hang = make(chan struct{})
		go func() {
			_, _ = d.Do(t.Context(), &direct.Order{Peer: owner.ID(), Op: direct.Call, Name: "pump/switch", Value: map[string]any{"value": true, "for": 1}})
		}()
		_, err := ask(d, direct.Call, "relay/switch", map[string]any{"value": true, "for": 2})
		ok(t, err)
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		if on, _ := b.state(); on {
			t.Error("it waits for the other one")
		}
		close(b.hang)
	})
}

// TestValues: readings, intervals and labels, and what is kept over a restart.
func TestValues(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		d, stop := run(t, dir, b, nowhere{})
		if _, err := ask(d, direct.Get, "air/temperature", nil); err == nil {
			t.Error("a value before the first reading")
		}
		b.mu.Lock()
		b.seen, b.at = []edge.Sample{{Quantity: warmth, Value: 20}}, 1000
		b.mu.Unlock()
		if v, err := ask(d, direct.Get, "air/temperature", nil); err != nil || v != 20.0 {
			t.Errorf("%v %v", v, err)
		}
		if v, err := ask(d, direct.Call, "read", map[string]any{"sensor": "air"}); err != nil || fmt.Sprint(v) != "map[temperature:21.5]" {
			t.Errorf("%v %v", v, err)
		}
		if _, err := d.Do(t.Context(), &direct.Order{Peer: eve.ID(), Op: direct.Call, Name: "read", Value: map[string]any{"sensor": "air"}}); direct.ReasonOf(err) != direct.NoRight {
			t.Errorf("without the right to the stream: %v", err)
		}
		time.Sleep(4 * time.Minute)
		if v, err := ask(d, direct.Get, "air/temperature", nil); err == nil {
			t.Errorf("an old reading was given as one of now: %v", v)
		}
		before, _ := d.Thing()
		_, err := ask(d, direct.Set, "air/interval", 2.5)
		ok(t, err)
		_, err = ask(d, direct.Set, "labels", "rack=4")
		ok(t, err)
		if v, err := ask(d, direct.Get, "air/interval", nil); err != nil || v != 2.5 {
			t.Errorf("%v %v", v, err)
		}
		stop()
		d, stop = run(t, dir, b, nowhere{})
		defer stop()
		if v, err := ask(d, direct.Get, "air/interval", nil); err != nil || v != 2.5 {
			t.Errorf("after a restart: %v %v", v, err)
		}
		if v, err := ask(d, direct.Get, "labels", nil); err != nil || v != "rack=4" {
			t.Errorf("after a restart: %v %v", v, err)
		}
		if now, _ := d.Thing(); now.Labels != "rack=4" || now.Version.Number() <= before.Version.Number() {
			t.Errorf("%q in version %d after %d", now.Labels, now.Version.Number(), before.Version.Number())
		}
		set, err := command.OpenSettings(dir)
		ok(t, err)
		if d := set.Interval("air", 2*time.Minute, time.Second); d != 2*time.Minute {
			t.Errorf("%s, though the config was changed since", d)
		}
	})
}

// TestDescription: its version rises with each change and never without, over restarts too, and beyond what the hubs have seen.
func TestDescription(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b, hubs := newBoard(), &shelf{}
		d, stop := run(t, dir, b, hubs)
		version := func() uint64 {
			v, record := d.Thing()
			if _, err := thing.OpenSigned(device.ID(), record); err != nil {
				t.Error(err)
			}
			return v.Version.Number()
		}
		time.Sleep(10 * time.Second)
		if _, puts := hubs.holds(); version() != 1 || puts == 0 {
			t.Errorf("version %d, %d puts", version(), puts)
		}
		stop()
		d, stop = run(t, dir, b, hubs)
		if version() != 1 {
			t.Errorf("version %d after a restart", version())
		}
		b.mu.Lock()
		b.seen = []edge.Sample{{Quantity: edge.Quantity{Name: "temperature.cpu", Unit: "Cel"}, Value: 40}}
		b.mu.Unlock()
		time.Sleep(15 * time.Second)
		v, _ := d.Thing()
		if _, there := v.Properties["air/temperature.cpu"]; !there || version() != 2 {
			t.Errorf("version %d: %v", version(), v.Properties)
		}
		stop()
		ok(t, os.Remove(filepath.Join(dir, "thing.cose"))) // a folder out of an old backup
		b.mu.Lock()
		b.seen = nil
		b.mu.Unlock()
		d, stop = run(t, dir, b, hubs)
		defer stop()
		time.Sleep(time.Minute)
		record, _ := hubs.holds()
		there, err := thing.OpenSigned(device.ID(), record)
		if err != nil || version() != 3 || there.Version.Number() != 3 {
			t.Errorf("version %d, at the hubs %v, %v", version(), there, err)
		}
	})
}
