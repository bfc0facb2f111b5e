// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/thing"
)

func newDescribe(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "describe DEVICE",
		Short: "Show what a device can be asked and told: its signed Thing Description",
		Long: `Shows a device's W3C Thing Description 1.1, signed by the device: the values that can be read and set, the actions, and the events. It comes from the device if that
answers, else from the hubs, which keep the newest one, else from what this folder saw last.

DEVICE is a name, an id, or the beginning or end of an id. --json writes the description itself (application/td+json).`,
		Example: "  streembit describe pi-1",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.withOne(cmd.Context(), args[0], d.describe)
		},
	}
	d.directFlags(cmd)
	return cmd
}

func (d desk) describe(ctx context.Context, r *reacher, g fleet.Grant) error {
	td, from, err := r.description(ctx, g.Member)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.app.err, "version %d of %s, %s\n", td.Version.Number(), g.Name, from)
	if d.asJSON {
		text, err := td.Encode()
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := json.Indent(&out, text, "", "  "); err != nil {
			return fmt.Errorf("writing description: %w", err)
		}
		fmt.Fprintln(d.app.out, out.String())
		return nil
	}
	printThing(d.app, td)
	return nil
}

func printThing(a *app, d *thing.Description) {
	t := cli.NewTable(a.out)
	properties, actions := d.Names()
	t.Row("VALUE", "TYPE", "UNIT", "SET", "STREAM")
	for _, name := range properties {
		p := d.Properties[name]
		set := ""
		if !p.ReadOnly {
			set = p.Want()
		}
		t.Row(name, p.Type, p.Unit, set, p.Stream)
	}
	t.Flush()
	fmt.Fprintln(a.out)
	t.Row("ACTION", "ARGUMENTS", "")
	for _, name := range actions {
		ac := d.Actions[name]
		note := ac.Title
		if ac.Signed {
			note = strings.TrimSpace("destructive, signed singly; " + note)
		}
		t.Row(name, arguments(ac.Input), note)
	}
	t.Flush()
	if len(d.Events) == 0 {
		return
	}
	fmt.Fprintln(a.out)
	t.Row("EVENT", "TELLS", "")
	for _, name := range sortedKeys(d.Events) {
		e := d.Events[name]
		fields := []string{}
		if e.Data != nil {
			fields = sortedKeys(e.Data.Properties)
		}
		t.Row(name, strings.Join(fields, " "), e.Title)
	}
	t.Flush()
}

// arguments shows what an action takes, as it is typed.
func arguments(in *thing.Schema) string {
	if in == nil {
		return ""
	}
	var words []string
	required := map[string]bool{}
	for _, name := range in.Required {
		required[name] = true
	}
	for _, pass := range []bool{true, false} { // those that must be there first
		for _, name := range sortedKeys(in.Properties) {
			f := in.Properties[name]
			word := name + "=" + kindOf(f)
			if required[name] != pass {
				continue
			}
			if !pass {
				word = "[" + word + "]"
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

func kindOf(f thing.Schema) string {
	switch {
	case len(f.Enum) > 0:
		var all []string
		for _, v := range f.Enum {
			all = append(all, fmt.Sprint(v))
		}
		return strings.Join(all, "|")
	case f.Type == thing.Boolean:
		return "on|off"
	case f.Minimum != nil && f.Maximum != nil:
		return fmt.Sprintf("%g..%g%s", *f.Minimum, *f.Maximum, f.Unit)
	}
	return strings.ToUpper(f.Type)
}
