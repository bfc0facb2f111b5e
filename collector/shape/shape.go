// SPDX-License-Identifier: Apache-2.0

// Package shape puts a filter and a few plain changes before a collector's sink: which devices and sensors it gets, under which names, and in which
// units. What is filtered out counts as written: the checkpoint passes it.
package shape

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Rules are what a config says of one sink. The zero Rules change nothing.
type Rules struct {
	Devices []string          // names or ids; a reading passes if its device is one of them …
	Labels  []string          // … or has one of these labels, "site=…" included; both empty: every device
	Sensors []string          // "bme280-0", "bme280-*", "*/temperature"; empty: all
	Rename  map[string]string // a sensor, "bme280-0", or one quantity of it, "bme280-0/temperature", to a new name of the same form
	Units   map[string]string // a primary unit to a secondary one of RFC 8798: for sinks that export, not for those that keep
}

// Check says what is wrong with the rules.
func (r Rules) Check() error {
	for _, l := range r.Labels {
		if key, value, ok := strings.Cut(l, "="); !ok || key == "" || value == "" {
			return fmt.Errorf(`labels: %q: want "key=value", for example "site=lab"`, l)
		}
	}
	for _, p := range r.Sensors {
		if _, err := path.Match(p, ""); err != nil || strings.Count(p, "/") > 1 {
			return fmt.Errorf(`sensors: %q: want a sensor, "bme280-0" or "bme280-*", or with its quantity, "*/temperature"`, p)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(r.Rename)) {
		if err := checkRename(from, r.Rename[from]); err != nil {
			return err
		}
	}
	for _, from := range slices.Sorted(maps.Keys(r.Units)) {
		to, known := secondary(r.Units[from])
		switch {
		case !edge.KnownUnit(from):
			return fmt.Errorf("units: %q is no primary unit of SenML (RFC 8428 §12.1)", from)
		case !known:
			return fmt.Errorf("units: %q is no secondary unit of SenML (RFC 8798 §3)", r.Units[from])
		case to.of != from:
			return fmt.Errorf("units: %s is a unit of %s, not of %s", r.Units[from], to.of, from)
		}
	}
	return nil
}

func checkRename(from, to string) error {
	if strings.Count(from, "/") != strings.Count(to, "/") || strings.Count(from, "/") > 1 {
		return fmt.Errorf(`rename: %q = %q: want "sensor" = "sensor" or "sensor/quantity" = "sensor/quantity"`, from, to)
	}
	for _, name := range []string{from, to} {
		sensor, quantity, whole := strings.Cut(name, "/")
		if !whole {
			quantity = "x"
		}
		probe := edge.Reading{Sensor: sensor, Sample: edge.Sample{Quantity: edge.Quantity{Name: quantity}}}
		if err := probe.Validate(); err != nil {
			return fmt.Errorf("rename: %q: %w", name, err)
		}
	}
	return nil
}

func (r Rules) empty() bool {
	return len(r.Devices)+len(r.Labels)+len(r.Sensors)+len(r.Rename)+len(r.Units) == 0
}

// Sink is a collector.Sink that hands on what the rules let through.
type Sink struct {
	collector.Sink
	rules Rules
	units map[string]unit // of Rules.Units
	fleet func() *fleet.Fleet
}

// Wrap returns a sink that applies the rules, which Check has found right, or the sink itself if they are empty.
func Wrap(sink collector.Sink, rules Rules, fleet func() *fleet.Fleet) collector.Sink {
	if rules.empty() {
		return sink
	}
	units := map[string]unit{}
	for from, to := range rules.Units {
		units[from], _ = secondary(to)
	}
	return &Sink{Sink: sink, rules: rules, units: units, fleet: fleet}
}

// Unwrap implements collector.Wrapper.
func (s *Sink) Unwrap() collector.Sink { return s.Sink }

// Write implements collector.Sink.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if !s.wanted(b.Chain, b.Name) {
		b.Readings = nil
		return s.Sink.Write(ctx, b)
	}
	rows := make([]collector.Row, 0, len(b.Readings))
	for i := range b.Readings {
		if r := b.Readings[i]; s.passes(&r.Reading) {
			s.change(&r.Reading)
			rows = append(rows, r)
		}
	}
	b.Readings, b.Secondary = rows, len(s.rules.Units) > 0
	return s.Sink.Write(ctx, b)
}

// wanted reports whether the readings of a device pass. One that was revoked is known by its id, and by what it was called last.
func (s *Sink) wanted(c journal.Chain, name string) bool {
	if len(s.rules.Devices)+len(s.rules.Labels) == 0 {
		return true
	}
	f := s.fleet()
	g, ok := f.Member(c.Device)
	if !ok {
		g, _, ok = f.Former(c.Device)
	}
	if !ok {
		g.Name = name
	}
	return slices.ContainsFunc(s.rules.Devices, func(d string) bool { return d == g.Name || d == c.Device.String() }) ||
		slices.ContainsFunc(s.rules.Labels, func(l string) bool {
			return slices.Contains(g.Labels, l) || g.Site != "" && l == "site="+g.Site
		})
}

func (s *Sink) passes(r *edge.Reading) bool {
	return len(s.rules.Sensors) == 0 || slices.ContainsFunc(s.rules.Sensors, func(p string) bool {
		name := r.Sensor
		if strings.Contains(p, "/") {
			name = r.Name()
		}
		ok, _ := path.Match(p, name) // Check has seen the pattern
		return ok
	})
}

func (s *Sink) change(r *edge.Reading) {
	if to, ok := s.rules.Rename[r.Name()]; ok {
		r.Sensor, r.Quantity.Name, _ = strings.Cut(to, "/")
	} else if to, ok := s.rules.Rename[r.Sensor]; ok {
		r.Sensor = to
	}
	if u, ok := s.units[r.Unit]; ok {
		r.Value, r.Unit = u.from(r.Value), s.rules.Units[r.Unit]
	}
}
