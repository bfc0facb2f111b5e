// SPDX-License-Identifier: Apache-2.0

// Package command is what a device does when it is told: it describes itself, reads and sets its sensors' values, holds outputs for a time, and whatever else the
// program adds. Who may tell it, and that nothing is done twice, is package direct's business.
//
// Start with New; hand the Device to direct.NewServer as its Doer, and call Run.
package command

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// Sensors is what the device's values come from; *agent.Agent is one.
type Sensors interface {
	Setter
	// Read takes one measurement now.
	Read(ctx context.Context, sensor string) ([]edge.Sample, error)
	// Latest returns what the sensor gave last, and when.
	Latest(sensor string) ([]edge.Sample, edge.Instant)
}

// Pace is how often the sensors are read; *agent.Agent is one.
type Pace interface {
	Interval(sensor string) time.Duration
	SetInterval(sensor string, every time.Duration) error
}

// Action is something that the device can do beside its sensors.
type Action struct {
	thing.Action
	Do func(ctx context.Context, o *direct.Order) (any, error)
}

// Config is what a device is made of. All but Title, Board and Note are required.
type Config struct {
	Dir      string // exists; for what is kept over restarts
	Signer   journal.Signer
	Fleet    func() *fleet.Fleet
	Sensors  Sensors
	Pace     Pace
	Settings *Settings
	Has      []Sensor
	Actions  map[string]Action
	Events   map[string]thing.Event // that the program tells
	Title    string
	Board    string
	Program  string // version
	Uptime   Uptime
	Note     func(output, what string, err error) // of what the device does by itself, for the audit
	Logger   *slog.Logger
}

// Sensor is one configured sensor.
type Sensor struct {
	thing.Sensor
	Every time.Duration // as the config says
}

// Device carries commands out. Safe for concurrent use.
type Device struct {
	c     Config
	self  edge.ID
	holds *holds

	describing sync.Mutex // one change of the description at a time
	now        atomic.Pointer[described]
	changed    chan struct{} // holds one token after now has changed
}

// described is a description and its signed form.
type described struct {
	d      *thing.Description
	record []byte
}

// New prepares a device, which describes itself from then on.
func New(c Config) (*Device, error) {
	if c.Note == nil {
		c.Note = func(string, string, error) {}
	}
	d := &Device{c: c, self: c.Signer.ID(), changed: make(chan struct{}, 1)}
	var err error
	if d.holds, err = openHolds(c.Dir, c.Sensors, c.Uptime, c.Note, c.Logger); err != nil {
		return nil, err
	}
	if err := d.load(); err != nil {
		return nil, err
	}
	return d, d.describe(0)
}

// Run puts held outputs back and keeps the description true and at the hubs, until ctx ends. hubs may be nil: then the device alone tells it.
func (d *Device) Run(ctx context.Context, hubs Board) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { d.holds.run(ctx) })
	tasks.Go(func() { d.watch(ctx) })
	if hubs != nil {
		tasks.Go(func() { d.publish(ctx, hubs) })
	}
	<-ctx.Done()
}

// Do implements direct.Doer.
func (d *Device) Do(ctx context.Context, o *direct.Order) (any, error) {
	sensor, quantity, dotted := strings.Cut(o.Name, "/")
	switch {
	case o.Op == direct.Call && o.Name == readAction:
		return d.read(ctx, o)
	case o.Op == direct.Call:
		if a, ok := d.c.Actions[o.Name]; ok {
			return a.Do(ctx, o)
		}
	case o.Name == labelsProperty && o.Op == direct.Get:
		return d.c.Settings.labels(), nil
	case o.Name == labelsProperty:
		return d.setLabels(o.Value)
	}
	i := slices.IndexFunc(d.c.Has, func(s Sensor) bool { return s.Name == sensor })
	if !dotted || i < 0 {
		return nil, &direct.Refusal{Reason: direct.NotThere, Detail: o.Name}
	}
	s := d.c.Has[i]
	switch {
	case o.Name == thing.IntervalOf(sensor) && o.Op == direct.Get:
		return d.c.Pace.Interval(sensor).Seconds(), nil
	case o.Name == thing.IntervalOf(sensor):
		return d.setInterval(s, o.Value)
	case o.Op == direct.Get:
		return d.get(ctx, s, quantity)
	}
	return d.set(ctx, s, quantity, o)
}

// The names of what every device has.
const (
	readAction     = "read"
	labelsProperty = "labels"
)

// read takes a measurement now. It takes the right to the sensor's stream, too.
func (d *Device) read(ctx context.Context, o *direct.Order) (any, error) {
	name, _ := field(o, "sensor").(string)
	i := slices.IndexFunc(d.c.Has, func(s Sensor) bool { return s.Name == name })
	if i < 0 {
		return nil, &direct.Refusal{Reason: direct.NotThere, Detail: fmt.Sprintf("this device has no sensor %.80q", name)}
	}
	if stream := d.c.Has[i].Stream; !d.c.Fleet().May(o.Peer, fleet.Read, d.self, stream) {
		return nil, &direct.Refusal{Reason: direct.NoRight, Detail: fmt.Sprintf("the fleet's log gives you no right to read %s here", stream)}
	}
	samples, err := d.c.Sensors.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, s := range samples {
		out[s.Name] = thing.ValueOf(s)
	}
	return out, nil
}

// field returns a field of an action's input; nil = it is not there.
func field(o *direct.Order, name string) any {
	in, _ := o.Value.(map[string]any)
	return in[name]
}

// get returns a value: of an output the one on its line now, of a sensor the last reading, unless that is old.
func (d *Device) get(ctx context.Context, s Sensor, quantity string) (any, error) {
	if _, ok := output(s, quantity); ok {
		v, err := d.lineOf(ctx, s.Name, quantity)
		return thing.ValueOf(v), err
	}
	samples, at := d.c.Sensors.Latest(s.Name)
	v, ok := named(samples, quantity)
	if !ok {
		return nil, fmt.Errorf("%s has given no %s yet", s.Name, quantity)
	}
	_, now := d.c.Uptime()
	age := time.Duration(now-at.Mono) * time.Millisecond
	if limit := 3*d.c.Pace.Interval(s.Name) + 5*time.Second; age > limit {
		return nil, fmt.Errorf("%s gave its last reading %s ago: call read sensor=%s says why", s.Name, age.Round(time.Second), s.Name)
	}
	return thing.ValueOf(v), nil
}

func (d *Device) lineOf(ctx context.Context, sensor, quantity string) (edge.Sample, error) {
	samples, err := d.c.Sensors.Read(ctx, sensor)
	if err != nil {
		return edge.Sample{}, err
	}
	v, ok := named(samples, quantity)
	if !ok {
		return v, fmt.Errorf("%s cannot be read back", quantity)
	}
	return v, nil
}

func named(samples []edge.Sample, quantity string) (edge.Sample, bool) {
	i := slices.IndexFunc(samples, func(s edge.Sample) bool { return s.Name == quantity })
	if i < 0 {
		return edge.Sample{}, false
	}
	return samples[i], true
}

// output returns the quantity of an output.
func output(s Sensor, name string) (edge.Quantity, bool) {
	i := slices.IndexFunc(s.Outputs, func(q edge.Quantity) bool { return q.Name == name || strings.HasPrefix(name, q.Name+".") })
	if i < 0 {
		return edge.Quantity{}, false
	}
	q := s.Outputs[i]
	q.Name = name
	return q, true
}

// set sets an output, for good or for a time, and tells what the line reads then.
func (d *Device) set(ctx context.Context, s Sensor, name string, o *direct.Order) (any, error) {
	q, ok := output(s, name)
	if !ok {
		return nil, &direct.Refusal{Reason: direct.NotThere, Detail: o.Name + " cannot be set"}
	}
	value, hold := o.Value, time.Duration(0)
	if o.Op == direct.Call {
		value = field(o, "value")
		if secs := field(o, "for"); secs != nil {
			hold = time.Duration(math.Round(thing.Float(secs)*1000)) * time.Millisecond
		}
	}
	answer := map[string]any{}
	if hold > 0 {
		answer["for"] = hold.Seconds()
	}
	line := func() (edge.Sample, error) { return d.lineOf(ctx, s.Name, name) }
	if err := d.holds.set(ctx, s.Name, thing.Sample(q, value), line, hold); err != nil {
		return nil, err
	}
	if now, err := d.lineOf(ctx, s.Name, name); err == nil {
		answer["reads"] = thing.ValueOf(now)
	}
	return answer, nil
}

func (d *Device) setInterval(s Sensor, v any) (any, error) {
	every := time.Duration(math.Round(thing.Float(v)*1e6)) * time.Microsecond
	if err := d.c.Pace.SetInterval(s.Name, every); err != nil {
		return nil, err
	}
	return nil, d.c.Settings.setInterval(s.Name, s.Every, every)
}

func (d *Device) setLabels(v any) (any, error) {
	text, _ := v.(string)
	if err := d.c.Settings.setLabels(text); err != nil {
		return nil, err
	}
	return nil, d.describe(0)
}
