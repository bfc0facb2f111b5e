// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector/stdout"
)

func newPull(a *app) *cobra.Command {
	var p pulling
	cmd := &cobra.Command{
		Use:   "pull [DEVICE|all]",
		Short: "Pull, verify and decrypt readings to standard output",
		Long: `Writes the readings to standard output and what was proven, or is missing, to standard error. It remembers nothing: every
run begins at the oldest segment that the hubs have. For a database, and for going on where it stopped: streembit collect run.

DEVICE is a name, an id, or the end of an id; default all.`,
		Example: "  streembit pull pi-1 --since 1h --format csv\n  streembit pull --follow",
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, devices []string) error {
			p.devices = devices
			if !slices.Contains(stdout.Formats(), p.format) {
				return cli.Try(cli.Usagef("--format %q: want senml, jsonl, csv or influx", p.format), "streembit pull --format jsonl")
			}
			var err error
			if p.after, err = parseSince(p.since, time.Now()); err != nil {
				return cli.Try(cli.Usage(err), "streembit pull --since 24h")
			}
			return p.run(cmd.Context(), a)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&p.since, "since", "", "only readings younger than a `duration` (24h) or a time (2026-01-31T08:00:00Z); those without a time are left out")
	fl.StringVar(&p.format, "format", "jsonl", "senml, jsonl, csv or influx")
	fl.BoolVar(&p.follow, "follow", false, "go on with what arrives, until Ctrl-C")
	stateFlag(cmd, &p.state)
	return cmd
}

// pulling is what streembit pull was asked for.
type pulling struct {
	state, since, format string
	follow               bool
	devices              []string
	after                time.Time // zero: all
}

// parseSince reads a duration before now, or a time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %q: want a duration such as 24h, or a time such as 2026-01-31T08:00:00Z", s)
}

func (p *pulling) run(ctx context.Context, a *app) (err error) {
	log, err := a.logger(usualLevel(p.follow))
	if err != nil {
		return err
	}
	cl, err := dial(ctx, log, stateDir(p.state))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.node.Close()) }()
	out, err := stdout.New(a.out, p.format, p.after)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	col, err := cl.collector(p.devices, out, nil)
	if err != nil {
		return err
	}
	var show *progress
	if !isTerminal(a.out) { // where the readings go to the screen, they show how far it is
		show = newProgress(a.err)
	}
	if p.follow {
		return follow(ctx, log, col, show)
	}
	report, err := pullOnce(ctx, col, show)
	if err != nil {
		return err
	}
	fmt.Fprint(a.err, report)
	return judge(report)
}
