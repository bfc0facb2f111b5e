// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

func newCollect(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Pull readings into a database",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newCollectRun(a))
	return cmd
}

func newCollectRun(a *app) *cobra.Command {
	var path string
	var once, asJSON bool
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Pull, verify, decrypt and write; go on with what arrives unless --once",
		Long: `Pulls every chain of the fleet from where the database stands, proves that nothing is missing or changed, and writes the
readings and the gaps. It can be killed at any point and started again: each reading is written exactly once.

The config:

  state = "/home/me/.config/streembit/collector"   # streembit id made it; fleet.cbor lies there too
  once = false                                     # true: end when everything is pulled
  devices = []                                     # names or ids; none = all

  [sink]
  kind = "sqlite"                                  # or postgres, mysql, mssql, mqtt, nats, influx, webhook, prometheus, stdout
  path = "readings.db"                             # sqlite
  # dsn = "postgres://me@db.example/readings"      # postgres, mysql, mssql
  # schema = "streembit"

docs/servers.md has a config for each server.`,
		Example: "  streembit collect run --config collect.toml --once",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "--config collect.toml", "config"); err != nil {
				return err
			}
			c, err := loadCollectConfig(path)
			if err != nil {
				return err
			}
			c.Once = c.Once || once
			return collect(cmd.Context(), a, c, asJSON)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "config `file`")
	cmd.Flags().BoolVar(&once, "once", false, "end when everything that exists is pulled")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the report as JSON")
	return cmd
}

// collect runs a collector into the config's sink.
func collect(ctx context.Context, a *app, c collectConfig, asJSON bool) (err error) {
	log, err := a.logger(usualLevel(!c.Once))
	if err != nil {
		return err
	}
	cl, err := dial(ctx, log, stateDir(c.State))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.node.Close()) }()
	sink, err := openSink(ctx, c.Sink)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	col, err := cl.collector(c.Devices, sink, cl.key)
	if err != nil {
		return err
	}
	if !c.Once {
		return follow(ctx, log, col, newProgress(a.err))
	}
	report, err := pullOnce(ctx, col, newProgress(a.err))
	if err != nil {
		return err
	}
	if asJSON {
		err = cli.PrintJSON(a.out, viewReport(report))
	} else {
		_, err = fmt.Fprint(a.out, report)
	}
	return errors.Join(err, judge(report))
}

// usualLevel: see app.logger.
func usualLevel(ever bool) slog.Level {
	if ever {
		return slog.LevelWarn
	}
	return slog.LevelError
}

// collector returns a collector of the client for the devices that are meant. marks signs what the sink has; nil for a sink that keeps nothing.
func (c *client) collector(devices []string, sink collector.Sink, marks journal.Signer) (*collector.Collector, error) {
	ids, err := c.devices(devices)
	if err != nil {
		return nil, err
	}
	col, err := collector.New(collector.Config{Source: c.node, Sink: sink, Fleet: c.know.get, Key: c.reader,
		Reader: c.node.ID(), Devices: ids, Log: c.log.With("part", "collector"), Signer: marks})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulls = col
	return col, nil
}

// follow writes what arrives until Ctrl-C, which is the usual end. It may take days, so it shows how far it is only where a line can be replaced.
func follow(ctx context.Context, log *slog.Logger, c *collector.Collector, show *progress) error {
	if show != nil && show.tty {
		defer showPull(show, c, "following")()
	}
	return c.Follow(ctx, func(r collector.Report) {
		log.Info("pulled", "segments", r.Segments, "readings", r.Readings, "missing", r.Missing, "bad", r.BadCount)
		if err := judge(r); err != nil {
			log.Warn("not everything is in order", "err", err, "missing", r.Missing, "bad", r.BadCount, "forks", len(r.Forks))
		}
	})
}
