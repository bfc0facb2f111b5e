// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector/stdout"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
)

// eventLine is an event in JSON.
type eventLine struct {
	Device edge.ID        `json:"device"`
	Name   string         `json:"device_name"`
	Event  string         `json:"event"`
	Time   string         `json:"time,omitempty"`
	Mono   *int64         `json:"mono_ms,omitempty"` // without a time: since the device's boot
	Recv   string         `json:"recv"`
	Data   map[string]any `json:"data,omitempty"`
}

// eventLines writes a line for each event: for people on a terminal, else JSON.
type eventLines struct {
	*liveLines
	json bool
}

func (s *eventLines) event(g fleet.Grant, o direct.Occurrence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := eventLine{Device: g.Member, Name: g.Name, Event: o.Name, Recv: time.Now().UTC().Format(stdout.TimeForm), Data: o.Data}
	clock := "unsynced"
	if o.At.Synced() {
		l.Time, clock = o.At.Time().UTC().Format(stdout.TimeForm), o.At.Time().Local().Format(time.TimeOnly)
	} else {
		l.Mono = &o.At.Mono
	}
	if s.json {
		enc := json.NewEncoder(s.out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(l) // who reads the pipe has gone: the signal of that ends the program
	} else {
		var words []string
		for _, name := range sortedKeys(o.Data) {
			words = append(words, fmt.Sprintf("%s=%s", shown(name), valueText(o.Data[name], "")))
		}
		fmt.Fprintf(s.out, "%s  %s  %s  %s\n", clock, g.Name, shown(o.Name), strings.Join(words, "  "))
	}
	_ = s.out.Flush()
}

// hear hears of a device's events in one session.
func (d *watched) hear(ctx context.Context, l *line, show *eventLines) error {
	return l.Subscribe(ctx, d.w.value, func(o direct.Occurrence) {
		switch {
		case !d.began:
			d.show.say(d.g, "events, %s", l.path)
		case !d.lost.IsZero():
			d.show.say(d.g, "is back after %s; what happened meanwhile is in its status and its audit", time.Since(d.lost).Round(100*time.Millisecond))
		}
		d.began, d.lost = true, time.Time{}
		if o.Lost > 0 {
			d.show.say(d.g, "%s not told: too many at once", plural(int(o.Lost), "event"))
		}
		if o.Name != "" {
			show.event(d.g, o)
		}
	})
}
