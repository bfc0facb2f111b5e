// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/shape"
	"github.com/streembit/edge/journal"
)

func newCollect(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Pull readings into a database",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newCollectRun(a), newCollectCheck(a), newCollectGaps(a), newCollectCheckpoint(a))
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

  [[sink]]                                         # as many as you like, each with its own checkpoint
  kind = "sqlite"                                  # or postgres, mysql, mssql, mqtt, nats, influx, webhook, prometheus, stdout
  path = "readings.db"                             # sqlite
  # dsn = "postgres://me@db.example/readings"      # postgres, mysql, mssql
  # schema = "streembit"
  # name = "archive"                               # in messages and files; needed when two sinks are of one kind
  # spare = true                                   # hubs need not keep readings until this sink has them
  # devices = ["pi-1"]                             # only these, or those with one of these labels
  # labels = ["site=lab"]
  # sensors = ["bme280-*", "*/level"]              # only these
  # rename = { "bme280-0" = "roof" }               # a sensor, or "sensor/quantity" = "sensor/quantity"

A reading that a sink cannot hold goes to FILE.NAME.dead.jsonl beside the config, and the rest goes on. Two collectors of one fleet,
each with an id of its own, that write to one PostgreSQL, MariaDB or MySQL database share the devices and take over from each other. docs/servers.md has a config for each server.`,
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

// collect runs a collector into the config's sinks.
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
	outputs := cl.outputs(&c)
	defer func() {
		for _, o := range outputs {
			err = errors.Join(err, o.Sink.Close())
		}
	}()
	if !c.Once && len(outputs) == 1 { // what is wrong with the only sink is said at once
		if _, err := outputs[0].Sink.Marks(ctx); err != nil {
			return err
		}
	}
	g, err := cl.group(c.Devices, outputs)
	if err != nil {
		return err
	}
	if !c.Once {
		return followAll(ctx, log, g, newProgress(a.err))
	}
	return a.tellResults(pullAll(ctx, g, newProgress(a.err)), &c, asJSON)
}

// outputs returns the config's sinks, which open when they are needed: one whose server is down does not stop the others.
func (c *client) outputs(cfg *collectConfig) []collector.Output {
	out := make([]collector.Output, 0, len(cfg.Sinks))
	for i := range cfg.Sinks {
		s := &cfg.Sinks[i]
		lazy := collector.NewLazy(func(ctx context.Context) (collector.Sink, error) {
			sink, err := openSink(ctx, s.sinkConfig)
			if err != nil && len(cfg.Sinks) > 1 {
				err = fmt.Errorf("sink %s: %w", s.Name, err)
			}
			return sink, err
		})
		out = append(out, collector.Output{Name: s.Name, Spare: s.Spare, Dead: collector.NewDeadLetters(cfg.deadLetters(s)),
			Sink: shape.Wrap(lazy, s.rules(), c.know.get)})
	}
	return out
}

// tellResults writes what became of each sink.
func (a *app) tellResults(results []collector.Result, c *collectConfig, asJSON bool) (err error) {
	if len(results) == 1 {
		if err := results[0].Err; err != nil {
			return err
		}
	}
	out := a.out
	if slices.ContainsFunc(c.Sinks, func(s sinkTable) bool { return s.Kind == sinkStdout }) {
		out = a.err // readings go there
	}
	views := []sinkReport{}
	for i, r := range results {
		if r.Err == nil {
			r.Err = errors.Join(judge(r.Report), refused(r.Report, c.deadLetters(&c.Sinks[i])))
		}
		if r.Err != nil && len(results) > 1 {
			r.Err = fmt.Errorf("sink %s: %w", r.Name, r.Err)
		}
		if r.Err != nil && !cli.Tried(r.Err) && outcome().Code(r.Err) == cli.Failure {
			r.Err = cli.Try(r.Err, "streembit collect check --config %s", cli.Quote(c.path))
		}
		err = errors.Join(err, r.Err)
		views = append(views, sinkReport{r.Name, errText(r.Err), viewReport(r.Report)})
		if asJSON {
			continue
		}
		if len(results) > 1 {
			fmt.Fprintf(out, "sink %s\n", r.Name)
		}
		fmt.Fprint(out, r.Report)
	}
	switch {
	case !asJSON:
	case len(views) == 1:
		err = errors.Join(err, cli.PrintJSON(out, views[0].pullReport))
	default:
		err = errors.Join(err, cli.PrintJSON(out, struct {
			Sinks []sinkReport `json:"sinks"`
		}{views}))
	}
	return err
}

// refused is an error when a sink could not hold all readings. It is said once: they count as written from now on.
func refused(r collector.Report, file string) error {
	if r.Refused == 0 {
		return nil
	}
	return cli.Try(fmt.Errorf("%s refused by the sink and kept in %s", plural(r.Refused, "reading"), file), "less %s", cli.Quote(file))
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
	sel, err := c.devices(devices)
	if err != nil {
		return nil, err
	}
	cfg := c.collecting(sel)
	cfg.Sink, cfg.Signer = sink, marks
	col, err := collector.New(cfg)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulls = col
	return col, nil
}

// group returns a collector of the client into several sinks.
func (c *client) group(devices []string, outputs []collector.Output) (*collector.Group, error) {
	sel, err := c.devices(devices)
	if err != nil {
		return nil, err
	}
	cfg := c.collecting(sel)
	cfg.Signer = c.key
	g, err := collector.NewGroup(cfg, outputs)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulls = g
	return g, nil
}

func (c *client) collecting(sel selection) collector.Config {
	return collector.Config{Source: c.node, Fleet: c.know.get, Key: c.reader, Reader: c.node.ID(), Devices: sel.ids, Names: sel.names,
		Log: c.log.With("part", "collector")}
}

// follow writes what arrives until Ctrl-C, which is the usual end. It may take days, so it shows how far it is only where a line can be replaced.
func follow(ctx context.Context, log *slog.Logger, c *collector.Collector, show *progress) error {
	if show != nil && show.tty {
		defer showPull(show, c, "following")()
	}
	return c.Follow(ctx, func(r collector.Report) { logReport(log, r) })
}

// followAll is follow for several sinks.
func followAll(ctx context.Context, log *slog.Logger, g *collector.Group, show *progress) error {
	if show != nil && show.tty {
		defer showPull(show, g, "following")()
	}
	return g.Follow(ctx, func(sink string, r collector.Report) { logReport(log.With("sink", sink), r) })
}

func logReport(log *slog.Logger, r collector.Report) {
	log.Info("pulled", "segments", r.Segments, "readings", r.Readings, "missing", r.Missing, "bad", r.BadCount, "refused", r.Refused)
	if err := judge(r); err != nil {
		log.Warn("not everything is in order", "err", err, "missing", r.Missing, "bad", r.BadCount, "forks", len(r.Forks))
	}
}

// pullAll pulls what exists into all sinks and shows how far it is; show may be nil.
func pullAll(ctx context.Context, g *collector.Group, show *progress) []collector.Result {
	if show != nil {
		defer showPull(show, g, "pulling")()
	}
	return g.Pull(ctx)
}
