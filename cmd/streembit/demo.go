// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
)

// demoOptions are the flags of streembit demo.
type demoOptions struct {
	hubs, kill int
	publish    time.Duration
	keep       bool
	dir        string
	sink, dsn  string
}

func newDemo(a *app) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it all on this machine: devices and hubs die, and no reading is lost",
		Long: `Runs a whole fleet as real processes on loopback, in a temporary folder, without root and without hardware: hubs, and
one device with a simulated board and real readings of this machine. No collector runs. Then the device and a hub are killed
with SIGKILL and the device's folder is deleted. Only now a collector starts, pulls from the hubs that are left, proves what
it got and writes it to a database.

The last line counts: published = what the device had noted, outside its folder, as acknowledged by a majority of the hubs;
pulled = exactly those, counted by SQL; verified = those that the collector's proof of signatures and hash links covers.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return cli.Try(cli.Usage(err), "streembit demo --help")
			}
			return runDemo(cmd.Context(), a, o)
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&o.publish, "for", 20*time.Second, "how long the device publishes before it is killed")
	fl.IntVar(&o.hubs, "hubs", 3, "`number` of hubs")
	fl.IntVar(&o.kill, "kill-hubs", -1, "`number` of hubs to kill; default 1 where a majority can lose it")
	fl.BoolVar(&o.keep, "keep", false, "keep keys, logs and hubs' stores too, not only the database")
	fl.StringVar(&o.dir, "dir", "", "empty or new `folder` for it all; default a temporary one")
	fl.StringVar(&o.sink, "sink", sinkSQLite, "database: sqlite or postgres")
	fl.StringVar(&o.dsn, "dsn", "", "`connection` of --sink postgres, for example postgres://user@localhost/db")
	return cmd
}

func (o *demoOptions) check() error {
	bearable := o.hubs / 2 // a majority holds what is published, so one less than that may die
	if o.hubs == 2 {
		bearable = 0 // with two hubs, one counts as published
	}
	if o.kill < 0 {
		o.kill = min(1, bearable)
	}
	switch {
	case o.hubs < 1 || o.hubs > 20:
		return fmt.Errorf("--hubs %d: want 1 to 20", o.hubs)
	case o.kill > bearable:
		return fmt.Errorf("--kill-hubs %d: of %s at most %d may die, published means a majority", o.kill, plural(o.hubs, "hub"), bearable)
	case o.publish < 2*time.Second || o.publish > time.Hour:
		return fmt.Errorf("--for %s: want 2s to 1h", o.publish)
	case o.sink != sinkSQLite && o.sink != sinkPostgres:
		return fmt.Errorf("--sink %q: want sqlite or postgres", o.sink)
	case (o.sink == sinkPostgres) != (o.dsn != ""):
		return errors.New("--dsn goes with --sink postgres, and the other way round")
	}
	return nil
}

// slack is what everything but publishing may take together.
const slack = 38 * time.Second

// demo is a running demonstration.
type demo struct {
	demoOptions
	app       *app
	show      *progress
	daemon    string // streembitd
	self      string // this program
	procs     children
	hubs      []*member
	device    *member
	collector stateDir
	schema    string // in PostgreSQL, its own for every run
	notes     receipts
	report    pullReport
}

// member is one streembitd of the demo.
type member struct {
	name, role string
	state      string // folder
	config     string // file
	addr       string // multiaddr, of a hub
	run        *child
}

func runDemo(ctx context.Context, a *app, o demoOptions) (err error) {
	d := &demo{demoOptions: o, app: a, show: newProgress(a.err)}
	if d.daemon, err = sibling("streembitd"); err != nil {
		return err
	}
	if d.self, err = os.Executable(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := d.makeDir(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.publish+slack, errors.New("the demo takes too long"))
	defer cancel()
	defer func() { err = errors.Join(err, d.end(err)) }()
	for _, step := range []func(context.Context) error{d.prepare, d.startHubs, d.publishFor, d.disaster, d.collect, d.verdict} {
		if err := step(ctx); err != nil {
			return d.explain(fmt.Errorf("demo: %w", err))
		}
	}
	return nil
}

// explain points to the logs where an error does not say what to try itself.
func (d *demo) explain(err error) error {
	if cli.Tried(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return cli.Try(err, "tail %s/*.log", cli.Quote(filepath.Join(d.dir, "logs")))
}

func (d *demo) makeDir() (err error) {
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "streembit-demo-*"); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		return nil
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if len(entries) > 0 {
		return cli.Try(cli.Usagef("--dir %s is not empty", d.dir), "streembit demo --dir %s", cli.Quote(filepath.Join(d.dir, "new")))
	}
	return nil
}

// end leaves no process behind, and of the folder only what the outcome is worth keeping for: all of it after a failure or
// with --keep, nothing after Ctrl-C, else the database.
func (d *demo) end(cause error) error {
	d.show.clear()
	d.procs.close()
	switch {
	case d.keep:
		return nil
	case errors.Is(cause, context.Canceled):
		return os.RemoveAll(d.dir)
	case cause != nil: // the logs are wanted
		return nil
	}
	return d.tidy()
}

// tidy removes everything but the database. SQLite's log beside it is part of it unless it is empty.
func (d *demo) tidy() error {
	keep := map[string]bool{databaseName: true}
	if info, err := os.Stat(d.database() + "-wal"); err == nil && info.Size() > 0 {
		keep[databaseName+"-wal"], keep[databaseName+"-shm"] = true, true
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("demo: tidying up: %w", err)
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, e.Name())))
		}
	}
	if d.sink != sinkSQLite {
		err = errors.Join(err, os.Remove(d.dir))
	}
	return err
}

// databaseName is the SQLite file of the demo, in its folder.
const databaseName = "readings.db"

func (d *demo) database() string { return filepath.Join(d.dir, databaseName) }
