// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
)

// openStore opens the hub's disk.
func (p *program) openStore(ctx context.Context) error {
	s, err := store.Open(ctx, p.cfg.file("store"), store.Options{
		Fleet: p.fleet.Load, Self: p.key.ID(), Quota: int64(p.cfg.Store.Quota), Logger: p.logger.With("part", "store"),
	})
	if err != nil {
		return err
	}
	p.store = s
	p.opened(s)
	return nil
}

// openNode joins the network.
func (p *program) openNode(ctx context.Context) error {
	secret, err := stableSecret(p.cfg.file("secret"))
	if err != nil {
		return err
	}
	o := p2p.Options{
		Signer: p.key, Secret: secret, Listen: p.cfg.Listen, Announce: p.cfg.Announce,
		Fleet: p.fleet.Load, Logger: p.logger.With("part", "p2p"),
	}
	if p.store != nil {
		o.Store = p.store
	}
	n, err := p2p.New(ctx, o)
	if err != nil {
		return cli.Try(err, "another port in listen, or stop what uses it")
	}
	p.node = n
	p.opened(n)
	return nil
}

// stableSecret is what a transport may derive its own keys from, so that the identity key never leaves its signer.
func stableSecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) == 32 {
		return secret, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading secret: %w", err)
	}
	secret = make([]byte, 32)
	rand.Read(secret)
	return secret, fleet.WriteFile(path, secret, 0o600)
}

// openAgent opens board, outbox and publisher and puts the device together.
func (p *program) openAgent(ctx context.Context) error {
	boot, uptime, err := agent.Boot("/")
	if err != nil {
		return err
	}
	clock := agent.NewClock(uptime, p.clockSynced(), time.UnixMilli(p.fleet.Load().State().Time))
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
	box, unsealed, err := p.openOutbox(ctx)
	if err != nil {
		return err
	}
	publisher := transport.NewPublisher(p.node, p.fleet.Load)
	p.opened(closerFunc(publisher.Close))
	hubs := agent.NewHubs(p.logger.With("part", "agent"))
	publisher.Observe(hubs.Answered)
	c := agent.Config{
		Boot: boot, Clock: clock, Probes: probes,
		Streams: p.streams(), Readers: func(s string) ([]journal.Reader, error) { return p.fleet.Load().Readers(p.key.ID(), s) },
		Outbox: box, Unsealed: unsealed, Publisher: publisher, Heads: p.node, Hubs: hubs, Logger: p.logger.With("part", "agent"),
	}
	if p.cfg.Outbox.Receipts != "" {
		if c.Receipts, err = agent.OpenReceipts(p.cfg.Outbox.Receipts); err != nil {
			return err
		}
		p.opened(c.Receipts)
	}
	p.agent, err = agent.New(c)
	return err
}

func (p *program) openOutbox(ctx context.Context) (*outbox.Outbox, []outbox.Spooled, error) {
	box, found, err := outbox.Open(ctx, outbox.Options{
		Dir: p.cfg.file("outbox"), Fleet: p.fleet.Load().ID(), Signer: p.key, Quota: int64(p.cfg.Outbox.Quota),
		Durability: outbox.Durability(p.cfg.Outbox.Durability), Logger: p.logger.With("part", "outbox"),
	})
	if err != nil {
		return nil, nil, err
	}
	p.opened(box)
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

func (p *program) clockSynced() func() bool {
	if p.cfg.Clock == "always" {
		return func() bool { return true }
	}
	return agent.KernelSynced
}

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
