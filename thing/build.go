// SPDX-License-Identifier: Apache-2.0

package thing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/streembit/edge"
)

// The forms of everything: one protocol, one encoding.
const contentCBOR = "application/cbor"

// MaxHold is how long an output can be held before it goes back.
const MaxHold = 24 * time.Hour

// MinHold is the shortest hold.
const MinHold = 100 * time.Millisecond

// MaxInterval is the longest sampling interval that can be set.
const MaxInterval = 24 * time.Hour

// Device is what a description is built of.
type Device struct {
	ID      edge.ID
	Title   string // "" = the last characters of the id
	Board   string
	Program string // version
	Labels  string
	Sensors []Sensor
	Actions map[string]Action // what the device does beside its outputs; without Forms
	Events  map[string]Event  // without Forms
	Config  map[string]Schema // further values that can be read and, unless read-only, written
}

// Sensor is one configured sensor.
type Sensor struct {
	Name     string
	Doc      string
	Stream   string
	Measures []edge.Quantity // what it gives
	Outputs  []edge.Quantity // what it can be told
	Fastest  time.Duration   // shortest useful interval
}

// IntervalOf is the name of the property that is a sensor's sampling interval, in seconds.
func IntervalOf(sensor string) string { return sensor + "/interval" }

// Build makes the description, its version aside. A sensor's quantity is the property "<sensor>/<quantity>", which can be written if it is an output; then an action
// of the same name sets it for a time.
func Build(dev Device) *Description {
	id := dev.ID.String()
	d := &Description{
		Context: []any{Context, map[string]any{"sb": ownContext}}, ID: scheme + id, Base: scheme + id + "/",
		Title: cmp.Or(dev.Title, dev.ID.Short()), Description: dev.Board, Version: Version{Model: dev.Program}, Labels: dev.Labels,
		Security: []string{"fleet"}, Definitions: map[string]Security{"fleet": {Scheme: "auto",
			Description: "a channel between two members of the fleet proves both; the fleet's log says who may do what"}},
		Properties: map[string]Property{}, Actions: map[string]Action{}, Events: map[string]Event{},
	}
	for _, s := range dev.Sensors {
		d.addSensor(s)
	}
	for name, s := range dev.Config {
		d.Properties[name] = property(name, Property{Schema: s})
	}
	for name, a := range dev.Actions {
		d.Actions[name] = action(name, a)
	}
	for name, e := range dev.Events {
		e.Forms = []Form{{Href: "events/" + name, ContentType: contentCBOR, Op: []string{"subscribeevent", "unsubscribeevent"}}}
		d.Events[name] = e
	}
	return d
}

func (d *Description) addSensor(s Sensor) {
	for _, q := range s.Measures {
		name := s.Name + "/" + q.Name
		v := schemaOf(q)
		v.Description, v.ReadOnly = s.Doc, !slices.Contains(s.Outputs, q)
		d.Properties[name] = property(name, Property{Schema: v, Stream: s.Stream, Observable: true})
	}
	for _, q := range s.Outputs {
		name := s.Name + "/" + q.Name
		if _, measured := d.Properties[name]; !measured { // it can be set and not be read back
			continue
		}
		hold := Schema{Type: Number, Unit: "s", Description: "then the output goes back to what it was; without it the output stays"}
		hold.Minimum, hold.Maximum = Bounds(MinHold.Seconds(), MaxHold.Seconds())
		d.Actions[name] = action(name, Action{Title: "set " + name, Idempotent: true,
			Input: &Schema{Type: Object, Properties: map[string]Schema{"value": schemaOf(q), "for": hold}, Required: []string{"value"}}})
	}
	every := Schema{Type: Number, Unit: "s", Description: "pause between two readings of " + s.Name}
	every.Minimum, every.Maximum = Bounds(max(s.Fastest, time.Millisecond).Seconds(), MaxInterval.Seconds())
	d.Properties[IntervalOf(s.Name)] = property(IntervalOf(s.Name), Property{Schema: every})
}

func property(name string, p Property) Property {
	ops := []string{"readproperty"}
	if !p.ReadOnly {
		ops = append(ops, "writeproperty")
	}
	if p.Observable {
		ops = append(ops, "observeproperty", "unobserveproperty")
	}
	p.Forms = []Form{{Href: "properties/" + name, ContentType: contentCBOR, Op: ops}}
	return p
}

func action(name string, a Action) Action {
	a.Forms = []Form{{Href: "actions/" + name, ContentType: contentCBOR, Op: []string{"invokeaction"}}}
	return a
}

// schemaOf describes the values of a quantity.
func schemaOf(q edge.Quantity) Schema {
	switch q.Kind {
	case edge.State:
		return Schema{Type: Boolean}
	case edge.Text:
		n := maxText
		return Schema{Type: String, MaxLength: &n}
	}
	return Schema{Type: Number, Unit: q.Unit}
}

// Sample makes a sample of a value that the quantity's schema allows.
func Sample(q edge.Quantity, v any) edge.Sample {
	s := edge.Sample{Quantity: q}
	switch v := v.(type) {
	case bool:
		if v {
			s.Value = 1
		}
	case string:
		s.Text = v
	default:
		s.Value = Float(v)
	}
	return s
}

// ValueOf is the value of a sample as the schemas describe it.
func ValueOf(s edge.Sample) any {
	switch s.Kind {
	case edge.State:
		return s.Value != 0
	case edge.Text:
		return s.Text
	}
	return s.Value
}

// Names lists what can be read, and what can be done, for a message or a completion.
func (d *Description) Names() (properties, actions []string) {
	return slices.Sorted(maps.Keys(d.Properties)), slices.Sorted(maps.Keys(d.Actions))
}

// NextVersion sets the instance to one above last.
func (d *Description) NextVersion(last uint64) { d.Version.Instance = fmt.Sprint(last + 1) }
