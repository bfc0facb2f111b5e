// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/hal"
)

// busStatus is the health of an I²C bus.
type busStatus struct {
	Name         string    `json:"name"`
	State        string    `json:"state"` // open, hung, closed, gone
	Transactions uint64    `json:"transactions"`
	Errors       uint64    `json:"errors"`
	Absent       uint64    `json:"absent"`   // of the errors: no chip answered
	Timeouts     uint64    `json:"timeouts"` // of the errors: the bus did not answer in time
	Retries      uint64    `json:"retries"`
	Reopens      uint64    `json:"reopens"`
	Error        string    `json:"error,omitempty"` // the last one, which may be over
	ErrorAt      time.Time `json:"error_at,omitzero"`
}

func busesOf(board *hal.Board) []busStatus {
	out := []busStatus{}
	for _, h := range board.Health() {
		b := busStatus{Name: h.Name, State: string(h.State), Transactions: h.Transactions, Errors: h.Errors, Absent: h.Absent,
			Timeouts: h.Timeouts, Retries: h.Retries, Reopens: h.Reopens, ErrorAt: h.LastErrorAt}
		if h.LastError != nil {
			b.Error = h.LastError.Error()
		}
		out = append(out, b)
	}
	return out
}

func printBuses(out io.Writer, buses []busStatus) {
	for _, b := range buses {
		fmt.Fprintf(out, "bus %s: %s, %d transactions, %d failed (%d without an answer, %d timed out), %d retries, opened again %d times\n",
			b.Name, b.State, b.Transactions, b.Errors, b.Absent, b.Timeouts, b.Retries, b.Reopens)
		if b.State != string(hal.BusOpen) {
			fmt.Fprintf(out, "bus %s: %s\n", b.Name, b.Error)
		}
	}
}

func printSensors(out io.Writer, sensors []agent.Health) {
	t := cli.NewTable(out, 3, 5)
	t.Row("SENSOR", "DRIVER", "STREAM", "READS", "ERRORS", "MISSED", "LATE", "LAST OK", "STATE")
	for _, h := range sensors {
		t.Row(h.Sensor, h.Driver, h.Stream, fmt.Sprint(h.Reads), faultsText(h), fmt.Sprint(h.Missed+h.Paused), lateText(h.Jitter), ago(h.LastOK), stateOf(h))
	}
	t.Flush()
}

// faultsText is for example "3: absent 1, crc 2".
func faultsText(h agent.Health) string {
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(h.Faults)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, h.Faults[kind]))
	}
	if len(kinds) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", h.Errors, strings.Join(kinds, ", "))
}

// lateText says how late reads begin: 99 of 100 at most, and the worst.
func lateText(j agent.Jitter) string {
	return fmt.Sprintf("p99 %s, max %s", short(j.P99), short(j.Max))
}

// short rounds a time to what a person wants to see of it.
func short(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Microsecond; unit /= 10 {
		if d >= 10*unit {
			return d.Round(unit)
		}
	}
	return d.Round(time.Microsecond)
}

func stateOf(h agent.Health) string {
	switch {
	case !h.Until.IsZero():
		return fmt.Sprintf("quarantined until %s: %s", h.Until.Local().Format(time.TimeOnly), h.Error)
	case h.Error != "":
		return h.Error
	case !h.Open:
		return "opening"
	}
	return "ok"
}
