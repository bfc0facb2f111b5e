// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/thing"
)

// Occurrence is an event that took place on a device. Who may command its name hears of it, and if it is about a sensor also who may read that one's stream.
type Occurrence struct {
	Name   string // of the event, as the description has it
	Stream string // of the sensor that it is about; "" = none
	At     edge.Instant
	Data   map[string]any // as the description says

	Lost uint64 // events before this one, of any kind, that the device did not keep until it could tell them; set by Subscribe
}

// Occurrences is where a device's events come from, each at a place that counts from 0; a *live.Ring of them is one.
type Occurrences interface {
	Head() uint64
	// Read copies events from a place on, or from first on if those before are gone, and waits while there are none. An error is that of ctx.
	Read(ctx context.Context, from uint64, into []Occurrence) (n int, first uint64, err error)
}

const maxTold = 16 // events that are copied at once

// heard is a frame of a subscription. One without a name is the first word, or tells only of what is lost.
type heard struct {
	_    struct{} `cbor:",toarray"`
	ID   RequestID
	Name string
	Mono uint64 // ms since the device's boot
	Wall uint64 // ms since 1970; 0 = the device's clock is not synchronised
	Lost uint64
	Data any
}

// findEvents looks up what can be subscribed to: one event, or all that there are.
func (c *session) findEvents(d *thing.Description, q *ask) (target, *Refusal) {
	if c.s.o.Events == nil || len(d.Events) == 0 {
		return target{}, refuse(NotThere, "this device tells no events")
	}
	if _, ok := d.Events[q.Name]; q.Name != "" && !ok {
		return target{}, refuse(NotThere, "this device has no event %.80q", q.Name)
	}
	return target{still: func(f *fleet.Fleet) bool { return c.hearsAny(f, q.Name) }}, nil
}

// hearsAny reports whether the peer may hear of anything that it has subscribed to.
func (c *session) hearsAny(f *fleet.Fleet, name string) bool {
	d, _ := c.s.o.Thing()
	streams := streamsOf(d)
	for event, e := range d.Events {
		if name != "" && name != event {
			continue
		}
		if f.May(c.peer, fleet.Command, c.s.o.Self, event) || e.Streams && c.readsAny(f, streams) {
			return true
		}
	}
	return false
}

// streamsOf lists the streams that a device's readings are of.
func streamsOf(d *thing.Description) (all []string) {
	for _, p := range d.Properties {
		if p.Observable && !slices.Contains(all, p.Stream) {
			all = append(all, p.Stream)
		}
	}
	return all
}

// tell tells events as they take place until ctx ends. It reads them no faster than the peer takes them: what is not kept so long is counted.
func (c *session) tell(ctx context.Context, q *ask) error {
	events := c.s.o.Events
	from := events.Head()
	if err := c.out.send(kindHeard, heard{ID: q.ID}); err != nil {
		return err
	}
	into := make([]Occurrence, maxTold)
	for {
		n, first, err := events.Read(ctx, from, into)
		if err != nil {
			return err
		}
		lost := first - min(from, first)
		f := c.s.o.Fleet()
		for _, e := range into[:n] {
			if q.Name != "" && q.Name != e.Name || !f.May(c.peer, fleet.Command, c.s.o.Self, e.Name) &&
				(e.Stream == "" || !f.May(c.peer, fleet.Read, c.s.o.Self, e.Stream)) {
				continue
			}
			word := heard{ID: q.ID, Name: e.Name, Mono: uint64(e.At.Mono), Wall: uint64(e.At.Wall), Lost: lost, Data: e.Data}
			if err := c.out.send(kindHeard, word); err != nil {
				return err
			}
			lost = 0
		}
		if lost > 0 {
			if err := c.out.send(kindHeard, heard{ID: q.ID, Lost: lost}); err != nil {
				return err
			}
		}
		from = first + uint64(n)
	}
}

// Subscribe hears of a device's events as they take place: one, or with name "" all that the operator may hear of. tell gets them in order, and must not wait for the
// session; its first is an empty one, when the subscription has begun. What takes place while nobody is connected is not told later: the device's status and its audit
// have it. Otherwise as Watch.
func (s *Session) Subscribe(ctx context.Context, name string, tell func(Occurrence)) error {
	ctx, cancel := context.WithTimeout(ctx, watchLife)
	defer cancel()
	_, err := s.Do(ctx, Request{Op: Subscribe, Name: name, heard: tell})
	return err
}

// takeHeard judges a frame of a subscription and hands it on.
func (s *Session) takeHeard(body []byte) error {
	var h heard
	if err := decode(body, &h); err != nil {
		return err
	}
	if h.Mono > math.MaxInt64 || h.Wall > math.MaxInt64 || len(h.Name) > maxName {
		return fmt.Errorf("direct: an event at %d and %d ms: %w", h.Mono, h.Wall, ErrFrame)
	}
	v, err := plain(h.Data, maxLevels)
	if err != nil {
		return err
	}
	data, isObject := v.(map[string]any)
	if v != nil && !isObject {
		return fmt.Errorf("direct: event %.80q tells a %T: %w", h.Name, v, ErrFrame)
	}
	if w := s.waiter(h.ID); w != nil && w.r.heard != nil {
		w.r.heard(Occurrence{Name: h.Name, At: edge.Instant{Mono: int64(h.Mono), Wall: int64(h.Wall)}, Data: data, Lost: h.Lost})
	}
	return nil
}
