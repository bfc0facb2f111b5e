// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/streembit/edge/collector"
)

// sinkReport is the JSON of what became of one of several sinks.
type sinkReport struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
	pullReport
}

// pullReport is the JSON of a collector.Report.
type pullReport struct {
	Seconds  float64       `json:"seconds"`
	Segments uint64        `json:"segments"` // proven
	Verified uint64        `json:"verified"` // readings out of proven segments
	Readings uint64        `json:"readings"` // committed by the sink
	Missing  uint64        `json:"missing"`  // segments
	Sealed   uint64        `json:"sealed"`   // segments for other readers
	Refused  uint64        `json:"refused"`  // readings that the sink cannot hold: in the dead-letter file
	Bad      []string      `json:"bad,omitempty"`
	BadCount int           `json:"bad_count"`
	Forks    []string      `json:"forks,omitempty"`
	Chains   []chainReport `json:"chains"`
	Hubs     []hubReport   `json:"hubs"`
}

type chainReport struct {
	Chain    string    `json:"chain"`
	Name     string    `json:"name,omitempty"`
	To       *uint64   `json:"to"` // null: nothing yet
	Complete bool      `json:"complete"`
	Readings uint64    `json:"readings"`
	Missing  []gapSpan `json:"missing,omitempty"`
	Unproven string    `json:"unproven,omitempty"`
	Error    string    `json:"error,omitempty"`
}

type gapSpan struct {
	First     uint64 `json:"first"`
	Last      uint64 `json:"last"`
	Reason    string `json:"reason"`
	Explained string `json:"explained,omitempty"` // what the device says about it
}

type hubReport struct {
	Name  string `json:"name"`
	Lacks uint64 `json:"lacks,omitempty"` // segments that others have
	Error string `json:"error,omitempty"`

	Withheld uint64 `json:"withheld,omitempty"` // segments that it says it holds and did not send
}

func viewReport(r collector.Report) pullReport {
	v := pullReport{Seconds: r.Took.Seconds(), Segments: r.Segments, Verified: r.Verified, Readings: r.Readings, Missing: r.Missing,
		Sealed: r.Sealed, Refused: r.Refused, BadCount: r.BadCount, Chains: []chainReport{}, Hubs: []hubReport{}}
	for _, b := range r.Bad {
		v.Bad = append(v.Bad, b.String())
	}
	for _, f := range r.Forks {
		v.Forks = append(v.Forks, fmt.Sprintf("seq %d of %s", f.Seq, f.Chain))
	}
	for _, c := range r.Chains {
		cv := chainReport{Chain: c.Chain.String(), Name: c.Name, Complete: c.Complete(), Readings: c.Readings, Unproven: c.Unproven, Error: errText(c.Err)}
		if !c.Empty {
			cv.To = &c.To
		}
		for _, g := range c.Missing {
			cv.Missing = append(cv.Missing, gapSpan{g.First, g.Last, g.Reason, g.Explained})
		}
		v.Chains = append(v.Chains, cv)
	}
	for _, h := range r.Hubs {
		v.Hubs = append(v.Hubs, hubReport{h.Name, h.Lacks, errText(h.Err), h.Withheld})
	}
	return v
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// judge turns what a report says into the error that the exit code comes from.
func judge(r collector.Report) error {
	switch {
	case !r.Complete():
		return fmt.Errorf("%s missing, %s forked: %w", plural(r.Missing, "segment"), plural(len(r.Forks), "place"), errUnverified)
	case r.BadCount > 0:
		return fmt.Errorf("everything is there, but hubs also served bad copies, %d in all: %w", r.BadCount, errUnverified)
	}
	return nil
}
