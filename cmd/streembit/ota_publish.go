// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/ota/trust/repo"
)

// errNotMirrored: the hubs did not get all programs in time.
var errNotMirrored = errors.New("not on enough hubs yet")

func newOtaPublish(a *app) *cobra.Command {
	d := desk{app: a}
	p := publishing{}
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Bring the signed release to the hubs",
		Long: `Puts the metadata into the fleet and gives the programs to the hubs, which share them among themselves: they leave this machine about once. Ends when a
majority of the hubs has everything. Devices do nothing before streembit ota rollout.`,
		Example: "  streembit ota publish\n  streembit ota publish --adopt",
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.publish(cmd.Context(), p) },
	}
	cmd.Flags().DurationVar(&p.wait, "wait", time.Hour, "how long the hubs may take")
	cmd.Flags().BoolVar(&p.adopt, "adopt", false, "take over first what another operator has published meanwhile; what was not published here goes into a new draft")
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

type publishing struct {
	wait  time.Duration
	adopt bool
}

// publishView is the answer of ota publish in JSON.
type publishView struct {
	Programs []string `json:"programs"`
	Bytes    int64    `json:"bytes"` // of the programs, once
	Given    int64    `json:"given"` // that left this machine
	Hubs     []string `json:"hubs"`  // that have everything
	Of       int      `json:"of"`
}

func (d desk) publish(ctx context.Context, p publishing) (err error) {
	release, err := d.dir.ota().open()
	if err != nil {
		return err
	}
	unlock, err := lockOta(ctx, d.dir.ota())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	shelf := device.NewDepot(nil, edge.ID{}, 0, nil)
	d.gives = shelf
	o, err := d.online(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if err := o.comparable(ctx, release, p.adopt); err != nil {
		return err
	}
	all, closeAll, err := o.share(ctx, release, shelf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	files, err := release.Files()
	if err != nil {
		return err
	}
	if err := o.putMetadata(ctx, files); err != nil {
		return err
	}
	if err := o.note(audit.Event{Event: "publish", What: fmt.Sprintf("%d programs", len(all)), Detail: fmt.Sprintf("timestamp %d", metadataVersion("timestamp.json", files["timestamp.json"]))}); err != nil {
		return err
	}
	return o.awaitHubs(ctx, all, shelf, p.wait)
}

// comparable reports whether what is here may be published.
func (o *office) comparable(ctx context.Context, release *repo.Repo, adopt bool) error {
	f := device.Fetcher{Net: otaNet{o.hubs.node}}
	_, err := release.Compare(ctx, f, time.Now())
	switch {
	case errors.Is(err, repo.ErrNotNewer) && adopt:
		if err := release.Adopt(ctx, f, time.Now()); err != nil {
			return err
		}
		fmt.Fprintf(o.app.err, "what was published meanwhile is here now; next:  streembit ota sign%s, and publish again\n", o.dirArg())
		return nil
	case errors.Is(err, repo.ErrNotNewer):
		return cli.Try(err, "streembit ota publish --adopt%s", o.dirArg())
	case errors.Is(err, repo.ErrNoRelease):
		return cli.Try(err, "streembit ota release --version 1.4.0 FILE…%s, then streembit ota sign", o.dirArg())
	}
	return err
}

// share offers the programs that are in the release folder. After Adopt some are another operator's, and on the hubs already.
func (o *office) share(ctx context.Context, release *repo.Repo, shelf *device.Depot) (all []ota.Artifact, done func() error, err error) {
	root := o.known().State().UpdateRoot
	if len(root) == 0 {
		return nil, nil, cli.Try(device.ErrNoRoot, "streembit ota pin%s", o.dirArg())
	}
	named, err := release.Verify(ctx, root, time.Now())
	if err != nil && len(named) == 0 {
		return nil, nil, fmt.Errorf("devices would not take this release: %w", err)
	}
	var open []*chunks.File
	done = func() error {
		var errs []error
		for _, f := range open {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	for _, a := range named {
		f, err := chunks.Share(release.Program(a.Tree))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil && f.Tree() != a.Tree {
			err = errors.Join(fmt.Errorf("%s is not the program that was signed", f.Path()), f.Close())
		}
		if err != nil {
			return nil, nil, errors.Join(err, done())
		}
		shelf.Share(f)
		open = append(open, f)
		all = append(all, a)
	}
	return all, done, nil
}

// awaitHubs offers the programs again and again until a majority of the hubs has them all.
func (o *office) awaitHubs(ctx context.Context, all []ota.Artifact, shelf *device.Depot, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	show := newProgress(o.app.err)
	defer show.clear()
	var v publishView
	for _, a := range all {
		v.Programs = append(v.Programs, a.Path)
		v.Bytes += a.Size
	}
	for {
		hubs := o.known().Hubs()
		v.Hubs, v.Of = nil, len(hubs)
		var chunksThere, chunksAll int
		for _, h := range hubs {
			n, of := o.offerPrograms(ctx, h, all)
			if n == of {
				v.Hubs = append(v.Hubs, h.Name)
			}
			chunksThere, chunksAll = chunksThere+n, chunksAll+of
		}
		v.Given = shelf.Given()
		if len(v.Hubs) > v.Of/2 {
			show.clear()
			return o.replyPublished(v)
		}
		show.live("hubs", "%s %d of %s have all, %s given of %s", bar(chunksThere, chunksAll), len(v.Hubs), plural(v.Of, "hub"), megabytes(v.Given), megabytes(v.Bytes))
		if !nap.For(ctx, time.Second) {
			return cli.Try(fmt.Errorf("%d of %s have all programs: %w", len(v.Hubs), plural(v.Of, "hub"), errNotMirrored), "streembit ota publish%s again: what is there stays there", o.dirArg())
		}
	}
}

// offerPrograms tells a hub what is here and counts the chunks that it has; one that does not answer has none.
func (o *office) offerPrograms(ctx context.Context, hub fleet.Grant, all []ota.Artifact) (n, of int) {
	for _, a := range all {
		of += chunks.Count(a.Size)
	}
	for _, a := range all {
		limited, cancel := context.WithTimeout(ctx, hubWait)
		have, err := o.hubs.node.OfferProgram(limited, hub.Member, a.Tree)
		cancel()
		if err != nil {
			o.log.Info("a hub does not answer", "hub", hub.Name, "err", err)
			return n, of
		}
		for _, b := range have {
			n += bits.OnesCount8(b)
		}
	}
	return n, of
}

func (o *office) replyPublished(v publishView) error {
	if o.asJSON {
		return cli.PrintJSON(o.answers, v)
	}
	fmt.Fprintf(o.app.out, "published: %s (%s) on %s, of %d; %s left this machine\n", plural(len(v.Programs), "program"), megabytes(v.Bytes),
		strings.Join(v.Hubs, ", "), v.Of, megabytes(v.Given))
	fmt.Fprintf(o.app.err, "\nnext:  streembit ota rollout --to VERSION%s\n", o.dirArg())
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.2f MB", float64(n)/1e6) }

// bar draws how much of something there is.
func bar(n, of int) string {
	const width = 20
	full := width * n / max(of, 1)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]" + fmt.Sprintf(" %3d %%", 100*n/max(of, 1))
}
