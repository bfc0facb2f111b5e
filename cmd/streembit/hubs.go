// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// knowledge is the fleet as this program knows it; the network adds to it. Safe for concurrent use.
type knowledge struct {
	mu    sync.Mutex
	fleet *fleet.Fleet
	own   journal.Chain // of the fleet log, written from this folder
	twice bool          // somebody else wrote to it too
	forks []error       // histories that contradict what was known
}

func (k *knowledge) get() *fleet.Fleet {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fleet
}

func (k *knowledge) set(f *fleet.Fleet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fleet = f
}

func (k *knowledge) setOwn(c journal.Chain) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.own = c
}

// merge takes in what a hub tells. It is saved by the office, at the end of each exchange: nobody relies on what this program keeps.
func (k *knowledge) merge(b fleet.Bundle) (*fleet.Fleet, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next, err := k.fleet.Merge(b)
	if next != nil {
		k.fleet = next
	}
	if errors.Is(err, fleet.ErrFork) {
		k.forks = append(k.forks, err)
		k.twice = k.twice || k.ours(b)
	}
	return next, err
}

// ours reports whether what contradicts may be the log that is written from this folder.
func (k *knowledge) ours(b fleet.Bundle) bool {
	for _, log := range b.Logs {
		for _, raw := range log {
			if seg, err := journal.Open(raw, k.fleet.ID()); err == nil && seg.Chain == k.own {
				return true
			}
		}
	}
	return false
}

// writtenTwice reports, once, whether somebody else writes to the log of this folder.
func (k *knowledge) writtenTwice() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	twice := k.twice
	k.twice = false
	return twice
}

func (k *knowledge) takeForks() []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	forks := k.forks
	k.forks = nil
	return forks
}

// hubs is an office's way to the fleet's hubs.
type hubs struct {
	know *knowledge
	node *p2p.Node
}

// hubWait bounds one exchange with the hubs.
const hubWait = 15 * time.Second

func (h *hubs) close() error { return h.node.Close() }

// bootID names the boot of this machine's kernel; zero where there is none to read.
func bootID() journal.BootID {
	id, _, _, err := agent.Boot("/")
	if err != nil {
		return journal.BootID{}
	}
	return id
}

// clockSynced reports whether this machine's clock is known to be right.
func clockSynced() bool { return agent.KernelSynced() }

// sync brings this program and the hubs to the same fleet.
func (h *hubs) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hubWait)
	defer cancel()
	return h.node.SyncFleet(ctx)
}

// connected returns the names of the hubs that are connected, of how many.
func (h *hubs) connected() (names []string, of int) {
	f := h.know.get()
	up := map[edge.ID]bool{}
	for _, p := range h.node.Peers() {
		up[p.ID] = true
	}
	all := f.Hubs()
	for _, g := range all {
		if up[g.Member] {
			names = append(names, g.Name)
		}
	}
	return names, len(all)
}

// known returns the fleet as the office knows it now.
func (o *office) known() *fleet.Fleet { return o.know.get() }

// connect starts the node if there is somebody to speak with.
func (o *office) connect(ctx context.Context) error {
	f := o.known()
	if o.offline || len(f.Hubs()) == 0 && len(f.State().Hubs) == 0 || o.hubs != nil {
		return nil
	}
	return o.start(ctx)
}

// start starts the node, also when there is no hub: a device on the LAN is spoken to directly.
func (o *office) start(ctx context.Context) error {
	if o.hubs != nil {
		return nil
	}
	node, err := p2p.New(ctx, p2p.Options{Signer: o.author.Key, Fleet: o.know.get, Merge: o.know.merge, Boot: bootID(), Version: version,
		Listen: o.listen, MDNS: len(o.listen) > 0, Programs: o.gives, Logger: o.log.With("part", "p2p")})
	if err != nil {
		return err
	}
	o.hubs = &hubs{know: o.know, node: node}
	return nil
}

// errRestored: the folder came out of a backup, and what its keys have signed since is not in it.
var errRestored = errors.New("this folder was restored from a backup, and no hub has told yet what its key signed since: a change now could fork the fleet's log")

// hear learns from the hubs what is new, and saves it. A hub that cannot be reached is no error, unless the folder was restored from a backup.
func (o *office) hear(ctx context.Context) error {
	if err := o.connect(ctx); err != nil {
		return err
	}
	var heard error
	switch {
	case o.hubs != nil:
		heard = o.hubs.sync(ctx)
	case o.offline:
		heard = errors.New("--offline")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := o.settle(); err != nil {
		return err
	}
	if o.hubs == nil && !o.offline {
		heard = transport.ErrNoHubs
	}
	if o.dir.isRestored() {
		if heard != nil {
			return cli.Try(fmt.Errorf("%w: %w", errRestored, heard), "the same command when a hub can be reached, or, if nothing was changed since the backup: rm %s", cli.Quote(o.dir.restored()))
		}
		if err := o.dir.clearRestored(); err != nil {
			return err
		}
	}
	if standing, told := errors.AsType[*p2p.StandingError](heard); told {
		return cli.Try(fmt.Errorf("the hubs do not take %s for a member of fleet %s: it is %s: %w", o.author.Key.ID(), o.known().State().Name, standing.Standing, fleet.ErrNotAllowed),
			"on the owner's machine: streembit fleet show; if the owner's key was rotated, this one is of no use any more")
	}
	if o.hubs != nil && heard != nil {
		o.log.Info("no hub answers", "err", heard)
		fmt.Fprintf(o.app.err, "no hub answers: what others changed is not known here (--log info says why)\n")
	}
	if !o.owner && !o.looks && !o.known().Is(o.author.Key.ID(), fleet.Operator) {
		return o.notOperator()
	}
	return nil
}

// settle saves what the hubs told and says what they told that cannot be.
func (o *office) settle() error {
	for _, fork := range o.know.takeForks() {
		fmt.Fprintf(o.app.err, "ALARM: %v\n", fork)
	}
	if o.know.writtenTwice() {
		if err := o.renew(); err != nil {
			return err
		}
	}
	f := o.known()
	if o.saved != nil && f.Digest().Hash() == o.saved.Digest().Hash() {
		return nil
	}
	if err := f.Save(o.dir.bundle()); err != nil {
		return err
	}
	o.saved = f
	return nil
}

// renew begins another log when the one of this folder has two histories: the folder, or a backup of it, is in use elsewhere. What was written here and
// not there counts nowhere. An owner's log is named by the state, so that only a person can say which of the two folders is right.
func (o *office) renew() error {
	if o.owner {
		fmt.Fprintf(o.app.err, "the owner's log is written from two folders: go on in the other one; or move %s away, copy a hub's %s here, and make the changes again\n",
			o.dir.bundle(), bundleName)
		return nil
	}
	fmt.Fprintf(o.app.err, "this operator's log is written from two folders: what was granted here and not there counts nowhere, grant it again\n")
	if err := os.Remove(o.dir.life()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("renewing life: %w", err)
	}
	return o.loadLife()
}

// tell brings a change to the hubs and says what became of it. The change is safe here, so that nothing of this is an error.
func (o *office) tell(ctx context.Context) {
	switch {
	case o.offline:
		fmt.Fprintf(o.app.err, "saved here only (--offline); hubs learn it with: streembit fleet sync%s\n", o.dirArg())
		return
	case len(o.known().Hubs()) == 0 && len(o.known().State().Hubs) == 0:
		return // there is nobody to tell
	case o.hubs == nil:
		if err := o.connect(ctx); err != nil || o.hubs == nil { // the first hub may just have been granted
			return
		}
	}
	err := o.hubs.sync(ctx)
	names, of := o.hubs.connected()
	o.told = names
	if err != nil {
		o.told = nil
		o.log.Info("no hub was told", "err", err)
		fmt.Fprintf(o.app.err, "saved here only, no hub answers; they learn it with: streembit fleet sync%s\n", o.dirArg())
		return
	}
	fmt.Fprintf(o.app.err, "told %s (%d of %s; they tell the others)\n", strings.Join(names, ", "), len(names), plural(of, "hub"))
	if err := o.settle(); err != nil {
		fmt.Fprintf(o.app.err, "what the hubs told could not be saved: %v\n", err)
	}
}

// syncNow is streembit fleet sync: the exchange has been tried already when the office was opened.
func (o *office) syncNow(ctx context.Context) error {
	if o.hubs == nil {
		return cli.Try(fmt.Errorf("fleet %s: %w", o.known().State().Name, transport.ErrNoHubs), "streembit fleet grant ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321")
	}
	if err := o.hubs.sync(ctx); err != nil {
		o.log.Info("no hub answers", "err", err)
		return fmt.Errorf("no hub of fleet %s answers: %w", o.known().State().Name, transport.ErrUnreachable)
	}
	if err := o.settle(); err != nil {
		return err
	}
	names, of := o.hubs.connected()
	fmt.Fprintf(o.app.out, "the same fleet here and at %s (%d of %s), version %d, %s\n", strings.Join(names, ", "), len(names), plural(of, "hub"),
		o.known().State().Version, plural(len(o.known().Members()), "member"))
	return nil
}

// dirArg is the flag that names the folder, for a command to paste.
func (d *desk) dirArg() string {
	if string(d.dir) == configDir("fleet") {
		return ""
	}
	return " --dir " + cli.Quote(string(d.dir))
}
