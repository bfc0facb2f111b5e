// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// pingWait bounds how long a sink may take to answer.
const pingWait = 20 * time.Second

// finding is one thing that streembit collect check looked at.
type finding struct {
	What  string `json:"what"` // config, rights, hubs, clock, sink NAME
	OK    bool   `json:"ok"`
	Found string `json:"found"` // what is so
	Error string `json:"error,omitempty"`
	err   error
}

func newCollectCheck(a *app) *cobra.Command {
	var l looking
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Try everything that collect run needs, and pull nothing",
		Long: `Reads the config, looks up what the fleet's log allows this collector, asks for the hubs, opens every sink as collect run does (tables are made or brought up to date), and looks whether
this machine knows the time. Ends as the first thing that is wrong would end collect run: 2 config, 3 no hub, 4 no right, 1 a sink or the clock.`,
		Example: "  streembit collect check --config collect.toml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, f, err := l.load(cmd)
			if err != nil {
				return err
			}
			log, err := a.logger(slog.LevelError)
			if err != nil {
				return err
			}
			all := append([]finding{{What: "config", Found: fmt.Sprintf("%s with %s", l.config, plural(len(c.Sinks), "sink"))}}, checkFleet(cmd.Context(), log, &c)...)
			all = append(all, checkClock(time.Now(), f))
			for i := range c.Sinks {
				all = append(all, checkSink(cmd.Context(), &c.Sinks[i]))
			}
			return a.showFindings(all, l.asJSON)
		},
	}
	l.flags(cmd)
	return cmd
}

// checkFleet looks at what this collector may, and whether a hub answers it.
func checkFleet(ctx context.Context, log *slog.Logger, c *collectConfig) []finding {
	cl, err := loadClient(log, stateDir(c.State))
	if err != nil {
		return []finding{{What: "rights", err: err}}
	}
	f := cl.know.get()
	out := []finding{{What: "rights", Found: mayRead(f, cl)}}
	if cl.mayReadNothing(f) {
		out[0].err = cli.Try(fmt.Errorf("the fleet's log gives this collector no right to read anything: %w", journal.ErrNotReader),
			"streembit fleet grant %s --role collector --name server --reader %s --right 'read *'", cl.key.ID(), cli.Quote(cl.dir.readerPub()))
	} else if _, err := cl.devices(c.Devices); err != nil {
		out[0].err = err
	}
	hubs := finding{What: "hubs"}
	if err := cl.join(ctx); err != nil {
		hubs.err = err
		return append(out, hubs)
	}
	hubs.err = cl.hear(ctx)
	up := cl.node.Peers()
	hubs.Found = fmt.Sprintf("%d of %s connected", len(up), plural(len(f.Hubs()), "hub"))
	hubs.err = errors.Join(hubs.err, cl.node.Close())
	return append(out, hubs)
}

func (c *client) reads(f *fleet.Fleet) (all []fleet.Right) {
	g, _ := f.Member(c.key.ID())
	for _, r := range g.Rights {
		if r.Do == fleet.Read {
			all = append(all, r)
		}
	}
	return all
}

func (c *client) mayReadNothing(f *fleet.Fleet) bool { return len(c.reads(f)) == 0 }

// mayRead says which devices' streams the collector may read.
func mayRead(f *fleet.Fleet, c *client) string {
	var rights []string
	for _, r := range c.reads(f) {
		rights = append(rights, r.String())
	}
	return fmt.Sprintf("%s in fleet %s: %s", plural(len(f.With(fleet.Device)), "device"), f.State().Name, strings.Join(rights, "; "))
}

// checkClock looks whether this machine's time can be right: recv is taken from it, and hubs count ages.
func checkClock(now time.Time, known *fleet.Fleet) finding {
	f := finding{What: "clock", Found: now.UTC().Format(time.RFC3339)}
	if !clockSynced() {
		f.Found += ", not known to be synchronised (readings keep the devices' own times; column recv may be wrong)"
	}
	if known != nil && now.Before(known.Floor()) {
		f.err = fmt.Errorf("this machine believes that it is %s, and the fleet's owner signed its state after that: set the clock", now.UTC().Format(time.DateOnly))
	}
	return f
}

// checkSink opens a sink and asks whether it would take a batch.
func checkSink(ctx context.Context, s *sinkTable) (f finding) {
	ctx, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	f = finding{What: "sink " + s.Name}
	began := time.Now()
	sink, err := openSink(ctx, s.sinkConfig)
	if err != nil {
		f.err = err
		return f
	}
	defer func() { f.err = errors.Join(f.err, sink.Close()) }()
	f.Found = "opened"
	if p, ok := collector.As[collector.Pinger](sink); ok {
		f.err = p.Ping(ctx)
		f.Found = "answers"
	}
	f.Found += fmt.Sprintf(" in %s", time.Since(began).Round(time.Millisecond))
	return f
}

func (a *app) showFindings(all []finding, asJSON bool) error {
	var first error
	bad := 0
	tab := cli.NewTable(a.out)
	for i := range all {
		f := &all[i]
		f.OK, f.Error = f.err == nil, errText(f.err)
		state, text := "ok", f.Found
		if !f.OK {
			state, text = "WRONG", f.Error
			bad++
			if first == nil {
				first = fmt.Errorf("%s: %w", f.What, f.err)
				if !cli.Tried(first) && strings.HasPrefix(f.What, "sink ") {
					first = cli.Try(first, "the same command when that is mended")
				}
			}
		}
		tab.Row(f.What, state, text)
	}
	if asJSON {
		if err := cli.PrintJSON(a.out, all); err != nil {
			return err
		}
	} else {
		tab.Flush()
	}
	if bad > 1 {
		first = fmt.Errorf("%d things are wrong, the first: %w", bad, first)
	}
	return first
}
