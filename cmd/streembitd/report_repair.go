// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport/repair"
)

// repairStatus is how a hub brings back the copies that it lacks.
type repairStatus struct {
	Running bool         `json:"running"`         // it compares or fetches now
	Round   time.Time    `json:"round,omitzero"`  // when it last had compared with all
	Lacking int          `json:"lacking"`         // segments that others hold, or say so, and this hub ought to
	Left    int64        `json:"left_s"`          // seconds that they take as fast as the last ones came; 0 = not known
	Fetched uint64       `json:"fetched"`         // segments since start …
	Bytes   uint64       `json:"bytes"`           // … and their bytes
	Failed  uint64       `json:"failed"`          // promises of others that were not kept
	Error   string       `json:"error,omitempty"` // of this hub's own store
	Hubs    []repairPeer `json:"hubs"`
}

// repairPeer is another hub as repair sees it.
type repairPeer struct {
	Hub      string    `json:"hub"`
	Name     string    `json:"name"`
	Compared time.Time `json:"compared,omitzero"`
	Lacking  int       `json:"lacking"` // segments that it had then and this hub had not
	Fetched  uint64    `json:"fetched"`
	Bytes    uint64    `json:"bytes"`
	Failed   uint64    `json:"failed"`
	Slow     bool      `json:"slow"`
	Error    string    `json:"error,omitempty"`
	Suspect  string    `json:"suspect,omitempty"` // why it is believed last
}

func repairStatusOf(st repair.Stats, f *fleet.Fleet) *repairStatus {
	s := &repairStatus{Running: st.Running, Round: st.Round, Lacking: st.Lacking, Left: int64(st.Left.Seconds()), Fetched: st.Fetched, Bytes: st.Bytes,
		Failed: st.Failed, Error: st.Error, Hubs: []repairPeer{}}
	for _, p := range st.Peers {
		g, _ := f.Member(p.Hub)
		s.Hubs = append(s.Hubs, repairPeer{Hub: p.Hub.String(), Name: g.Name, Compared: p.Compared, Lacking: p.Lacking, Fetched: p.Fetched, Bytes: p.Bytes,
			Failed: p.Failed, Slow: p.Slow, Error: p.Error, Suspect: p.Suspect})
	}
	return s
}

func printRepair(out io.Writer, s *repairStatus) {
	switch {
	case s.Lacking > 0 && s.Left > 0:
		fmt.Fprintf(out, "repair: %d segments lack here, some %s more\n", s.Lacking, time.Duration(s.Left)*time.Second)
	case s.Lacking > 0:
		fmt.Fprintf(out, "repair: %d segments lack here\n", s.Lacking)
	default:
		fmt.Fprintf(out, "repair: nothing lacks that other hubs have, compared %s\n", ago(s.Round))
	}
	if s.Fetched > 0 {
		fmt.Fprintf(out, "repair: %d segments fetched since start, %s\n", s.Fetched, bytesText(int64(s.Bytes)))
	}
	if s.Error != "" {
		fmt.Fprintf(out, "ALARM: repair stands still: %s\n", s.Error)
	}
	for _, h := range s.Hubs {
		switch {
		case h.Suspect != "":
			fmt.Fprintf(out, "ALARM: repair does not believe hub %s: %s\n", h.Name, strings.Map(printableOnly, h.Suspect))
		case h.Error != "":
			fmt.Fprintf(out, "repair: hub %s, compared %s: %s\n", h.Name, ago(h.Compared), strings.Map(printableOnly, h.Error))
		case h.Slow:
			fmt.Fprintf(out, "repair: hub %s is slow and asked after others\n", h.Name)
		}
	}
}
