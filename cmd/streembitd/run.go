// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
	"golang.org/x/sync/errgroup"
)

func newRunCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the roles that the config names, in the foreground",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			return serve(c.Context(), cfg, cli.Logger(os.Stderr, cfg.level))
		},
	}
	c.Flags().StringVar(&path, "config", defaultConfig, "config file")
	return c
}

// program is what is open while streembitd runs, in the order of the data flow.
type program struct {
	cfg     config
	logger  *slog.Logger
	key     journal.SoftKey
	fleet   atomic.Pointer[fleet.Fleet]
	agent   *agent.Agent // nil unless device
	board   *hal.Board   // nil unless device
	store   *store.Store // nil unless hub
	node    *p2p.Node
	closers []io.Closer
}

// serve opens everything, runs until ctx ends or a part fails, and closes in reverse order.
func serve(ctx context.Context, cfg config, logger *slog.Logger) (err error) {
	p := &program{cfg: cfg, logger: logger}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.open(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	wait, err := serveStatus(ctx, cfg.State, func() any { return p.status() })
	if err != nil {
		return err
	}
	group.Go(wait)
	if p.agent != nil {
		group.Go(func() error { return p.agent.Run(ctx) })
	}
	group.Go(func() error { return p.reload(ctx) })
	logger.Info("ready", "id", p.key.ID(), "roles", cfg.Roles, "fleet", p.fleet.Load().ID(), "addrs", p.node.Addrs())
	err = group.Wait()
	logger.Info("stopping", "err", err)
	return err
}

// reload takes a newer fleet.cbor on SIGHUP, until ctx ends. One that cannot be proven or is older changes nothing.
func (p *program) reload(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
		case <-ctx.Done():
			return nil
		}
		known := p.fleet.Load()
		f, err := fleet.Load(p.cfg.file("fleet.cbor"), known.ID())
		if err == nil {
			err = f.Newer(known)
		}
		if err != nil {
			p.logger.Error("fleet.cbor not taken, the known one stays", "err", err)
			continue
		}
		p.fleet.Store(f)
		p.node.FleetChanged()
		p.logger.Info("fleet.cbor taken", "version", f.State().Version, "members", len(f.Members()))
	}
}

func (p *program) open(ctx context.Context) error {
	if err := os.MkdirAll(p.cfg.State, 0o700); err != nil {
		return cli.Try(fmt.Errorf("making state folder: %w", err), "state = a folder that this user may write to")
	}
	key, err := fleet.LoadKey(p.cfg.file("key.pem"))
	if err != nil {
		return keyError(err, p.cfg.State)
	}
	p.key = key
	f, err := fleet.Load(p.cfg.file("fleet.cbor"), journal.FleetID{})
	if err != nil {
		return cli.Try(err, "copy fleet.cbor from the owner to %s", p.cfg.file("fleet.cbor"))
	}
	p.fleet.Store(f)
	if err := p.checkRoles(f); err != nil {
		return err
	}
	if p.cfg.has("hub") {
		if err := p.openStore(ctx); err != nil {
			return err
		}
	}
	if err := p.openNode(ctx); err != nil {
		return err
	}
	if p.cfg.has("device") {
		return p.openAgent(ctx)
	}
	return nil
}

// errNotGranted: the fleet's log gives this member no such role.
var errNotGranted = errors.New("the fleet refuses this member")

// checkRoles refuses to run a role that the fleet has not granted: its segments would be refused anyway.
func (p *program) checkRoles(f *fleet.Fleet) error {
	for _, name := range p.cfg.Roles {
		role, err := fleet.ParseRoles(name)
		if err != nil {
			return cli.Usage(err)
		}
		if !f.Is(p.key.ID(), role) {
			return cli.Try(fmt.Errorf("%w: it may not be a %s in fleet %s", errNotGranted, name, f.State().Name),
				"streembit fleet add %s --role %s --name NAME, then copy fleet.cbor again", p.key.ID(), name)
		}
	}
	return nil
}

func (p *program) close() error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (p *program) opened(c io.Closer) { p.closers = append(p.closers, c) }
