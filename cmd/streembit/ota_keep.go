// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/rollout"
	"github.com/streembit/edge/ota/trust/repo"
)

const (
	signEvery = 20 * time.Hour  // a timestamp that is older is signed again
	keepRetry = 5 * time.Minute // after hubs that did not answer
)

func newOtaKeep(a *app) *cobra.Command {
	d := desk{app: a}
	var every time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "keep",
		Short: "Stay on: sign a new timestamp daily, and begin the next wave when the last is healthy",
		Long: `Runs until it is stopped, on a machine of an operator that is always on and has the keys snapshot and timestamp. Two or three may run it: who comes first
signs. Without a new timestamp for 21 days devices install no update and raise an alarm; they go on working.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.keepFresh(cmd.Context(), every, once) },
	}
	cmd.Flags().DurationVar(&every, "every", time.Minute, "between two looks at the waves")
	cmd.Flags().BoolVar(&once, "once", false, "look once and end, for a timer")
	d.flags(cmd)
	return cmd
}

func (d desk) keepFresh(ctx context.Context, every time.Duration, once bool) (err error) {
	release, err := d.dir.ota().open()
	if err != nil {
		return err
	}
	keys, err := d.otaKeys(ctx, []string{"snapshot", "timestamp"}, nil)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return cli.Try(errors.New("the keys snapshot and timestamp are not here"), "streembit ota keep on the machine that has %s", cli.Quote(string(d.dir.ota())))
	}
	o, err := d.online(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	seen := rollout.Seen{}
	for {
		err := o.fresh(ctx, release, keys, time.Now())
		for _, channel := range o.channels(ctx) {
			_, _, moved := o.moveOn(ctx, channel, seen)
			err = errors.Join(err, moved)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case once:
			return err
		case err != nil:
			fmt.Fprintf(o.app.err, "%v: it is tried again\n", err)
		}
		if !o.pause(ctx, every, err) {
			return nil
		}
	}
}

// pause lets other commands change the fleet meanwhile.
func (o *office) pause(ctx context.Context, every time.Duration, failed error) bool {
	o.leave()
	if failed != nil {
		every = max(every, min(keepRetry, 5*every))
	}
	if !nap.For(ctx, every) {
		return false
	}
	if err := o.comeBack(ctx); err != nil {
		fmt.Fprintf(o.app.err, "%v\n", err)
		return ctx.Err() == nil
	}
	return true
}

// fresh signs a new timestamp if the one that the fleet has is old, and publishes it.
func (o *office) fresh(ctx context.Context, release *repo.Repo, keys []journal.Signer, now time.Time) (err error) {
	unlock, err := lockOta(ctx, o.dir.ota())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	f := device.Fetcher{Net: otaNet{o.hubs.node}}
	newer, err := release.Compare(ctx, f, now)
	if errors.Is(err, repo.ErrNotNewer) {
		newer, err = false, release.Adopt(ctx, f, now)
	}
	if err != nil {
		return err
	}
	files, err := release.Files()
	if err != nil {
		return err
	}
	if expires := expiryOf(files["timestamp.json"]); !newer && expires.Sub(now) > repo.TimestampLife-signEvery {
		return nil
	}
	if !newer {
		if err := release.Resign(now, keys...); err != nil {
			return err
		}
		if files, err = release.Files(); err != nil {
			return err
		}
	}
	if err := o.putMetadata(ctx, files); err != nil {
		return err
	}
	number := metadataVersion("timestamp.json", files["timestamp.json"])
	fmt.Fprintf(o.app.out, "timestamp %d is published, fresh until %s\n", number, expiryOf(files["timestamp.json"]).Format(time.DateOnly))
	return o.note(audit.Event{Event: "timestamp", What: fmt.Sprint(number)})
}

// expiryOf reads when a metadata file expires; zero if it does not say.
func expiryOf(text []byte) time.Time {
	var m struct{ Signed struct{ Expires time.Time } }
	if json.Unmarshal(text, &m) != nil {
		return time.Time{}
	}
	return m.Signed.Expires
}

// eachRollout visits the channels that a hub knows rollouts of.
func (o *office) eachRollout(ctx context.Context, hub fleet.Grant, visit func(channel string)) error {
	return o.hubs.node.RecordsOf(ctx, hub.Member, records.Rollout, func(r records.Record) {
		visit(strings.TrimPrefix(r.Key, records.Key(records.Rollout, "")))
	})
}
