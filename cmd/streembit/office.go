// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
)

// desk is the command line's part of an office: which folder, how to get at its keys, whether to speak with the hubs.
type desk struct {
	app     *app
	dir     fleetDir
	pass    passphrases
	offline bool
	listen  []string // where the node listens, so that holes can be punched and the local network be asked; none = neither
	as      string   // a key file to take in place of owner.key: the spare that takes over
	asJSON  bool
	looks   bool // changes nothing in the fleet and asks devices for what any member may be given: no operator is needed
	gives   p2p.Programs
	answers io.Writer // standard output, once quiet has taken it; nil before
}

// flags adds what every command that changes a fleet has.
func (d *desk) flags(cmd *cobra.Command) {
	dirFlag(cmd, (*string)(&d.dir))
	d.pass.app = d.app
	d.pass.flag(cmd)
	cmd.Flags().BoolVar(&d.offline, "offline", false, "change the files here alone, and speak with no hub")
}

// office is a folder from which an owner or an operator writes to a fleet, held against other commands that write there too: two that write at
// once would sign two histories. For one goroutine. Close it.
type office struct {
	desk
	know   *knowledge
	saved  *fleet.Fleet // what the file holds
	author fleet.Author
	owner  bool
	hubs   *hubs // nil: offline, or the fleet has none
	told   []string
	log    *slog.Logger

	lock *os.File
}

// open takes the folder, loads fleet and key, and hears from the hubs what is new. What it could not hear it says on standard error.
func (d desk) open(ctx context.Context) (o *office, err error) {
	d.quiet()
	o = &office{desk: d, know: &knowledge{}}
	if o.log, err = d.app.logger(slog.LevelError); err != nil {
		return nil, err
	}
	if _, err = d.dir.load(); err != nil { // says what to do when there is no folder
		return nil, err
	}
	if o.lock, err = lockFolder(ctx, string(d.dir)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	if o.saved, err = d.dir.load(); err != nil { // as the one before us left it
		return o, err
	}
	o.know.set(o.saved)
	if err := o.loadKey(ctx); err != nil {
		return o, err
	}
	if err := o.loadLife(); err != nil {
		return o, err
	}
	return o, o.hear(ctx)
}

func (o *office) close() error {
	var errs []error
	if o.hubs != nil {
		errs = append(errs, o.hubs.close())
	}
	if o.lock != nil {
		errs = append(errs, o.lock.Close())
	}
	return errors.Join(errs...)
}

// leave lets other commands work in the folder while this one waits; comeBack takes it again, with what they have changed.
func (o *office) leave() {
	_ = o.lock.Close()
	o.lock = nil
}

func (o *office) comeBack(ctx context.Context) (err error) {
	if o.lock, err = lockFolder(ctx, string(o.dir)); err != nil {
		return err
	}
	if o.saved, err = o.dir.load(); err != nil {
		return err
	}
	if _, err := o.know.merge(o.saved.Delta(o.known().Digest())); err != nil {
		return err
	}
	if err := o.loadLife(); err != nil {
		return err
	}
	o.hubs.node.FleetChanged()
	return o.settle()
}

// lockWait is how long a command waits for another one that writes to the same folder.
const lockWait = 20 * time.Second

func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("taking fleet folder: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("taking fleet folder: %w", err), f.Close())
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			busy := fmt.Errorf("another command is changing the fleet in %s", dir)
			return nil, errors.Join(cli.Try(busy, "fuser -v %s", cli.Quote(dir)), f.Close())
		}
	}
}

// loadKey takes the owner's key if the folder has one, else the operator's.
func (o *office) loadKey(ctx context.Context) error {
	if o.as != "" {
		return o.loadSpare(ctx)
	}
	key, err := o.ownerKey(ctx, o.dir.owner())
	if err == nil {
		o.author.Key, o.owner = key, true
		return o.checkOwner(key.ID())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err = fleet.LoadKey(o.dir.key())
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Try(fmt.Errorf("neither owner.key nor key.pem is in %s: %w", o.dir, err),
			"cp BACKUP/owner.key %s, or for an operator: streembit id --operator", cli.Quote(o.dir.owner()))
	}
	if err != nil {
		return err
	}
	o.author.Key = key
	if !o.known().Is(key.ID(), fleet.Operator) && o.offline {
		return o.notOperator()
	}
	return nil
}

func (o *office) notOperator() error {
	return cli.Try(fmt.Errorf("%s is no operator of fleet %s: %w", o.author.Key.ID(), o.known().State().Name, fleet.ErrNotAllowed),
		"on the owner's machine: streembit fleet operator add %s --name NAME", o.author.Key.ID())
}

// ownerKey reads a key that may be protected by a passphrase.
func (d *desk) ownerKey(ctx context.Context, path string) (journal.SoftKey, error) {
	text, err := d.secret(ctx, path)
	if err != nil {
		return journal.SoftKey{}, err
	}
	key, err := fleet.ParseKey(text)
	if err != nil {
		return key, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// secret reads a file of the folder, decrypted if need be.
func (d *desk) secret(ctx context.Context, path string) ([]byte, error) {
	text, err := fleet.ReadSecret(path)
	if err != nil || !isSealed(text) {
		return text, err
	}
	return d.pass.open(ctx, text, path)
}

func (o *office) checkOwner(id edge.ID) error {
	s := o.known().State()
	switch id {
	case s.LogWriter:
		return nil
	case s.Owners[0], s.Owners[1]:
		return cli.Try(fmt.Errorf("%s is the spare key, the fleet log is written by another: %w", o.dir.owner(), fleet.ErrNotAllowed),
			"streembit fleet rotate --spare --spare-key %s", cli.Quote(o.dir.owner()))
	}
	return cli.Try(fmt.Errorf("%s is not an owner's key of fleet %s any more: %w", o.dir.owner(), s.Name, fleet.ErrNotOwner),
		"mv %s %s, if a rotation was interrupted here", cli.Quote(o.dir.spare()), cli.Quote(o.dir.owner()))
}

// loadLife names the author's own chain of the fleet log, which is made at the first use. It is renewed when the fleet has cut the chain, and
// a backup does not hold it: two that write to one chain fork it.
func (o *office) loadLife() error {
	if o.owner { // the state names the owner's chain
		o.own()
		return nil
	}
	text, err := os.ReadFile(o.dir.life())
	if err == nil {
		raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(raw) != len(o.author.Life) {
			return cli.Try(fmt.Errorf("%s is damaged", o.dir.life()), "rm %s, and a new one is made", cli.Quote(o.dir.life()))
		}
		o.author.Life = journal.Incarnation(raw)
		if !o.cut() {
			o.own()
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading life: %w", err)
	}
	rand.Read(o.author.Life[:])
	o.own()
	return fleet.WriteFile(o.dir.life(), []byte(o.author.Life.String()), 0o600)
}

// own tells what comes by the network which log is ours.
func (o *office) own() {
	c := journal.Chain{Fleet: o.known().ID(), Device: o.author.Key.ID(), Stream: logStream, Incarnation: o.author.Life}
	if o.owner {
		c.Incarnation = o.known().State().LogLife
	}
	o.know.setOwn(c)
}

// logStream is the stream of every chain of the fleet log (docs/wire.md).
const logStream = "fleet"

// cut reports whether a revocation ended the author's chain, though a later grant has brought the author back.
func (o *office) cut() bool {
	id := o.author.Key.ID()
	c := journal.Chain{Fleet: o.known().ID(), Device: id, Stream: logStream, Incarnation: o.author.Life}
	return o.known().IsMember(id) && errors.Is(o.known().Accepts(c, math.MaxInt64, journal.Hash{}), fleet.ErrRevoked)
}

// change is what a command wants to do to the fleet: the next one, and what the audit log says of it. The same fleet means that there is nothing to do.
type change func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error)

// apply makes a change: saved here first, then noted, then told to the hubs. It returns whether anything changed.
func (o *office) apply(ctx context.Context, what change) (bool, error) {
	before := o.known()
	next, events, err := what(before, time.Now())
	if errors.Is(err, fleet.ErrNotAllowed) {
		err = cli.Try(err, "streembit fleet show")
	}
	if err != nil {
		return false, err
	}
	if next == before && len(events) == 0 {
		return false, o.replyChange(false, nil)
	}
	changed := next != before
	if changed {
		if _, err := o.know.merge(next.Delta(before.Digest())); err != nil { // a hub may have told something meanwhile
			return false, err
		}
		if err := o.settle(); err != nil {
			return false, err
		}
	}
	if err := o.note(events...); err != nil {
		return changed, err
	}
	if changed {
		o.tell(ctx)
	}
	return changed, o.replyChange(changed, events)
}

// note writes the audit log.
func (o *office) note(events ...audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	log, err := audit.Open(audit.Options{Dir: o.dir.audit(), Boot: bootID().String(), Synced: clockSynced})
	if err != nil {
		return err
	}
	for _, e := range events {
		e.Who = o.author.Key.ID().String()
		err = errors.Join(err, log.Add(e))
	}
	return errors.Join(err, log.Close())
}
