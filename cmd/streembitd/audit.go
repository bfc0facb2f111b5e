// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet/audit"
)

func newAuditCommand() *cobra.Command {
	var state, since, event string
	var asJSON bool
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show the log of what was granted, revoked, refused and changed here",
		Long: `Show the log of what was granted, revoked, refused and changed here, oldest first.

The log lies in the folder audit of the state folder, bounded; the oldest part goes first. Whoever is root here can change it.`,
		Example: "  streembitd audit --since 24h --event refused-claim",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			from, err := parseSince(since, time.Now())
			if err != nil {
				return err
			}
			out, lines := c.OutOrStdout(), json.NewEncoder(c.OutOrStdout())
			damaged, err := audit.Read(filepath.Join(state, auditFolder), func(e audit.Event) error {
				if e.Time.Before(from) || event != "" && !strings.HasPrefix(e.Event, event) {
					return nil
				}
				if asJSON {
					return lines.Encode(e)
				}
				_, err := fmt.Fprintln(out, eventText(e))
				return err
			})
			if damaged > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "%d lines cannot be read\n", damaged)
			}
			return err
		},
	}
	c.Flags().StringVar(&state, "state", defaultState, "state folder")
	c.Flags().StringVar(&since, "since", "", "only what is newer than a `time`: 24h, 7d, or 2027-01-31T12:00:00Z")
	c.Flags().StringVar(&event, "event", "", "only events that begin with these `letters`, for example refused")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	return c
}

// eventText is one line for a person. Who wrote the texts nobody knows, so that control characters are shown as such.
func eventText(e audit.Event) string {
	mark := " "
	if !e.Synced {
		mark = "?" // the clock was not known to be right
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%6d  %s%s  %-16s", e.Seq, e.Time.UTC().Format("2006-01-02 15:04:05"), mark, e.Event)
	for _, word := range []string{e.Who, e.What, e.Detail} {
		if word != "" {
			quoted := strconv.Quote(word)
			text.WriteString("  " + strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`))
		}
	}
	if e.Dropped > 0 {
		fmt.Fprintf(&text, "  (%d more before)", e.Dropped)
	}
	return text.String()
}

// parseSince reads a duration back from now, which may be in days, or a time; "" = all.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.Atoi(strings.TrimSuffix(s, "d")); err == nil && strings.HasSuffix(s, "d") {
		return now.AddDate(0, 0, -n), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, cli.Usagef("--since %q: want for example 24h, 7d or 2027-01-31", s)
}
