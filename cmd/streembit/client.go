// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// client is a collector on the network.
type client struct {
	dir    stateDir
	key    journal.SoftKey
	know   *knowledge
	reader journal.ReaderKey
	node   *p2p.Node
	log    *slog.Logger

	mu    sync.Mutex                  // held while the bundle is written
	lost  bool                        // it cannot be
	pulls interface{ FleetChanged() } // is told when the fleet changes; nil: nobody is
}

// joinWait bounds how long a client looks for the first hub.
const joinWait = 15 * time.Second

// dial loads a collector's keys and bundle, joins its fleet, and hears from the hubs who belongs to it now, if they say. Close the client.
func dial(ctx context.Context, log *slog.Logger, dir stateDir) (*client, error) {
	c, err := loadClient(log, dir)
	if err != nil {
		return nil, err
	}
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	if err := c.hear(ctx); err != nil {
		log.Warn("the hubs do not say what is new in the fleet", "err", err)
	}
	return c, nil
}

// dialAnew is dial for what must not be done with an old fleet.
func dialAnew(ctx context.Context, log *slog.Logger, dir stateDir) (*client, error) {
	c, err := loadClient(log, dir)
	if err != nil {
		return nil, err
	}
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	if err := c.hear(ctx); err != nil {
		return nil, errors.Join(err, c.node.Close())
	}
	return c, nil
}

func loadClient(log *slog.Logger, dir stateDir) (c *client, err error) {
	c = &client{dir: dir, log: log}
	if c.key, err = fleet.LoadKey(dir.key()); err != nil {
		return nil, needID(err, dir)
	}
	if c.reader, err = fleet.LoadReaderKey(dir.reader()); err != nil {
		return nil, needID(err, dir)
	}
	f, err := fleet.Load(dir.bundle(), journal.FleetID{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Try(err, "cp FOLDER-OF-THE-OWNER/%s %s", bundleName, cli.Quote(dir.bundle()))
	}
	if err != nil {
		return nil, err
	}
	if !f.Is(c.key.ID(), fleet.Collector) {
		return nil, cli.Try(fmt.Errorf("%s may not collect in fleet %s: %w", c.key.ID(), f.State().Name, journal.ErrNotReader),
			"streembit fleet grant %s --role collector --name server --reader %s", c.key.ID(), cli.Quote(dir.readerPub()))
	}
	if len(f.Hubs()) == 0 {
		return nil, cli.Try(transport.ErrNoHubs, "streembit fleet grant ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321")
	}
	c.know = &knowledge{fleet: f}
	return c, nil
}

// join starts the node and finds a hub.
func (c *client) join(ctx context.Context) (err error) {
	c.node, err = p2p.New(ctx, p2p.Options{Signer: c.key, Fleet: c.know.get, Merge: c.merge, Logger: c.log.With("part", "p2p")})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	if err := c.node.Bootstrap(ctx); err != nil {
		return errors.Join(c.shorten(err), c.node.Close())
	}
	return nil
}

// merge takes in what a hub tells of the fleet, keeps it in the folder, and lets the collector know.
func (c *client) merge(b fleet.Bundle) (*fleet.Fleet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.know.get()
	next, err := c.know.merge(b)
	for _, fork := range c.know.takeForks() {
		c.log.Error("ALARM: a log of the fleet has two histories", "err", fork)
	}
	if next == nil || next.Digest().Hash() == before.Digest().Hash() {
		return next, err
	}
	if e := next.Save(c.dir.bundle()); e != nil && !c.lost {
		c.lost = true // a folder that is somebody else's: the hubs tell it anew each time
		c.log.Warn("what is new in the fleet is not kept", "err", e)
	}
	if c.pulls != nil {
		c.pulls.FleetChanged()
	}
	return next, err
}

// hear learns from the hubs what is new in the fleet.
func (c *client) hear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hubWait)
	defer cancel()
	return c.shorten(c.node.SyncFleet(ctx))
}

// shorten makes one line of the many reasons why each address of each hub did not answer; the log has them all.
func (c *client) shorten(err error) error {
	if !errors.Is(err, transport.ErrUnreachable) {
		return err
	}
	c.log.Info("no hub answers", "err", err)
	var tried []string
	for _, g := range c.know.get().Hubs() {
		tried = append(tried, strings.Join(append([]string{g.Name}, g.Addrs...), " "))
	}
	return fmt.Errorf("no hub of fleet %s answers, tried %s: %w", c.know.get().State().Name, strings.Join(tried, ", "), transport.ErrUnreachable)
}

func needID(err error, dir stateDir) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Try(err, "streembit id --state %s", cli.Quote(string(dir)))
	}
	return err
}

// selection is which devices are to be pulled; none at all means every one.
type selection struct {
	ids   []edge.ID
	names []string // whatever key the device of that name has, has had, and will have
}

// devices returns the devices that selectors mean; none given, or "all", means no limit.
func (c *client) devices(selectors []string) (sel selection, err error) {
	f := c.know.get()
	for _, s := range selectors {
		if s == "all" {
			return selection{}, nil
		}
		found, named := f.FormerDevices(s), false
		for _, g := range f.Find(s) {
			if g.Roles&fleet.Device != 0 {
				found = append(found, g)
			}
		}
		var ids []string
		for _, g := range found {
			named = named || g.Name == s
			ids = append(ids, g.Member.String())
		}
		switch {
		case len(found) == 0:
			return sel, cli.Try(cli.Usagef("no device of the fleet is called %q", s), "streembit fleet show")
		case named:
			sel.names = append(sel.names, s)
		case len(found) == 1:
			sel.ids = append(sel.ids, found[0].Member)
		default:
			return sel, cli.Try(cli.Usagef("%q means %s: name one by its id", s, strings.Join(ids, " and ")), "streembit fleet show")
		}
	}
	return sel, nil
}
