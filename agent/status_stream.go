// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// StreamStatus is what is known of one stream: what is not sealed, and how far each segment got.
type StreamStatus struct {
	Stream string `json:"stream"`
	Lost   uint64 `json:"lost"`            // readings that never got a seq, since the start
	Error  string `json:"error,omitempty"` // why readings are not kept safe, if so

	Pending     TallyStatus `json:"pending"`     // segments that are not on a majority of their hubs
	Published   TallyStatus `json:"published"`   // on a majority, and not on two hubs: the device keeps its copy
	Forgettable TallyStatus `json:"forgettable"` // on two hubs at least; the copy goes when its whole file is forgettable

	OldestPending *WaitingStatus `json:"oldest_pending,omitempty"`
	Oldest        *WaitingStatus `json:"oldest,omitempty"` // that is not forgettable
	Last          *LastStatus    `json:"last,omitempty"`   // segment that was published, since the start
}

// TallyStatus counts segments of one state that are on the device's disk.
type TallyStatus struct {
	Segments int   `json:"segments"`
	Readings int64 `json:"readings"`
	Bytes    int64 `json:"bytes"`
}

// WaitingStatus is a segment that the device must keep.
type WaitingStatus struct {
	Chain string         `json:"chain"`
	Seq   uint64         `json:"seq"`
	State string         `json:"state"`            // pending, published
	Boot  journal.BootID `json:"boot"`             // in which it was sealed
	Age   *int64         `json:"age_ms,omitempty"` // by the time since boot, in this one; by wall time, where it was and is known; else it is not known
}

// LastStatus is where the newest published segment got to until it counted as published; hubs that were slower are not among the copies.
type LastStatus struct {
	Seq      uint64    `json:"seq"`
	Copies   int       `json:"copies"`
	Hubs     int       `json:"hubs"`      // of its bucket
	Sites    int       `json:"sites"`     // of the copies
	HubSites int       `json:"hub_sites"` // of those hubs
	Time     time.Time `json:"time"`      // by the system clock, right or not
}

func lastOf(seg *journal.Segment, r transport.Receipt) LastStatus {
	l := LastStatus{Seq: seg.Seq, Copies: len(r.Acked), Hubs: len(r.Targets), Time: time.Now()}
	l.Sites, l.HubSites = r.Sites()
	return l
}

// streams describes the configured streams, and former ones of which something is left, in the order of their names.
func (a *Agent) streams() []StreamStatus {
	now, _ := a.cfg.Clock.Now()
	kept := a.cfg.Outbox.Backlogs()
	names := map[string]bool{}
	for name := range a.batchers {
		names[name] = true
	}
	for name := range kept {
		names[name] = true
	}
	out := []StreamStatus{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		k := kept[name]
		s := StreamStatus{Stream: name, Pending: TallyStatus(k.Pending), Published: TallyStatus(k.Published), Forgettable: TallyStatus(k.Forgettable),
			OldestPending: a.waiting(k.OldestPending, now), Oldest: a.waiting(k.Oldest, now), Last: a.drain.lastOf(name)}
		if b := a.batchers[name]; b != nil {
			s.Lost, s.Error = b.state()
		}
		out = append(out, s)
	}
	return out
}

func (a *Agent) waiting(w *outbox.Waiting, now edge.Instant) *WaitingStatus {
	if w == nil {
		return nil
	}
	s := &WaitingStatus{Chain: w.Chain.String(), Seq: w.Seq, State: "pending", Boot: w.Boot}
	if w.Published {
		s.State = "published"
	}
	switch {
	case w.At == edge.Instant{}:
	case w.Boot == a.cfg.Boot:
		age := now.Mono - w.At.Mono
		s.Age = &age
	case w.At.Synced() && now.Synced():
		age := now.Wall - w.At.Wall
		s.Age = &age
	}
	return s
}

func (d *drain) lastOf(stream string) *LastStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, ok := d.last[stream]; ok {
		return &l
	}
	return nil
}

// state returns how many readings never got a seq, and why readings are not safe now.
func (b *batcher) state() (lost uint64, err string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err = b.failing[unsealed]
	if err == "" {
		err = b.failing[unspooled]
	}
	return b.lost, err
}
