// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/streembit/edge/boards"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/slots"
	"github.com/streembit/edge/ota/swarm"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/transport/p2p"
)

// updateConfig is about updates of this program.
type updateConfig struct {
	Off     bool     `toml:"off"`     // nothing is fetched and installed; a hub keeps the records all the same
	Channel string   `toml:"channel"` // of the releases that this machine takes
	Quiet   []string `toml:"quiet"`   // hours in which nothing is fetched or installed: "08:00-18:30", local time
	Rate    size     `toml:"rate"`    // bytes a second that are fetched, and that are given to others; none = no limit
	Quota   size     `toml:"quota"`   // bytes of programs that are kept
	Every   duration `toml:"every"`   // between two looks for what is new, if nobody tells of it
}

// updateFolder is the folder of the state folder in which all of this lies; package slots has its inbox there too.
const updateFolder = "update"

// alarmUpdate: this program cannot be updated, because of what lies on its disk.
const alarmUpdate = "no-updates"

// updating is the part of a member that keeps its program up to date; zero where that is off.
type updating struct {
	programs *chunks.Store
	shelf    *records.Shelf
	depot    *device.Depot
	updater  atomic.Pointer[device.Updater]
}

func (c *config) checkUpdate() error {
	u := &c.Update
	if !journal.ValidStream(u.Channel) {
		return fmt.Errorf("update.channel = %q: want 1 to 32 of a-z 0-9 . _ -", u.Channel)
	}
	if u.Every < duration(time.Second) || u.Every > duration(24*time.Hour) {
		return fmt.Errorf("update.every = %q: want 1s to 24h", time.Duration(u.Every))
	}
	if u.Rate != 0 && u.Rate < 4<<10 {
		return errors.New("update.rate: want 4KiB or more, or leave it out for no limit")
	}
	for _, q := range u.Quiet {
		if _, err := device.ParseQuiet(q); err != nil {
			return fmt.Errorf("update.quiet: %w", err)
		}
	}
	return nil
}

// openPrograms opens what other members may ask for. It comes before the node. That it fails is no reason not to measure.
func (p *program) openPrograms() error {
	dir := p.cfg.file(updateFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making folder of updates: %w", err)
	}
	if p.store != nil {
		shelf, err := records.OpenShelf(dir+"/records", p.members.get)
		if err != nil {
			return err
		}
		p.shelf = shelf
	}
	if p.cfg.Update.Off {
		return nil
	}
	store, err := chunks.Open(dir+"/chunks", int64(p.cfg.Update.Quota))
	if err != nil {
		return err
	}
	p.programs = store
	p.opened(store)
	p.depot = device.NewDepot(store, p.key.ID(), int64(p.cfg.Update.Rate), p.logger.With("part", "update"))
	return nil
}

// openUpdater puts the loop together. It comes after the node.
func (p *program) openUpdater() error {
	if p.depot == nil {
		return nil
	}
	o := device.Options{
		Dir: p.cfg.file(updateFolder), Signer: p.key, Fleet: p.members.get, Machine: thisMachine(), Running: running(), Channel: p.cfg.Update.Channel,
		Every: time.Duration(p.cfg.Update.Every), Clock: p.clock.read, Trust: p.openTrust, Net: updateNet{p.node}, Depot: p.depot, Mirror: p.store != nil,
		Free: func() int64 { return freeBytes(p.cfg.State) }, Announce: true, Logger: p.logger.With("part", "update"),
		Raise: func(kind, text string) { p.alarms.raise(kind, "", text) }, Clear: p.alarms.clear,
		Note: func(event, what, detail string) { p.record.decided(event, "", what, detail) },
	}
	for _, q := range p.cfg.Update.Quiet {
		quiet, err := device.ParseQuiet(q)
		if err != nil {
			return err
		}
		o.Quiet = append(o.Quiet, quiet)
	}
	if root := releases(); root != "" {
		o.Slots = installer{p, root}
	}
	u, err := device.New(o)
	if err != nil {
		return err
	}
	p.updater.Store(u)
	return nil
}

// noUpdates notes that this program cannot be updated. It is no reason not to work.
func (p *program) noUpdates(err error) {
	if err == nil {
		return
	}
	dir := p.cfg.file(updateFolder)
	p.alarms.raise(alarmUpdate, dir, fmt.Sprintf("this program cannot be updated: %v: mv %s %s.damaged, and start it anew", err, dir, dir))
}

// tellUpdater has the updater look for what is new.
func (p *program) tellUpdater(key string) {
	if u := p.updater.Load(); u != nil && !strings.HasPrefix(key, records.Key(records.Progress, "")) {
		u.Poke()
	}
}

func (p *program) openTrust(root []byte) (device.Metadata, error) {
	s, err := trust.Open(p.cfg.file(updateFolder+"/trust"), root, p.clock.read)
	if err != nil {
		return nil, err
	}
	s.NotBefore(p.members.get().Floor())
	if err := s.Damaged(); err != nil {
		p.alarms.raise(alarmUpdate, "trust", err.Error())
	}
	return s, nil
}

func thisMachine() ota.Machine {
	board, _ := boards.Detect(os.DirFS("/"))
	return ota.Machine{Arch: runtime.GOARCH, Board: board.ID}
}

// running is the version of this program, "" for one that was built by hand.
func running() ota.Version {
	v, err := ota.ParseVersion(version)
	if err != nil {
		return ""
	}
	return v
}

// freeBytes returns what this user may still write where a folder is.
func freeBytes(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return math.MaxInt64 // the write itself will tell
	}
	return int64(min(s.Bavail*uint64(s.Bsize), math.MaxInt64))
}

// updateNet is the node as the updater sees it.
type updateNet struct{ *p2p.Node }

// Sources implements device.Network.
func (n updateNet) Sources(tree chunks.Hash) func(context.Context) []swarm.Peer {
	return n.ProgramPeers(tree).Find
}

// installer is the updater of a folder of releases, which runs as root or as this program's parent.
type installer struct {
	p    *program
	root string
}

// HandOver implements device.Slots.
func (i installer) HandOver(a ota.Artifact, metadata map[string][]byte, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return slots.HandOver(i.p.cfg.State, slots.Request{Path: a.Path, Wanted: a.Version, Baseline: i.p.baseline()}, metadata, f)
}

// Outcome implements device.Slots.
func (i installer) Outcome() (ota.Progress, error) { return slots.ReadOutcome(i.root) }

// Failed implements device.Slots.
func (i installer) Failed(hash [32]byte) (bool, error) {
	return slots.Failed(i.root, fmt.Sprintf("%x", hash))
}

// errNoUpdater: updates are off.
var errNoUpdater = errors.New("updates are off in its config, or could not be opened")

func (p *program) updaterOrWhy() (*device.Updater, error) {
	u := p.updater.Load()
	if u == nil {
		return nil, cli.Try(errNoUpdater, "streembitd status")
	}
	return u, nil
}
