// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/streembit/edge/agent"
)

func printDevice(out io.Writer, d *agent.Status) {
	fmt.Fprintf(out, "clock: %s\n", d.Clock)
	fmt.Fprintf(out, "outbox: %d segments pending, %d published but on one hub only, %d published since start, %s of %s on disk\n",
		d.Outbox.Pending, d.Outbox.Held, d.Outbox.Published, bytesText(d.Outbox.Bytes), bytesText(d.Outbox.Quota))
	if d.Outbox.GivenUp > 0 {
		fmt.Fprintf(out, "ALARM: %d segments with %d readings given up unpublished: the outbox quota is spent\n", d.Outbox.GivenUp, d.Outbox.LostReadings)
	}
	if d.Outbox.Fallen > 0 {
		fmt.Fprintf(out, "outbox: %d segments published once more: hubs that had them are none any more\n", d.Outbox.Fallen)
	}
	if d.Outbox.Forks > 0 {
		fmt.Fprintf(out, "ALARM: %d places in this device's chains were taken by somebody else with its key (a copied card?)\n", d.Outbox.Forks)
	}
	if d.Outbox.Renewed > 0 {
		fmt.Fprintf(out, "outbox: %d incarnations given up for that since start, and begun anew\n", d.Outbox.Renewed)
	}
	if d.Outbox.Error != "" {
		fmt.Fprintf(out, "ALARM: the outbox cannot write: %s\n", d.Outbox.Error)
	}
	if d.Outbox.Past > 0 {
		fmt.Fprintf(out, "ALARM: %d segments with %d readings came too late: hubs had let their part of the chain go (or had them, and the receipt was lost with the power)\n",
			d.Outbox.Past, d.Outbox.PastReadings)
	}
	if d.Error != "" {
		fmt.Fprintf(out, "publishing fails: %s\n", d.Error)
	}
	for _, st := range d.Streams {
		printStream(out, st)
	}
	hubs := make([]string, 0, len(d.HubErrors))
	for id, text := range d.HubErrors {
		hubs = append(hubs, fmt.Sprintf("hub …%s: %s", id[len(id)-8:], text))
	}
	slices.Sort(hubs)
	for _, line := range hubs {
		fmt.Fprintln(out, line)
	}
	printSensors(out, d.Sensors)
}

// printStream shows how far one stream's segments got.
func printStream(out io.Writer, s agent.StreamStatus) {
	fmt.Fprintf(out, "stream %s: pending %s, published %s, forgettable %s\n", s.Stream, tallyText(s.Pending), tallyText(s.Published), tallyText(s.Forgettable))
	if s.OldestPending != nil {
		fmt.Fprintf(out, "  oldest pending: %s\n", waitingText(*s.OldestPending))
	}
	if s.Oldest != nil && s.Oldest.State != "pending" {
		fmt.Fprintf(out, "  oldest that this device must keep: %s\n", waitingText(*s.Oldest))
	}
	if s.Last != nil {
		fmt.Fprintf(out, "  last published: seq %d %s, %s ago\n", s.Last.Seq, copiesText(*s.Last), time.Since(s.Last.Time).Round(time.Second))
	}
	if s.Lost > 0 {
		fmt.Fprintf(out, "  ALARM: %d readings lost before sealing\n", s.Lost)
	}
	if s.Error != "" {
		fmt.Fprintf(out, "  ALARM: readings are not safe: %s\n", s.Error)
	}
}

func tallyText(t agent.TallyStatus) string {
	if t.Segments == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", t.Segments, bytesText(t.Bytes))
}

func waitingText(w agent.WaitingStatus) string {
	age := "of another boot, its age is not known"
	if w.Age != nil {
		age = (time.Duration(*w.Age) * time.Millisecond).Round(time.Second).String() + " old"
	}
	return fmt.Sprintf("seq %d, %s, %s", w.Seq, w.State, age)
}

// copiesText says where a segment is and what that is worth (transport.Receipt).
func copiesText(l agent.LastStatus) string {
	switch {
	case l.Hubs == 1:
		return "on the only hub: no redundancy; add hubs with streembit fleet grant --role hub"
	case l.Hubs == 2 && l.Copies == 1:
		return "on 1 of 2 hubs: this device keeps its own copy until both have it"
	}
	sites := ""
	if l.HubSites > 1 {
		sites = fmt.Sprintf(" on %d of %d sites", l.Sites, l.HubSites)
	}
	return fmt.Sprintf("as %d of %d copies%s", l.Copies, l.Hubs, sites)
}
