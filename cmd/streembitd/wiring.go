// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
)

// openStore opens the hub's disk.
func (p *program) openStore(ctx context.Context) error {
	s, err := store.Open(ctx, p.cfg.file("store"), store.Options{
		Fleet: p.members.get, Self: p.key.ID(), Quota: int64(p.cfg.Store.Quota), Rate: int64(p.cfg.Store.Rate), Now: p.believedTime,
		Logger: p.logger.With("part", "store"),
	})
	if err != nil {
		return err
	}
	p.store = s
	p.opened(s)
	return nil
}

// believedTime returns the time by which segments are dated and let go, in ms since 1970: not while nobody vouches for the clock, and never one
// from before what an owner signed.
func (p *program) believedTime() (ms int64, ok bool) {
	now, ok := p.clock.read()
	return now.UnixMilli(), ok && !now.Before(p.members.get().Floor())
}

// openDesk lets a hub take part in the enrolment of others.
func (p *program) openDesk() error {
	q, err := enroll.OpenQueue(p.cfg.file(queueName), p.members.get().ID())
	if err != nil {
		return cli.Try(err, "rm %s: who waits in it claims again", cli.Quote(p.cfg.file(queueName)))
	}
	l := p.logger.With("part", "enrolment")
	p.desk = &desk{self: p.key.ID(), members: p.members, clock: p.clock, queue: q, record: p.record, logger: l,
		policy: &executor{state: p.cfg.State, key: p.key, members: p.members, clock: p.clock, record: p.record, logger: l,
			changed: func() { p.node.FleetChanged() }, wake: make(chan struct{}, 1), secrets: map[string]opened{}}}
	return nil
}

// openNode joins the network.
func (p *program) openNode(ctx context.Context) error {
	secret, err := stableSecret(p.cfg.file(secretName))
	if err != nil {
		return err
	}
	o := p2p.Options{
		Signer: p.key, Secret: secret, Listen: p.cfg.Listen, Announce: p.cfg.Announce,
		Fleet: p.members.get, Merge: p.merge, Version: version, Alarm: p.alarms.network, Logger: p.logger.With("part", "p2p"),
	}
	// A run, not the kernel's boot: two copies of a card that run in containers of one machine are clones too. A restart is none, since the
	// connections of the run before are dead.
	rand.Read(o.Boot[:])
	o.Metered = p.cfg.Uplink.Metered && p.store == nil
	o.News, o.Records = p.tellUpdater, p.shelf
	if p.depot != nil {
		o.Programs = p.depot
	}
	if p.store != nil {
		o.Store, o.Mirror, o.Books = p.store, p.store, p.store
		if len(o.Listen) == 0 { // the config left the role to the fleet
			o.Listen = defaultListen()
		}
	}
	if p.directs() {
		o.Direct, o.Reachable, o.MDNS = &p.sessions, true, p.cfg.MDNS
		if o.Listen == nil && p.store == nil {
			o.Listen = directListen()
		}
	}
	if p.desk != nil {
		o.Enrol, o.Desk = p.desk, p.desk
	}
	n, err := p2p.New(ctx, o)
	if err != nil {
		return cli.Try(err, "another port in listen, or stop what uses it")
	}
	p.node = n
	p.opened(n)
	return nil
}

// openAgent opens board, outbox and publisher and puts the device together.
func (p *program) openAgent(ctx context.Context) error {
	boot, uptime, asOf, err := agent.Boot("/")
	if err != nil {
		return err
	}
	clock := agent.NewClock(uptime, asOf, p.clock.synced, p.members.get().Floor())
	board, err := openBoard(ctx, p.cfg.Board)
	if err != nil {
		return err
	}
	p.board = board
	p.opened(board)
	for _, problem := range board.Problems() {
		p.logger.Warn("part of the board cannot be used", "err", problem)
	}
	probes, err := probes(board, &p.cfg)
	if err != nil {
		return err
	}
	p.openEvents(clock)
	box, unsealed, err := p.openOutbox(ctx)
	if err != nil {
		return err
	}
	if err := p.openRules(); err != nil {
		return err
	}
	publisher := transport.NewPublisher(p.node, p.members.get)
	p.opened(closerFunc(publisher.Close))
	hubs := agent.NewHubs(p.logger.With("part", "agent"))
	publisher.Observe(func(hub edge.ID, err error) {
		hubs.Answered(hub, err)
		p.vitals.answered(err)
	})
	c := agent.Config{
		Boot: boot, Clock: clock, Probes: probes,
		Streams: p.streams(), Readers: func(s string) ([]journal.Reader, error) { return p.members.get().Readers(p.key.ID(), s) },
		Outbox: box, Unsealed: unsealed, Publisher: gate{publisher, p.members, p.doubtful}, Rivals: p.node, Heads: p.node, Hubs: hubs, Tap: p.tap(), Notice: p.noticed, Logger: p.logger.With("part", "agent"),
	}
	if p.cfg.Uplink.Metered {
		c.Publisher = gate{transport.NewMetered(publisher, p.node, time.Duration(p.cfg.Uplink.Gather), p.logger.With("part", "uplink")), p.members, p.doubtful}
		c.Heads = nil // the hubs put them
	}
	if p.cfg.Outbox.Receipts != "" {
		if c.Receipts, err = agent.OpenReceipts(p.cfg.Outbox.Receipts); err != nil {
			return err
		}
		p.opened(c.Receipts)
	}
	if p.agent, err = agent.New(c); err == nil && p.settings != nil {
		p.noCommands(p.openDirect(clock, boot))
	}
	return err
}

func (p *program) openOutbox(ctx context.Context) (*outbox.Outbox, []outbox.Spooled, error) {
	box, found, err := outbox.Open(ctx, outbox.Options{
		Dir: p.cfg.file("outbox"), Fleet: p.members.get().ID(), Signer: p.key, Former: p.formerKeys(), Quota: int64(p.cfg.Outbox.Quota),
		Durability: outbox.Durability(p.cfg.Outbox.Durability), Logger: p.logger.With("part", "outbox"),
	})
	if err != nil {
		return nil, nil, err
	}
	p.opened(box)
	p.box = box
	level := slog.LevelInfo
	if found.Dropped > 0 || found.Skipped > 0 || len(found.Gaps) > 0 {
		level = slog.LevelWarn
	}
	unsealed := 0
	for _, batch := range found.Spooled {
		unsealed += len(batch.Readings)
	}
	p.logger.Log(ctx, level, "outbox opened", "clean", found.Clean, "pending", found.Pending, "dropped_bytes", found.Dropped,
		"reason", found.Reason, "skipped_frames", found.Skipped, "gaps", len(found.Gaps), "unsealed_readings", unsealed)
	return box, found.Spooled, nil
}

// gate publishes only while this member is one: what is sealed meanwhile waits in the outbox.
type gate struct {
	agent.Publisher
	members *membership
	failed  func() // must not wait
}

// Publish implements agent.Publisher. The error wraps errNotMember.
func (g gate) Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (transport.Receipt, error) {
	if s := g.members.standing(); s != standingMember {
		return transport.Receipt{}, fmt.Errorf("%w: it is %s; the outbox is kept", errNotMember, s)
	}
	r, err := g.Publisher.Publish(ctx, seg, acked)
	if err != nil && ctx.Err() == nil {
		g.failed()
	}
	return r, err
}

// errNotMember: the fleet has put this member out, or its grant has ended.
var errNotMember = errors.New("this device is no member of its fleet now")

func (p *program) streams() []agent.Stream {
	var out []agent.Stream
	for _, s := range p.cfg.Streams {
		out = append(out, agent.Stream{Name: s.Name, Age: time.Duration(s.BatchAge), Readings: s.BatchReadings})
	}
	return out
}

// closerFunc lets a Close without error stand among the others.
type closerFunc func()

func (f closerFunc) Close() error { f(); return nil }
