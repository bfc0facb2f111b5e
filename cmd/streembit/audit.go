// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet/audit"
)

func newAudit(a *app) *cobra.Command {
	var dir, since, event string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "Show what was granted, revoked and refused from this folder",
		Example: "  streembit audit --since 24h\n  streembit audit --event revoke --json",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			after, err := parseSince(since, time.Now())
			if err != nil {
				return cli.Try(cli.Usage(err), "streembit audit --since 24h")
			}
			all := []audit.Event{}
			damaged, err := audit.Read(fleetDir(dir).audit(), func(e audit.Event) error {
				if !e.Time.Before(after) && (event == "" || e.Event == event) {
					all = append(all, e)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if damaged > 0 {
				fmt.Fprintf(a.err, "%s cannot be read\n", plural(damaged, "line"))
			}
			if asJSON {
				return cli.PrintJSON(a.out, all)
			}
			printAudit(a, all)
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&since, "since", "", "only what is younger than a `duration` (24h) or a time (2026-01-31T08:00:00Z)")
	fl.StringVar(&event, "event", "", "only this `kind`: grant, revoke, rotate, approve, token, deny, restore, rewrap")
	fl.BoolVar(&asJSON, "json", false, "write JSON")
	dirFlag(cmd, &dir)
	return cmd
}

func printAudit(a *app, all []audit.Event) {
	if len(all) == 0 {
		fmt.Fprintln(a.err, "nothing noted")
		return
	}
	t := cli.NewTable(a.out, 0)
	t.Row("NO", "TIME", "EVENT", "WHO", "WHAT", "DETAIL")
	for _, e := range all {
		at := e.Time.Format(time.RFC3339)
		if !e.Synced {
			at += "?" // the clock was not known to be right
		}
		t.Row(fmt.Sprint(e.Seq), at, shown(e.Event), shown(e.Who), shown(e.What), shown(e.Detail))
	}
	t.Flush()
}

// shown makes text safe for a terminal: some of it strangers wrote.
func shown(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
