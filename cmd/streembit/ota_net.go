// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/rollout"
	"github.com/streembit/edge/ota/swarm"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// errNoRollout: a channel has none.
var errNoRollout = errors.New("nothing was rolled out in this channel yet")

// errNotNewer is wrapped when somebody else was first.
var errNotNewer = errors.New("somebody else published at the same time")

// otaNet is the office's node as package device sees one.
type otaNet struct{ *p2p.Node }

// Sources implements device.Network.
func (n otaNet) Sources(tree chunks.Hash) func(context.Context) []swarm.Peer {
	return n.ProgramPeers(tree).Find
}

// online opens the office for a command that is of no use without hubs.
func (d desk) online(ctx context.Context) (*office, error) {
	o, err := d.open(ctx)
	if err != nil {
		return o, err
	}
	if o.hubs == nil {
		return nil, errors.Join(cli.Try(fmt.Errorf("fleet %s: %w", o.known().State().Name, transport.ErrNoHubs), "streembit fleet show"), o.close())
	}
	return o, nil
}

// put publishes a record: signed, given to the hubs, and read back from them, since no hub says that it took it.
func (o *office) put(ctx context.Context, key string, number uint64, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 2*hubWait)
	defer cancel()
	raw, err := records.Sign(o.author.Key, o.known().ID(), key, number, body)
	if err != nil {
		return err
	}
	if err := o.hubs.node.PutRecord(ctx, key, raw); err != nil {
		return err
	}
	back, err := o.hubs.node.Record(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("reading %s back: %w", key, err)
	case !bytes.Equal(back.Raw, raw) && !bytes.Equal(back.Body, body):
		return fmt.Errorf("%s: the hubs have number %d of %s: %w", key, back.Version, whoIs(o.known(), back.Signer), errNotNewer)
	}
	return nil
}

// putMetadata publishes TUF files in the order in which each one's proof is there before it: roots, targets, snapshot, and the timestamp, which makes them count.
func (o *office) putMetadata(ctx context.Context, files map[string][]byte) error {
	names := []string{}
	for name := range files {
		names = append(names, name)
	}
	order := []string{"root", "targets", "snapshot", "timestamp"}
	role := func(name string) int {
		return slices.IndexFunc(order, func(r string) bool { return strings.Contains(name, r) })
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := role(a) - role(b); c != 0 {
			return c
		}
		return int(metadataVersion(a, files[a])) - int(metadataVersion(b, files[b]))
	})
	for _, name := range names {
		key, version := records.Key(records.Metadata, name), metadataVersion(name, files[name])
		if there, err := o.record(ctx, key); err == nil && bytes.Equal(there.Body, files[name]) {
			continue
		}
		if err := o.put(ctx, key, version, files[name]); err != nil {
			return err
		}
	}
	return nil
}

func (o *office) record(ctx context.Context, key string) (records.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, hubWait)
	defer cancel()
	return o.hubs.node.Record(ctx, key)
}

// metadataVersion is that of the file's name, or what the file says.
func metadataVersion(name string, text []byte) uint64 {
	number, _, _ := strings.Cut(name, ".")
	if v, err := strconv.ParseUint(number, 10, 64); err == nil {
		return v
	}
	var m struct{ Signed struct{ Version uint64 } }
	if json.Unmarshal(text, &m) != nil {
		return 0
	}
	return m.Signed.Version
}

// published returns the programs that the fleet's own metadata prove, as a device would that begins with the pinned root.
func (o *office) published(ctx context.Context, now time.Time) ([]ota.Artifact, error) {
	root := o.known().State().UpdateRoot
	if len(root) == 0 {
		return nil, cli.Try(device.ErrNoRoot, "streembit ota pin%s", o.dirArg())
	}
	all, err := repo.Prove(ctx, root, device.Fetcher{Net: otaNet{o.hubs.node}}, now)
	if errors.Is(err, trust.ErrNotFound) || errors.Is(err, trust.ErrExpired) {
		err = cli.Try(err, "streembit ota publish%s", o.dirArg())
	}
	return all, err
}

// channelRollout is the rollout of a channel and the number of its record.
func (o *office) channelRollout(ctx context.Context, channel string) (*rollout.Rollout, uint64, error) {
	r, err := o.record(ctx, records.Key(records.Rollout, channel))
	if errors.Is(err, records.ErrNone) {
		return nil, 0, cli.Try(fmt.Errorf("channel %s: %w", channel, errNoRollout), "streembit ota rollout --to 1.4.0 --channel %s%s", channel, o.dirArg())
	}
	if err != nil {
		return nil, 0, err
	}
	roll, err := rollout.Parse(channel, r.Body)
	return roll, r.Version, err
}

// putRollout makes r the channel's next rollout.
func (o *office) putRollout(ctx context.Context, r *rollout.Rollout, number uint64) error {
	if !o.known().MaySome(o.author.Key.ID(), fleet.Update, r.Channel) {
		return cli.Try(fmt.Errorf("rolling out channel %s: %w", r.Channel, fleet.ErrNotAllowed), "on the owner's machine: streembit fleet operator add ID --right \"update %s\"", r.Channel)
	}
	body, err := r.Encode()
	if err != nil {
		return err
	}
	return o.put(ctx, records.Key(records.Rollout, r.Channel), number, body)
}

// progress is what every device says of itself, as all the hubs together know it; silent are hubs that did not answer.
func (o *office) progress(ctx context.Context) (said map[edge.ID]ota.Progress, silent int, err error) {
	newest := map[string]records.Record{}
	all := o.known().Hubs()
	for _, h := range all {
		limited, cancel := context.WithTimeout(ctx, hubWait)
		e := o.hubs.node.RecordsOf(limited, h.Member, records.Progress, func(r records.Record) {
			if old, there := newest[r.Key]; !there || r.Supersedes(old) {
				newest[r.Key] = r
			}
		})
		cancel()
		if e != nil {
			silent++
			err = e
		}
	}
	if silent < len(all) {
		err = nil
	}
	said = map[edge.ID]ota.Progress{}
	for _, r := range newest {
		if p, e := device.ParseProgress(r.Body); e == nil {
			said[r.Signer] = p
		}
	}
	return said, silent, err
}

// updatable are the members that follow rollouts.
func updatable(f *fleet.Fleet) []fleet.Grant {
	return slices.DeleteFunc(f.Members(), func(g fleet.Grant) bool { return g.Roles&(fleet.Device|fleet.Hub) == 0 })
}
