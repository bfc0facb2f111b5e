// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Setter tells a sensor's chip to reach a state; *agent.Agent is one.
type Setter interface {
	Set(ctx context.Context, sensor string, v edge.Sample) error
}

// Uptime tells which boot of the machine this is, and the ms since it.
type Uptime func() (journal.BootID, int64)

const holdsFile = "holds.cbor"

// An output that cannot be put back is tried again after a pause that doubles between these.
const (
	againFirst = time.Second
	againLast  = 30 * time.Second
)

// holds are outputs that go back to what they were after a time, whatever becomes of the connection and of this program: a hold is on the disk before its output
// is touched, and what is found there at the start goes back when its time has come, or at once after a reboot. Safe for concurrent use.
type holds struct {
	path   string
	to     Setter
	uptime Uptime
	note   func(output, what string, err error) // for the audit
	logger *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	all     map[string]hold          // by "<sensor>/<quantity>"
	setting map[string]chan struct{} // each output is set by one at a time, who has put a token there, so that no hold overtakes another
	busy    map[string]bool          // those that are being put back
}

// hold is one.
type hold struct {
	_        struct{} `cbor:",toarray"`
	Output   string
	Quantity quantity
	Back     float64
	BackText string
	Boot     journal.BootID
	Until    int64 // ms since that boot

	retry time.Time // when it is tried next, after a failure
	pause time.Duration
}

// quantity is an edge.Quantity on disk.
type quantity struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Unit string
	Kind uint8
}

func (h hold) back() edge.Sample {
	return edge.Sample{Quantity: edge.Quantity{Name: h.Quantity.Name, Unit: h.Quantity.Unit, Kind: edge.Kind(h.Quantity.Kind)}, Value: h.Back, Text: h.BackText}
}

func openHolds(dir string, to Setter, uptime Uptime, note func(string, string, error), logger *slog.Logger) (*holds, error) {
	h := &holds{path: filepath.Join(dir, holdsFile), to: to, uptime: uptime, note: note, logger: logger, wake: make(chan struct{}, 1), all: map[string]hold{},
		setting: map[string]chan struct{}{}, busy: map[string]bool{}}
	raw, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	var list []hold
	if err == nil {
		err = journal.Decode(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("command: reading what is held: %w", err)
	}
	for _, one := range list {
		h.all[one.Output] = one
	}
	return h, nil
}

// save writes what is held durably. The caller holds mu.
func (h *holds) save() error {
	list := make([]hold, 0, len(h.all))
	for _, name := range slices.Sorted(maps.Keys(h.all)) {
		list = append(list, h.all[name])
	}
	raw, err := journal.Encode(list)
	if err != nil {
		return err
	}
	return fleet.WriteFile(h.path, raw, 0o600)
}

// set sets an output for a time, then back; 0 = for good, which also ends what holds it. line tells what it goes back to, unless it is held already.
func (h *holds) set(ctx context.Context, sensor string, to edge.Sample, line func() (edge.Sample, error), d time.Duration) error {
	output := sensor + "/" + to.Name
	unlock, err := h.lock(ctx, output)
	if err != nil {
		return fmt.Errorf("nothing was set, another request is setting it: %w", err)
	}
	defer unlock()
	if d == 0 {
		if err := h.to.Set(ctx, sensor, to); err != nil {
			return err
		}
		return h.release(output)
	}
	was, err := line()
	if err != nil {
		return fmt.Errorf("nothing was set, since nobody knows what to go back to: %w", err)
	}
	boot, now := h.uptime()
	one := hold{Output: output, Quantity: quantity{Name: to.Name, Unit: to.Unit, Kind: uint8(to.Kind)}, Back: was.Value, BackText: was.Text, Boot: boot, Until: now + d.Milliseconds()}
	h.mu.Lock()
	if before, held := h.all[output]; held {
		one.Back, one.BackText = before.Back, before.BackText
	}
	h.all[output] = one
	err = h.save()
	h.mu.Unlock()
	if err != nil {
		return fmt.Errorf("command: nothing was set, since its end could not be noted: %w", err)
	}
	err = h.to.Set(ctx, sensor, to) // if it fails nobody knows what it did: it goes back all the same
	h.poke()
	return err
}

// lock takes an output for the caller alone.
func (h *holds) lock(ctx context.Context, output string) (unlock func(), err error) {
	h.mu.Lock()
	place := h.setting[output]
	if place == nil {
		place = make(chan struct{}, 1)
		h.setting[output] = place
	}
	h.mu.Unlock()
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// poke has run look again.
func (h *holds) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// release ends a hold; the output stays as it is.
func (h *holds) release(output string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, held := h.all[output]; !held {
		return nil
	}
	delete(h.all, output)
	return h.save()
}

// run puts outputs back when their time has come, until ctx ends. One that hangs holds up no other.
func (h *holds) run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for {
		t := time.NewTimer(h.due(ctx, &tasks))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-h.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// due begins to put back what is due, and tells how long nothing else will be.
func (h *holds) due(ctx context.Context, tasks *sync.WaitGroup) (wait time.Duration) {
	wait = time.Hour
	boot, now := h.uptime()
	h.mu.Lock()
	defer h.mu.Unlock()
	for output, one := range h.all {
		left := time.Duration(one.Until-now) * time.Millisecond
		if one.Boot != boot { // the machine was started anew: how long ago nobody knows
			left = 0
		}
		left = max(left, time.Until(one.retry))
		switch {
		case h.busy[output]:
		case left > 0:
			wait = min(wait, max(left, time.Millisecond))
		default:
			h.busy[output] = true
			tasks.Go(func() { h.putBack(ctx, one) })
		}
	}
	return wait
}

// putBack ends one hold, or says when to try again.
func (h *holds) putBack(ctx context.Context, one hold) {
	defer func() {
		h.mu.Lock()
		delete(h.busy, one.Output)
		h.mu.Unlock()
		h.poke()
	}()
	unlock, err := h.lock(ctx, one.Output)
	if err != nil { // the program ends
		return
	}
	defer unlock()
	h.mu.Lock()
	now, held := h.all[one.Output]
	h.mu.Unlock()
	if !held || now != one { // set anew meanwhile
		return
	}
	sensor, _, _ := strings.Cut(one.Output, "/")
	if err = h.to.Set(ctx, sensor, one.back()); err == nil {
		err = h.release(one.Output)
	}
	h.went(ctx, one, err)
}

// went notes what came of putting an output back. The caller has the output.
func (h *holds) went(ctx context.Context, one hold, err error) {
	switch {
	case err == nil:
		h.note(one.Output, "back to what it was", nil)
		return
	case ctx.Err() != nil:
		return
	case one.pause == 0: // told once
		h.note(one.Output, "not back to what it was", err)
		h.logger.Error("an output does not go back, it is tried again", "output", one.Output, "err", err)
	}
	one.pause = min(max(2*one.pause, againFirst), againLast)
	one.retry = time.Now().Add(one.pause)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[one.Output] = one
}
