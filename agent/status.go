// SPDX-License-Identifier: Apache-2.0

package agent

import "github.com/streembit/edge/agent/outbox"

// Status is what a device says about itself.
type Status struct {
	Clock     string            `json:"clock"` // synced, unsynced
	Sensors   []Health          `json:"sensors"`
	Streams   []StreamStatus    `json:"streams"`
	Outbox    OutboxStatus      `json:"outbox"`
	Error     string            `json:"error,omitempty"`      // why nothing is published, if so
	HubErrors map[string]string `json:"hub_errors,omitempty"` // by hub
}

// OutboxStatus is what the device keeps because not enough hubs have it, and what it had to give up.
type OutboxStatus struct {
	Pending      int               `json:"pending"`       // segments that are not published
	Held         int               `json:"held"`          // published, but not on two hubs yet
	Readings     int64             `json:"readings"`      // in pending segments
	Bytes        int64             `json:"bytes"`         // on disk
	Quota        int64             `json:"quota"`         // for those bytes
	Published    uint64            `json:"published"`     // segments, since the start
	Forgotten    uint64            `json:"forgotten"`     // segments dropped while only one hub had them: quota pressure
	GivenUp      uint64            `json:"given_up"`      // segments dropped before they were published: quota pressure
	LostReadings uint64            `json:"lost_readings"` // readings in those
	Past         uint64            `json:"past"`          // segments that hubs had let go before the device knew them published: too late, or published before a power cut
	PastReadings uint64            `json:"past_readings"` // readings in those
	Fallen       uint64            `json:"fallen"`        // segments published once more because their hubs are none now
	Forks        int               `json:"forks"`         // ALARM if not 0: places in its chains that somebody else with its key took
	Renewed      uint64            `json:"renewed"`       // incarnations given up for that, since the start
	Error        string            `json:"error,omitempty"`
	Chains       map[string]string `json:"chains"` // the chain that each stream writes
}

func describeOutbox(o outbox.Status) OutboxStatus {
	s := OutboxStatus{Pending: o.Pending, Held: o.Held, Readings: o.Readings, Bytes: o.Bytes, Quota: o.Quota, Published: o.Published,
		Forgotten: o.Forgotten, GivenUp: o.GivenUp, LostReadings: o.LostRead, Past: o.Past, PastReadings: o.PastRead, Fallen: o.Fallen,
		Forks: o.Forks, Renewed: o.Renewed, Error: o.Failed, Chains: map[string]string{}}
	for stream, c := range o.Streams {
		s.Chains[stream] = c.String()
	}
	return s
}

// Status returns the present state. Safe to call while Run runs.
func (a *Agent) Status() Status {
	s := Status{Clock: "unsynced", Sensors: []Health{}, Outbox: describeOutbox(a.cfg.Outbox.Status())}
	if at, _ := a.cfg.Clock.Now(); at.Synced() {
		s.Clock = "synced"
	}
	for _, sm := range a.samplers {
		s.Sensors = append(s.Sensors, sm.state())
	}
	s.Streams = a.streams()
	s.Error = a.drain.failing()
	s.HubErrors = a.cfg.Hubs.failing()
	return s
}

func (d *drain) failing() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}
