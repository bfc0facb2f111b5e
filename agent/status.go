// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge/agent/outbox"
)

// Status is what a device says about itself.
type Status struct {
	Clock     string            `json:"clock"` // synced, unsynced
	Sensors   []Health          `json:"sensors"`
	Streams   []StreamStatus    `json:"streams"`
	Outbox    OutboxStatus      `json:"outbox"`
	Copies    int               `json:"copies"` // of the segment published last …
	Hubs      int               `json:"hubs"`   // … out of so many hubs
	Published time.Time         `json:"published,omitzero"`
	Error     string            `json:"error,omitempty"`      // why nothing is published, if so
	HubErrors map[string]string `json:"hub_errors,omitempty"` // by hub
}

// OutboxStatus is what the device keeps because not enough hubs have it, and what it had to give up.
type OutboxStatus struct {
	Pending      int               `json:"pending"`       // segments that are not published
	Held         int               `json:"held"`          // published, but not on two hubs yet
	Readings     int64             `json:"readings"`      // in pending segments
	Bytes        int64             `json:"bytes"`         // on disk
	Published    uint64            `json:"published"`     // segments, since the start
	Forgotten    uint64            `json:"forgotten"`     // segments dropped while only one hub had them: quota pressure
	GivenUp      uint64            `json:"given_up"`      // segments dropped before they were published: quota pressure
	LostReadings uint64            `json:"lost_readings"` // readings in those
	Fallen       uint64            `json:"fallen"`        // segments published once more because their hubs are none now
	Forks        int               `json:"forks"`         // ALARM if not 0: places in its chains that somebody else with its key took
	Renewed      uint64            `json:"renewed"`       // incarnations given up for that, since the start
	Error        string            `json:"error,omitempty"`
	Chains       map[string]string `json:"chains"` // the chain that each stream writes
}

func describeOutbox(o outbox.Status) OutboxStatus {
	s := OutboxStatus{Pending: o.Pending, Held: o.Held, Readings: o.Readings, Bytes: o.Bytes, Published: o.Published,
		Forgotten: o.Forgotten, GivenUp: o.GivenUp, LostReadings: o.LostRead, Fallen: o.Fallen,
		Forks: o.Forks, Renewed: o.Renewed, Error: o.Failed, Chains: map[string]string{}}
	for stream, c := range o.Streams {
		s.Chains[stream] = c.String()
	}
	return s
}

// StreamStatus is what is known of one stream before it is sealed.
type StreamStatus struct {
	Stream string `json:"stream"`
	Lost   uint64 `json:"lost"` // readings that never got a seq, since the start
	Error  string `json:"error,omitempty"`
}

// Status returns the present state. Safe to call while Run runs.
func (a *Agent) Status() Status {
	s := Status{Clock: "unsynced", Sensors: []Health{}, Streams: []StreamStatus{}, Outbox: describeOutbox(a.cfg.Outbox.Status())}
	if at, _ := a.cfg.Clock.Now(); at.Synced() {
		s.Clock = "synced"
	}
	for _, sm := range a.samplers {
		s.Sensors = append(s.Sensors, sm.state())
	}
	for _, b := range a.batchers {
		s.Streams = append(s.Streams, b.state())
	}
	slices.SortFunc(s.Streams, func(x, y StreamStatus) int { return strings.Compare(x.Stream, y.Stream) })
	a.drain.fill(&s)
	s.HubErrors = a.cfg.Hubs.failing()
	return s
}

func (b *batcher) state() StreamStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return StreamStatus{Stream: b.stream.Name, Lost: b.lost, Error: b.err}
}

func (d *drain) fill(s *Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Copies, s.Hubs, s.Published, s.Error = d.copies, d.of, d.last, d.err
}
