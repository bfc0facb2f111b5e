// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/agent/rules"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/store"
	"golang.org/x/sync/errgroup"
)

func newRunCommand() *cobra.Command {
	var path string
	var hubs []string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the roles that the config names, in the foreground; without a fleet, wait to be taken into one",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			file, cfg, err := openConfig(path)
			if err != nil {
				return err
			}
			return runner{file, cfg, hubs, cli.Logger(os.Stderr, cfg.level)}.run(c.Context())
		},
	}
	c.Flags().StringVar(&path, "config", defaultConfig, "config file")
	c.Flags().StringSliceVar(&hubs, "hub", nil, "`multiaddr` with /p2p/ID of a hub at which to look for an approval, while there is no fleet (may be repeated)")
	return c
}

// program is what is open while streembitd runs, in the order of the data flow.
type program struct {
	cfg    config
	file   *command.ConfigFile
	hubs   []string // of the command line, for the enrolment
	logger *slog.Logger
	clock  *wallClock
	record *record
	alarms *alarms
	key    journal.SoftKey
	origin fleet.KeyOrigin
	succession
	members *membership
	roles   []string     // that run
	agent   *agent.Agent // nil unless device
	directing
	rules  *rules.Engine // nil without rules
	board  *hal.Board    // nil unless device
	store  *store.Store  // nil unless hub
	desk   *desk         // nil unless hub
	node   *p2p.Node
	repair *repair.Repairer // nil unless hub
	said   hubWords
	vitals *vitals
	updating
	doubt   chan struct{} // see doubtful
	closers []io.Closer
}

// serve waits for a fleet if there is none, opens everything, runs until ctx ends or a part fails, and closes in reverse order.
func serve(ctx context.Context, cfg config, hubs []string, file *command.ConfigFile, logger *slog.Logger) (err error) {
	p := &program{cfg: cfg, file: file, hubs: hubs, doubt: make(chan struct{}, 1), directing: directing{again: make(chan struct{}, 1)}, clock: &wallClock{now: time.Now, synced: agent.KernelSynced}}
	logger = p.recent.with(logger, cfg.level)
	p.logger = logger
	if cfg.Clock == "always" {
		p.clock.synced = func() bool { return true }
	}
	p.vitals = newVitals(p)
	defer p.vitals.start(ctx)()
	defer func() { err = errors.Join(err, p.close()) }()
	f, err := p.join(ctx)
	if err != nil || f == nil {
		return err
	}
	if err := p.open(ctx, f); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	wait, err := serveStatus(ctx, cfg.State, func() any { return p.status() })
	if err != nil {
		return err
	}
	group.Go(wait)
	wait, err = serveSocket(ctx, cfg.file(updateSocket), p.answerUpdate)
	if err != nil {
		return err
	}
	group.Go(wait)
	if u := p.updater.Load(); u != nil {
		group.Go(func() error { return u.Run(ctx) })
	}
	if p.agent != nil {
		group.Go(func() error { return p.agent.Run(ctx) })
	}
	if p.device != nil {
		group.Go(func() error { p.device.Run(ctx, p.describeAt()); return nil })
		group.Go(func() error { return p.awaitRestart(ctx) })
	}
	if p.store != nil {
		group.Go(func() error { return p.store.Run(ctx) })
	}
	if p.repair != nil {
		group.Go(func() error { return p.repair.Run(ctx) })
	}
	group.Go(func() error { return p.tellParts(ctx) })
	group.Go(func() error { return p.tryConfig(ctx) })
	if p.desk != nil {
		group.Go(func() error { return p.desk.policy.run(ctx, p.desk) })
		p.desk.policy.poke()
	}
	group.Go(func() error { return p.reload(ctx) })
	group.Go(func() error { return p.members.watchClock(ctx, p.node.FleetChanged) })
	group.Go(func() error { return p.keepContact(ctx) })
	p.vitals.enter(atWork)
	logger.Info("ready", "id", p.key.ID(), "roles", p.roles, "fleet", f.ID(), "addrs", p.node.Addrs())
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
		if err := p.members.reload(); err != nil {
			p.logger.Error("fleet.cbor not taken, the known one stays", "err", err)
			continue
		}
		p.node.FleetChanged()
		f := p.members.get()
		p.logger.Info("fleet.cbor taken", "version", f.State().Version, "members", len(f.Members()))
	}
}

// join opens key and audit log and returns the fleet: the one that is there, or the one that takes this device in. It returns nil when ctx ends
// before that.
func (p *program) join(ctx context.Context) (*fleet.Fleet, error) {
	if err := os.MkdirAll(p.cfg.State, 0o700); err != nil {
		return nil, cli.Try(fmt.Errorf("making state folder: %w", err), "state = a folder that this user may write to")
	}
	var err error
	if p.record, err = openRecord(p.cfg.State, p.clock.synced, p.logger); err != nil {
		return nil, err
	}
	p.opened(p.record)
	p.alarms = &alarms{record: p.record, logger: p.logger}
	f, err := loadFleet(p.cfg.State)
	newcomer := errors.Is(err, fs.ErrNotExist) && !cli.Tried(err)
	switch {
	case errors.Is(err, fleet.ErrWrongFleet):
		p.record.refused(evBadOwner, "", p.cfg.file(bundleName), err)
		return nil, err
	case err != nil && !newcomer:
		return nil, err
	}
	if newcomer {
		p.key, p.origin, err = openOrMakeKey(p.cfg.State, p.cfg.TPM)
	} else {
		p.key, p.origin, err = openKey(p.cfg.State, p.cfg.TPM)
	}
	if err != nil {
		return nil, keyError(err, p.cfg.State)
	}
	if newcomer {
		return p.enrol(ctx)
	}
	return f, p.openFormer(f)
}

// open brings up the member, in the order of the data flow.
func (p *program) open(ctx context.Context, f *fleet.Fleet) (err error) {
	p.eraseSecrets(f)
	p.members, err = newMembership(f, &membership{state: p.cfg.State, self: p.key.ID(), clock: p.clock, record: p.record, alarms: p.alarms, logger: p.logger,
		taken: p.lookForNextKey})
	if err != nil {
		return err
	}
	p.members.noteIgnored(f)
	if p.roles, err = rolesOf(f, p.key.ID(), p.cfg.Roles); err != nil { // of one whose grant has ended: those that it had
		return err
	}
	if p.has(hubRole) {
		if err := p.openStore(ctx); err != nil {
			return err
		}
		if err := p.openDesk(); err != nil {
			return err
		}
	}
	if p.directs() {
		p.noCommands(p.openSettings())
	}
	p.noUpdates(p.openPrograms())
	if err := p.openNode(ctx); err != nil {
		return err
	}
	p.noUpdates(p.openUpdater())
	if p.store != nil {
		if err := p.openRepair(); err != nil {
			return err
		}
	}
	if p.has(deviceRole) {
		return p.openAgent(ctx)
	}
	return nil
}

// The roles that streembitd runs.
const (
	deviceRole = "device"
	hubRole    = "hub"
)

func (p *program) has(role string) bool { return slices.Contains(p.roles, role) }

// errNotGranted: the fleet's log gives this member no such role.
var errNotGranted = errors.New("the fleet refuses this member")

// rolesOf returns what a member runs: what its config wants, or all that it has been granted. A role that the fleet has not granted is refused: its
// segments would be refused anyway. Who was put out starts all the same, publishes nothing and says so: an operator may take it back.
func rolesOf(f *fleet.Fleet, self edge.ID, wanted []string) ([]string, error) {
	g, is := f.Member(self)
	if old, _, former := f.Former(self); !is && former {
		g = old
	}
	var granted []string
	for _, name := range []string{deviceRole, hubRole} {
		if role, err := fleet.ParseRoles(name); err == nil && g.Roles&role != 0 {
			granted = append(granted, name)
		}
	}
	if len(wanted) == 0 {
		wanted = granted
	}
	missing := "device"
	for _, name := range wanted {
		if missing = name; !slices.Contains(granted, name) {
			granted = nil
			break
		}
	}
	if len(granted) == 0 {
		return nil, cli.Try(fmt.Errorf("%w: it may not be a %s in fleet %s", errNotGranted, missing, f.State().Name),
			"streembit fleet add %s --role %s --name NAME, then copy fleet.cbor again", self, missing)
	}
	return wanted, nil
}

func (p *program) close() error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (p *program) opened(c io.Closer) { p.closers = append(p.closers, c) }
