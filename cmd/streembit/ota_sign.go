// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

func newOtaSign(a *app) *cobra.Command {
	d := desk{app: a}
	var files []string
	var renew bool
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Sign the draft of a release, or a new timestamp if there is no draft",
		Long: `Signs with those keys of targets, snapshot and timestamp that are in the release folder, and with --key. Where the targets key is kept on another
machine, carry the folder ota there and back: what is missing is said.

Without a draft only a new timestamp is made: that is what devices want to see every few days (they refuse updates when none came for 21).`,
		Example: "  streembit ota sign\n  streembit ota sign --key /media/usb/targets.key",
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.otaSign(cmd.Context(), files, renew, time.Now()) },
	}
	cmd.Flags().StringArrayVar(&files, "key", nil, "`file` of a key more (may be repeated)")
	cmd.Flags().BoolVar(&renew, "renew", false, "sign the same programs again with a new expiry, once a year")
	dirFlag(cmd, (*string)(&d.dir))
	d.pass.app = a
	d.pass.flag(cmd)
	return cmd
}

func (d desk) otaSign(ctx context.Context, files []string, renew bool, now time.Time) (err error) {
	unlock, err := lockOta(ctx, d.dir.ota())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	release, err := d.dir.ota().open()
	if err != nil {
		return err
	}
	if renew {
		if err := release.Renew(now); err != nil {
			return err
		}
	}
	keys, err := d.otaKeys(ctx, onLine(), files)
	if err != nil {
		return err
	}
	if _, _, err := release.Draft(); errors.Is(err, repo.ErrNoDraft) {
		return d.resign(ctx, release, keys, now)
	}
	done, err := release.Sign(now, keys...)
	if err != nil {
		return d.explainSign(err)
	}
	if !done {
		_, s, err := release.Draft()
		if err != nil {
			return err
		}
		fmt.Fprintf(d.app.out, "targets: %d of %d signatures, %d more of %s\n", len(s.Signed), len(s.Signed)+s.Missing, s.Missing, joinIDs(s.Open))
		return nil
	}
	return d.signed(ctx, release, now)
}

func (d desk) explainSign(err error) error {
	switch {
	case errors.Is(err, repo.ErrForeignKey), errors.Is(err, repo.ErrTooFew):
		return cli.Try(err, "streembit ota sign --key FILE%s, with a key that streembit ota root show names", d.dirArg())
	case errors.Is(err, repo.ErrRenew):
		return cli.Try(err, "streembit ota sign --renew%s, with the new targets key", d.dirArg())
	case errors.Is(err, repo.ErrNoRelease):
		return cli.Try(err, "streembit ota release --version 1.4.0 FILE…%s", d.dirArg())
	}
	return err
}

// resign makes a new timestamp.
func (d desk) resign(ctx context.Context, release *repo.Repo, keys []journal.Signer, now time.Time) error {
	if err := release.Resign(now, keys...); err != nil {
		return d.explainSign(err)
	}
	return d.signed(ctx, release, now)
}

// signed proves what was signed as a device will, and shows it.
func (d desk) signed(ctx context.Context, release *repo.Repo, now time.Time) error {
	all, err := release.Verify(ctx, nil, now)
	if err != nil {
		return fmt.Errorf("what was signed does not verify: do not publish it: %w", err)
	}
	showArtifacts(d.app, all)
	fmt.Fprintf(d.app.out, "signed, fresh until %s\n", now.Add(repo.TimestampLife).Format(time.DateOnly))
	fmt.Fprintf(d.app.err, "\nnext:  streembit ota publish%s, or for a USB stick: streembit ota bundle --out FILE%s\n", d.dirArg(), d.dirArg())
	return nil
}

func showArtifacts(a *app, all []ota.Artifact) {
	t := cli.NewTable(a.out)
	for _, p := range all {
		t.Row(p.Path, p.Channel, fmt.Sprintf("%.2f MB", float64(p.Size)/1e6), fmt.Sprintf("sha256 %x", p.Hash[:8]), floorText(p.Floor))
	}
	t.Flush()
}

func newOtaPin(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "pin",
		Short: "Pin the root of updates into the fleet's state: the owner's alone to do",
		Long: `From then on every member takes updates that this root vouches for, and no others. After a rotation pin the new one: members that knew the old
follow its signatures anyway, new ones begin with the pinned.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.pin(cmd.Context()) },
	}
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

func (d desk) pin(ctx context.Context) (err error) {
	release, err := d.dir.ota().open()
	if err != nil {
		return err
	}
	root, err := release.Root()
	if err != nil {
		return err
	}
	_, version, expires, err := release.Roles()
	if err != nil {
		return err
	}
	if err := trust.CheckRoots(root); err != nil {
		return err
	}
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if !o.owner {
		return cli.Try(fmt.Errorf("pinning the root of updates: %w", fleet.ErrNotOwner), "the same command on the owner's machine")
	}
	changed, err := o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		if string(f.State().UpdateRoot) == string(root) {
			return f, nil, nil
		}
		next, err := f.Amend(o.author.Key, now, func(s *fleet.State) { s.UpdateRoot = root })
		if err != nil {
			return nil, nil, err
		}
		return next, []audit.Event{{Event: "pin-update-root", What: fmt.Sprintf("root %d", version), Detail: fmt.Sprintf("until %s", expires.Format(time.DateOnly))}}, nil
	})
	if errors.Is(err, fleet.ErrTooLarge) {
		return cli.Try(err, "streembit fleet show, and fewer hubs with --bootstrap or fewer root holders")
	}
	if err != nil {
		return err
	}
	if !changed {
		fmt.Fprintf(o.app.out, "root %d is pinned already: nothing changed\n", version)
		return nil
	}
	fmt.Fprintf(o.app.out, "version %d: updates are proven from root %d (%d bytes)\n", o.known().State().Version, version, len(root))
	return nil
}
