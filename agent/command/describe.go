// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// Board is where descriptions are left for those who come when the device is gone; *p2p.Node is one.
type Board interface {
	PutThing(ctx context.Context, device edge.ID, record []byte) error
	Thing(ctx context.Context, device edge.ID) ([]byte, error)
}

const thingFile = "thing.cose"

const (
	lookEvery    = 10 * time.Second // how often the sensors' quantities are compared with the description
	publishEvery = 6 * time.Hour    // hubs forget a description when they start anew
	publishFirst = 5 * time.Second  // after a failure, doubling up to …
	publishLast  = 10 * time.Minute
	publishLimit = time.Minute // of one attempt
)

// maxLabels bounds what a device calls itself, in characters.
const maxLabels = 200

// Thing returns the present description, and signed.
func (d *Device) Thing() (*thing.Description, []byte) {
	n := d.now.Load()
	return n.d, n.record
}

// load takes the description of the run before, whose version is the highest that was signed.
func (d *Device) load() error {
	record, err := os.ReadFile(filepath.Join(d.c.Dir, thingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("command: reading description: %w", err)
	}
	old, err := thing.OpenSigned(d.self, record)
	if errors.Is(err, journal.ErrForeignSigner) { // of the key that the device had before
		return nil
	}
	if err != nil { // another program's, or damaged: hubs know how far versions have gone
		d.c.Logger.Warn("the last description is not usable, a new one is made", "err", err)
		return nil
	}
	d.now.Store(&described{old, record})
	return nil
}

// describe makes the description true; above is a version that others have seen and that ours must exceed.
func (d *Device) describe(above uint64) error {
	d.describing.Lock()
	defer d.describing.Unlock()
	next, before := d.build(), d.now.Load()
	last := above
	if before != nil {
		last = max(last, before.d.Version.Number())
		next.Version.Instance = before.d.Version.Instance
		if above < before.d.Version.Number() && same(next, before.d) {
			return nil
		}
	}
	next.NextVersion(last)
	record, err := thing.Sign(d.c.Signer, next)
	if err != nil {
		return fmt.Errorf("command: describing the device: %w", err)
	}
	if err := fleet.WriteFile(filepath.Join(d.c.Dir, thingFile), record, 0o644); err != nil {
		return fmt.Errorf("command: describing the device: %w", err)
	}
	d.now.Store(&described{next, record})
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return nil
}

func same(a, b *thing.Description) bool {
	x, xerr := a.Encode()
	y, yerr := b.Encode()
	return xerr == nil && yerr == nil && bytes.Equal(x, y)
}

func (d *Device) build() *thing.Description {
	labels := maxLabels
	dev := thing.Device{ID: d.self, Title: d.title(), Board: d.c.Board, Program: d.c.Program, Labels: d.c.Settings.labels(), Events: d.c.Events, Actions: map[string]thing.Action{},
		Config: map[string]thing.Schema{labelsProperty: {Type: thing.String, MaxLength: &labels,
			Description: "what the device calls itself, for people; the fleet's own labels, which decide, stand in its log"}}}
	var names []any
	for _, s := range d.c.Has {
		t := s.Sensor
		t.Measures = d.measures(s)
		t.Outputs = nil
		for _, q := range t.Measures {
			if o, ok := output(s, q.Name); ok && o == q {
				t.Outputs = append(t.Outputs, q)
			}
		}
		dev.Sensors = append(dev.Sensors, t)
		names = append(names, s.Name)
	}
	if len(names) > 0 {
		dev.Actions[readAction] = thing.Action{Title: "read now", Description: "takes one measurement out of turn; it is told and not published", Safe: true, Idempotent: true,
			Input:  &thing.Schema{Type: thing.Object, Required: []string{"sensor"}, Properties: map[string]thing.Schema{"sensor": {Type: thing.String, Enum: names}}},
			Output: &thing.Schema{Type: thing.Object}}
	}
	for name, a := range d.c.Actions {
		dev.Actions[name] = a.Action
	}
	return thing.Build(dev)
}

// title is the name by which the fleet knows the device.
func (d *Device) title() string {
	if g, ok := d.c.Fleet().Member(d.self); ok && d.c.Title == "" {
		return g.Name
	}
	return d.c.Title
}

// measures returns what a sensor gives: what it gave last, else what it gave when the device was described before, else what its driver says.
func (d *Device) measures(s Sensor) (all []edge.Quantity) {
	if samples, _ := d.c.Sensors.Latest(s.Name); len(samples) > 0 {
		for _, v := range samples {
			all = append(all, v.Quantity)
		}
		return all
	}
	if before := d.now.Load(); before != nil {
		names, _ := before.d.Names()
		for _, name := range names {
			sensor, rest, _ := strings.Cut(name, "/")
			i := slices.IndexFunc(s.Measures, func(q edge.Quantity) bool { return q.Name == rest || strings.HasPrefix(rest, q.Name+".") })
			if sensor == s.Name && i >= 0 {
				q := s.Measures[i]
				q.Name = rest
				all = append(all, q)
			}
		}
	}
	if len(all) > 0 {
		return all
	}
	return s.Measures
}

// watch notices what only the sensors tell: which quantities they give.
func (d *Device) watch(ctx context.Context) {
	for nap.For(ctx, lookEvery) {
		if err := d.describe(0); err != nil {
			d.c.Logger.Error("the device does not describe itself anew", "err", err)
		}
	}
}

// publish keeps the description at the hubs.
func (d *Device) publish(ctx context.Context, hubs Board) {
	pause := publishFirst
	nap.For(ctx, time.Second) // the first readings say what the sensors give
	for ctx.Err() == nil {
		wait := publishEvery + rand.N(publishEvery/4)
		if err := d.publishOnce(ctx, hubs); err != nil {
			d.c.Logger.Debug("description not at the hubs", "err", err)
			wait, pause = pause+rand.N(pause/4), min(2*pause, publishLast)
		} else {
			pause = publishFirst
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-d.changed:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// publishOnce puts the description and looks whether it is there: putting alone proves nothing.
func (d *Device) publishOnce(ctx context.Context, hubs Board) error {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	if there, err := hubs.Thing(ctx, d.self); err == nil {
		if old, err := thing.OpenSigned(d.self, there); err == nil && old.Version.Number() > d.now.Load().d.Version.Number() {
			if err := d.describe(old.Version.Number()); err != nil { // the folder was restored from a backup
				return err
			}
		}
	}
	_, record := d.Thing()
	if err := hubs.PutThing(ctx, d.self, record); err != nil {
		return err
	}
	there, err := hubs.Thing(ctx, d.self)
	if err == nil && string(there) != string(record) {
		err = errors.New("command: the hubs have another description")
	}
	return err
}
