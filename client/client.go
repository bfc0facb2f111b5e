// SPDX-License-Identifier: Apache-2.0

// Package client is for programs that would rather call than run streembit collect: it pulls a fleet's readings, proven and decrypted, and hands
// them to a function.
//
// The folder that Dial takes is made by "streembit id --state FOLDER"; an operator grants it with "streembit fleet grant ID --role collector --reader
// FOLDER/reader.pub", and fleet.cbor of the owner's folder is copied into it.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
)

// joinLimit bounds how long Dial looks for the first hub.
const joinLimit = 15 * time.Second

// Options are what a Client may be told. The zero Options are useful.
type Options struct {
	Devices []string // names or ids; empty = all that this client may read
	Memory  string   // file that keeps how far the function has got, so that the next run goes on there; "" = begin at the oldest each time
	Log     *slog.Logger
}

// Reading is one reading in its place.
type Reading struct {
	edge.Reading // without a time, At.Synced() false, if the device did not know it and has not said since
	Device       edge.ID
	DeviceName   string // in the fleet
	Stream       string
	ID           string // names it for ever: who may get a reading twice, after a crash, keeps it by this
}

// Client is a member of a fleet that reads. Pull and Subscribe must not run at the same time.
type Client struct {
	node   *p2p.Node
	dir    string
	reader journal.ReaderKey
	opts   Options
	log    *slog.Logger

	mu    sync.Mutex
	fleet *fleet.Fleet
	pulls *collector.Collector // is told when the fleet changes; nil: nobody is
}

// Dial loads the keys and the fleet of a folder and joins the fleet. Errors wrap transport.ErrUnreachable when no hub answers. Close the Client.
func Dial(ctx context.Context, dir string, o Options) (*Client, error) {
	c := &Client{dir: dir, opts: o, log: o.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	key, err := fleet.LoadKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if c.reader, err = fleet.LoadReaderKey(filepath.Join(dir, "reader.pem")); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if c.fleet, err = fleet.Load(c.bundle(), journal.FleetID{}); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if !c.fleet.Is(key.ID(), fleet.Collector) {
		return nil, fmt.Errorf("client: %s may not collect in fleet %s: %w", key.ID(), c.fleet.State().Name, journal.ErrNotReader)
	}
	if _, err := c.devices(); err != nil {
		return nil, err
	}
	if c.node, err = p2p.New(ctx, p2p.Options{Signer: key, Fleet: c.Fleet, Merge: c.merge, Logger: c.log}); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	if err := c.node.Bootstrap(limited); err != nil {
		return nil, errors.Join(fmt.Errorf("client: joining fleet %s: %w", c.fleet.State().Name, err), c.node.Close())
	}
	if err := c.node.SyncFleet(limited); err != nil {
		c.log.Warn("the hubs do not say what is new in the fleet", "err", err)
	}
	return c, nil
}

func (c *Client) bundle() string { return filepath.Join(c.dir, "fleet.cbor") }

// Fleet returns who belongs to the fleet, as far as is known now. Safe for concurrent use.
func (c *Client) Fleet() *fleet.Fleet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fleet
}

// Close leaves the fleet's network.
func (c *Client) Close() error { return c.node.Close() }

// merge takes in what a hub tells of the fleet, and keeps it in the folder.
func (c *Client) merge(b fleet.Bundle) (*fleet.Fleet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.fleet
	next, err := before.Merge(b)
	if next == nil || next.Digest().Hash() == before.Digest().Hash() {
		return next, err
	}
	c.fleet = next
	if e := next.Save(c.bundle()); e != nil {
		c.log.Warn("what is new in the fleet is not kept", "err", e)
	}
	if c.pulls != nil {
		c.pulls.FleetChanged()
	}
	return next, err
}

// devices returns those that Options name.
func (c *Client) devices() ([]edge.ID, error) {
	var ids []edge.ID
	for _, name := range c.opts.Devices {
		n := len(ids)
		for _, g := range c.Fleet().Find(name) {
			if g.Roles&fleet.Device != 0 {
				ids = append(ids, g.Member)
			}
		}
		if len(ids) != n+1 {
			return nil, fmt.Errorf("client: %q names %d devices of fleet %s, want one", name, len(ids)-n, c.Fleet().State().Name)
		}
	}
	return ids, nil
}

// Pull hands on everything that the hubs hold and the function has not had (Options.Memory), and returns what was proven, missing or bad. A batch is of
// one device and in its order; after an error of the function the same batch comes again in the next Pull.
func (c *Client) Pull(ctx context.Context, take func([]Reading) error) (collector.Report, error) {
	col, err := c.collector(take)
	if err != nil {
		return collector.Report{}, err
	}
	return col.Pull(ctx)
}

// Subscribe is Pull and then goes on with what arrives, until ctx ends. After an error of the function the same batch comes again, with growing pauses.
func (c *Client) Subscribe(ctx context.Context, take func([]Reading) error) error {
	col, err := c.collector(take)
	if err != nil {
		return err
	}
	return col.Follow(ctx, func(collector.Report) {})
}

func (c *Client) collector(take func([]Reading) error) (*collector.Collector, error) {
	ids, err := c.devices()
	if err != nil {
		return nil, err
	}
	sink, err := newSink(c.opts.Memory, take)
	if err != nil {
		return nil, err
	}
	col, err := collector.New(collector.Config{Source: c.node, Sink: sink, Fleet: c.Fleet, Key: c.reader, Reader: c.node.ID(), Devices: ids, Log: c.log})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulls = col
	return col, nil
}
