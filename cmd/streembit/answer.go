// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/journal"
)

// answer is what a command that changes a fleet, its keys or its folder writes with --json.
type answer struct {
	Fleet   journal.FleetID `json:"fleet"`
	Name    string          `json:"name"`
	Version uint64          `json:"version"` // of the fleet state
	Changed bool            `json:"changed"` // false: it was so already
	Done    []done          `json:"done"`
	Told    []string        `json:"told"`            // hubs that have it; the others hear from them
	File    string          `json:"file,omitempty"`  // of a backup
	Files   []string        `json:"files,omitempty"` // in it
}

// done is one line of the audit log, without the hour.
type done struct {
	Event  string `json:"event"`
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"`
}

func answerOf(f *fleet.Fleet) answer {
	return answer{Fleet: f.ID(), Name: f.State().Name, Version: f.State().Version, Done: []done{}, Told: []string{}}
}

// jsonFlag adds --json to a command that open or quiet and reply serve.
func (d *desk) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.asJSON, "json", false, "write JSON")
}

// quiet keeps what is for people off the standard output when JSON goes there.
func (d *desk) quiet() {
	if d.asJSON && d.answers == nil {
		a := *d.app
		d.answers, a.out = a.out, io.Discard
		d.app = &a
	}
}

// reply writes the answer if the command was asked for JSON.
func (d *desk) reply(a answer) error {
	if !d.asJSON {
		return nil
	}
	return cli.PrintJSON(d.answers, a)
}

// replyChange writes what apply did.
func (o *office) replyChange(changed bool, events []audit.Event) error {
	a := answerOf(o.known())
	a.Changed = changed
	for _, e := range events {
		a.Done = append(a.Done, done{Event: e.Event, What: e.What, Detail: e.Detail})
	}
	if o.told != nil {
		a.Told = o.told
	}
	return o.reply(a)
}
