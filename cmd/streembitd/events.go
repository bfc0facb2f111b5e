// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/live"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/sensors/all"
	"github.com/streembit/edge/thing"
)

// The events that a device tells those who have subscribed to them.
const (
	eventAlarm     = "alarm"
	eventFault     = "sensor-fault"
	eventRecovered = "sensor-recovered"
	eventLost      = "readings-lost"
	eventOutput    = "output-reverted"
	eventRule      = "rule"
)

const (
	keptEvents   = 256 // for those who are slow to take them
	maxEventText = 300 // bytes
)

// happenings is where what happens is put for those who hear of it. The zero value, of a member that is no device, drops it.
type happenings struct {
	ring *live.Ring[direct.Occurrence]
	now  func() edge.Instant
}

// openEvents begins to keep events. Alarms that are there already are told, too.
func (p *program) openEvents(clock *agent.Clock) {
	p.events = happenings{live.NewRing[direct.Occurrence](keptEvents), func() edge.Instant { at, _ := clock.Now(); return at }}
	p.alarms.hear(func(kind, about, text string) {
		p.events.tell(eventAlarm, map[string]any{"kind": kind, "about": about, "what": text})
	})
}

func (e happenings) tell(name string, data map[string]any) {
	e.add(direct.Occurrence{Name: name, Data: data})
}

func (e happenings) add(o direct.Occurrence) {
	if e.ring == nil {
		return
	}
	for k, v := range o.Data {
		if text, ok := v.(string); ok {
			o.Data[k] = strings.ToValidUTF8(text[:min(len(text), maxEventText)], "?")
		}
	}
	if o.At == (edge.Instant{}) {
		o.At = e.now()
	}
	e.ring.Offer([]direct.Occurrence{o})
}

// noticed tells what happened to sensors and readings.
func (p *program) noticed(n agent.Notice) {
	o := direct.Occurrence{Stream: n.Stream, At: n.At}
	switch n.Kind {
	case agent.SensorFault:
		o.Name, o.Data = eventFault, map[string]any{"sensor": n.Sensor, "fault": n.Fault, "what": n.Err.Error()}
	case agent.SensorRecovered:
		o.Name, o.Data = eventRecovered, map[string]any{"sensor": n.Sensor, "after": n.Lasted.Seconds()}
	case agent.ReadingsLost:
		o.Name, o.Data = eventLost, map[string]any{"stream": n.Stream, "readings": n.Lost}
	}
	p.events.add(o)
}

// describeEvents says what this device tells.
func (p *program) describeEvents() map[string]thing.Event {
	text, number := thing.Schema{Type: thing.String}, thing.Schema{Type: thing.Number, Unit: "s"}
	data := func(fields map[string]thing.Schema) *thing.Schema {
		return &thing.Schema{Type: thing.Object, Properties: fields}
	}
	out := map[string]thing.Event{
		eventAlarm: {Title: "an alarm", Description: "what streembitd status shows as ALARM, when it begins",
			Data: data(map[string]thing.Schema{"kind": text, "about": text, "what": text})},
	}
	if len(p.sensors) > 0 {
		out[eventFault] = thing.Event{Title: "a sensor fails", Streams: true, Data: data(map[string]thing.Schema{"sensor": text, "fault": text, "what": text})}
		out[eventRecovered] = thing.Event{Title: "a sensor works again", Streams: true, Data: data(map[string]thing.Schema{"sensor": text, "after": number})}
		out[eventLost] = thing.Event{Title: "readings are lost", Description: "they were taken and could not be kept; the stream has a gap that is told to its readers", Streams: true,
			Data: data(map[string]thing.Schema{"stream": text, "readings": {Type: thing.Integer}})}
	}
	for _, s := range p.sensors {
		if d, err := all.Find(s.Driver); err == nil && len(d.Actions) > 0 {
			out[eventOutput] = thing.Event{Title: "an output went back", Description: "one that was set for a time is what it was before, or could not be put back",
				Data: data(map[string]thing.Schema{"output": text, "what": text})}
		}
	}
	if p.rules != nil {
		out[eventRule] = thing.Event{Title: "a rule acted", Description: "or rests, because it fired too often",
			Data: data(map[string]thing.Schema{"rule": text, "what": text, "done": {Type: thing.Boolean}})}
	}
	return out
}
