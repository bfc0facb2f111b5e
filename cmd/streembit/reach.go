// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/thing"
	"github.com/streembit/edge/transport/p2p"
)

// directFlags adds what every command that speaks with devices has.
func (d *desk) directFlags(cmd *cobra.Command) {
	dirFlag(cmd, (*string)(&d.dir))
	d.pass.app = d.app
	d.pass.flag(cmd)
	d.jsonFlag(cmd)
}

// reacher is an office that speaks with devices. The folder is free for other commands meanwhile. Its methods may be called concurrently.
type reacher struct {
	*office
	dial   dialer
	noting sync.Mutex // the audit log, and the folder for it
	saving sync.Mutex // descriptions
}

// dialer opens the streams of sessions; *p2p.Node is one.
type dialer interface {
	Direct(ctx context.Context, member edge.ID) (io.ReadWriteCloser, p2p.Path, error)
}

func (d desk) reach(ctx context.Context) (*reacher, error) {
	d.asJSON = false // results are the command's own to write
	d.listen = []string{"/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"}
	o, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.start(ctx); err != nil {
		return nil, errors.Join(err, o.close())
	}
	o.leave()
	return &reacher{office: o, dial: o.hubs.node}, nil
}

// withOne opens the folder and calls f for the single device that is meant.
func (d desk) withOne(ctx context.Context, selector string, f func(context.Context, *reacher, fleet.Grant) error) (err error) {
	r, err := d.reach(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	g, err := r.one(selector)
	if err != nil {
		return err
	}
	return f(ctx, r, g)
}

// one returns the single device that is meant.
func (r *reacher) one(selector string) (fleet.Grant, error) {
	all, err := selectDevices(r.known(), selector)
	if err == nil && len(all) > 1 {
		err = cli.Try(cli.Usagef("%q means %s: name one", selector, plural(len(all), "device")), "streembit devices list %s", cli.Quote(selector))
	}
	if err != nil {
		return fleet.Grant{}, err
	}
	return all[0], nil
}

// line is an open session with a device.
type line struct {
	*direct.Session
	r    *reacher
	to   edge.ID
	path p2p.Path
}

// open opens a session.
func (r *reacher) open(ctx context.Context, device edge.ID) (*line, error) {
	stream, path, err := r.dial.Direct(ctx, device)
	if err != nil {
		return nil, err
	}
	s, err := direct.Open(ctx, stream, direct.Config{Signer: r.author.Key, Device: device})
	if err != nil && direct.ReasonOf(err) == 0 && !errors.Is(err, direct.ErrFrame) { // a device that ends or starts just now
		err = fmt.Errorf("%w: %w", direct.ErrLost, err)
	}
	if err != nil {
		return nil, err
	}
	return &line{s, r, device, path}, nil
}

func (l *line) close() error { return l.Session.Close() }

// describe returns the device's description as it is now: the one that lies here if that is still it.
func (l *line) describe(ctx context.Context) (*thing.Description, error) {
	if d, err := l.r.kept(l.to); err == nil && d.Version.Number() == l.Thing() {
		return d, nil
	}
	d, record, err := l.Describe(ctx)
	if err != nil {
		return nil, err
	}
	return d, l.r.keep(l.to, record)
}

func (r *reacher) thingFile(device edge.ID) string {
	return filepath.Join(string(r.dir), "things", device.String()+".cose")
}

// kept returns what this folder saw last of a device.
func (r *reacher) kept(device edge.ID) (*thing.Description, error) {
	record, err := os.ReadFile(r.thingFile(device))
	if err != nil {
		return nil, fmt.Errorf("reading description: %w", err)
	}
	return thing.OpenSigned(device, record)
}

// keep notes a proven description, unless a newer one lies here.
func (r *reacher) keep(device edge.ID, record []byte) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	d, err := thing.OpenSigned(device, record)
	if err != nil {
		return err
	}
	if known, err := r.kept(device); err == nil && known.Version.Number() >= d.Version.Number() {
		return nil
	}
	path := r.thingFile(device)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keeping description: %w", err)
	}
	return fleet.WriteFile(path, record, 0o600)
}

// stored returns the description that the hubs have, else what this folder saw last.
func (r *reacher) stored(ctx context.Context, device edge.ID) (*thing.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, hubWait)
	defer cancel()
	record, err := r.hubs.node.Thing(ctx, device)
	if err == nil {
		err = r.keep(device, record)
	}
	d, kerr := r.kept(device) // which may be newer than what the hubs have
	if errors.Is(kerr, fs.ErrNotExist) && err != nil {
		return nil, err
	}
	return d, kerr
}

// description returns a device's description, and where it came from.
func (r *reacher) description(ctx context.Context, device edge.ID) (*thing.Description, string, error) {
	direct, cancel := context.WithTimeout(ctx, showLimit)
	defer cancel()
	l, err := r.open(direct, device)
	if err == nil {
		d, derr := l.describe(direct)
		if err = errors.Join(derr, l.close()); err == nil {
			return d, "from the device", nil
		}
	}
	d, serr := r.stored(ctx, device)
	if serr != nil {
		return nil, "", errors.Join(err, serr)
	}
	return d, "as it said last: the device does not answer", nil
}

// noteCalls writes the audit log of this folder, which other commands may hold for a moment.
func (r *reacher) noteCalls(ctx context.Context, events ...audit.Event) error {
	r.noting.Lock()
	defer r.noting.Unlock()
	lock, err := lockFolder(ctx, string(r.dir))
	if err != nil {
		return err
	}
	return errors.Join(r.note(events...), lock.Close())
}

// evCall is the event of a command to a device in the audit log.
const evCall = "call"

// again is the pause before a session is opened once more.
const again = 500 * time.Millisecond

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
