// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

func newFleetLog(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show every entry of the fleet's logs: who granted and revoked whom, and when",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			f, err := fleetDir(dir).load()
			if err != nil {
				return err
			}
			lines, err := entries(f)
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(a.out, lines)
			}
			t := cli.NewTable(a.out, 1)
			t.Row("WRITER", "SEGMENT", "TIME", "WHAT", "WHO", "SAYS")
			for _, l := range lines {
				writer := l.Writer.Short()
				if l.Owner {
					writer = "owner"
				}
				t.Row(writer, fmt.Sprint(l.Segment), l.Time.Format(time.RFC3339), l.Kind, l.Member, l.Says)
			}
			t.Flush()
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	dirFlag(cmd, &dir)
	return cmd
}

// logLine is one entry of a fleet log, and its JSON.
type logLine struct {
	Writer  edge.ID             `json:"writer"`
	Life    journal.Incarnation `json:"life"`
	Owner   bool                `json:"owner"`
	Segment uint64              `json:"segment"` // within the writer's chain, what fleet rotate --keep counts
	Time    time.Time           `json:"time"`    // as the writer says
	Kind    string              `json:"kind"`
	Member  string              `json:"member"` // a policy's executor, or a retention's name
	Says    string              `json:"says"`

	entry fleet.Entry
}

// entries reads all logs of a fleet, chain after chain.
func entries(f *fleet.Fleet) ([]logLine, error) {
	lines := []logLine{}
	for _, log := range f.Delta(fleet.Digest{}).Logs {
		for _, raw := range log {
			seg, err := journal.Open(raw, f.ID())
			if err != nil {
				return nil, err
			}
			var said []fleet.Entry
			if err := journal.Decode(seg.Plain(), &said); err != nil {
				return nil, err
			}
			for _, e := range said {
				l := logLine{Writer: seg.Chain.Device, Life: seg.Chain.Incarnation, Owner: seg.Chain.Device == f.State().LogWriter,
					Segment: seg.Seq, Time: time.UnixMilli(seg.Wall).UTC(), entry: e}
				l.describe(f, e)
				lines = append(lines, l)
			}
		}
	}
	return lines, nil
}

func (l *logLine) describe(f *fleet.Fleet, e fleet.Entry) {
	switch {
	case e.Grant != nil:
		l.Kind, l.Member, l.Says = "grant", e.Grant.Member.String(), granted(*e.Grant).Detail
		if e.Grant.Token != (fleet.TokenID{}) {
			l.Says += ", by token " + tokenName(e.Grant.Token)
		}
	case e.Revoke != nil:
		l.Kind, l.Member = "revoke", e.Revoke.Member.String()
		l.Says = plural(len(e.Revoke.Last), "chain") + " cut"
		if e.Revoke.Reason != "" {
			l.Says += ", " + e.Revoke.Reason
		}
	case e.Policy != nil:
		p := e.Policy
		l.Kind, l.Member = "policy", p.Executor.String()
		l.Says = fmt.Sprintf("token %s, %s of %s", tokenName(p.ID), plural(int(p.Uses), "use"), p.Roles)
		if len(p.Labels) > 0 {
			l.Says += ", " + strings.Join(p.Labels, " ")
		}
		l.Says += ", until " + day(p.Expires)
	case e.Retain != nil:
		l.Kind, l.Member, l.Says = "keep", e.Retain.Name, retentionText(f, *e.Retain)
	}
}

// tokenName is how people speak of a token.
func tokenName(t fleet.TokenID) string { return hex.EncodeToString(t[:4]) }
