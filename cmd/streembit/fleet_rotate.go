// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
)

// rotation is what streembit fleet rotate was asked for.
type rotation struct {
	spare, newSpare bool
	spareKey        string
	keep            int
}

func newFleetRotate(a *app) *cobra.Command {
	d := desk{app: a}
	var r rotation
	cmd := &cobra.Command{
		Use:   "rotate --spare | --new-spare",
		Short: "Replace an owner key: the spare takes over, or there is a new spare",
		Long: `--spare: the owner's key is lost or stolen. The spare key becomes the owner's, a new spare is made, and what the old key signs from now on counts
nowhere. Everything that the owner's log says stands again in a new log. If the key was stolen, see in streembit fleet log which
segments the thief made, and leave them out with --keep: how many segments of the owner's log, from the first, stay.

--new-spare: the spare is lost or stolen and the owner's key is safe. To replace both, do one after the other.`,
		Example: "  streembit fleet rotate --spare --spare-key /media/usb/spare.key\n  streembit fleet rotate --new-spare",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case r.spare == r.newSpare:
				return cli.Try(cli.Usagef("streembit fleet rotate: want --spare or --new-spare"), "streembit fleet rotate --help")
			case r.spareKey != "" && !r.spare:
				return cli.Try(cli.Usagef("--spare-key goes with --spare"), "streembit fleet rotate --help")
			case r.keep >= 0 && !r.spare:
				return cli.Try(cli.Usagef("--keep goes with --spare: a key that wrote what must go is not to sign the rest"), "streembit fleet rotate --help")
			}
			return d.rotate(cmd.Context(), r)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&r.spare, "spare", false, "the spare key takes over from a lost or stolen owner key")
	fl.StringVar(&r.spareKey, "spare-key", "", "the spare key's `file`; default spare.key in the fleet's folder")
	fl.BoolVar(&r.newSpare, "new-spare", false, "make a new spare key, in place of a lost or stolen one")
	fl.IntVar(&r.keep, "keep", -1, "with --spare: how many `segments` of the owner's log stay; default all")
	d.flags(cmd)
	d.jsonFlag(cmd)
	fl.BoolVar(&d.pass.none, "no-passphrase", false, "leave the new spare key unprotected but for its file's mode: for labs and tests")
	return cmd
}

func (d desk) rotate(ctx context.Context, r rotation) (err error) {
	if r.spare {
		d.as = cmp.Or(r.spareKey, d.dir.spare())
	}
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if !o.owner {
		return cli.Try(fmt.Errorf("rotating: %w", fleet.ErrNotOwner), "cp BACKUP/owner.key %s", cli.Quote(o.dir.owner()))
	}
	spare, made, err := o.newSpare(ctx)
	if err != nil {
		return err
	}
	_, err = o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		next, err := f.Rotate(o.author.Key, [2]edge.ID{o.author.Key.ID(), spare.ID()}, r.keep, now)
		if err != nil {
			return nil, nil, err
		}
		if lost := len(f.Members()) - len(next.Members()); lost > 0 {
			fmt.Fprintf(o.app.err, "%s with the segments that do not stay\n", plural(lost, "member")+" went")
		}
		return next, []audit.Event{{Event: "rotate", What: spare.ID().String(), Detail: fmt.Sprintf("owner %s, new spare, keep %d", o.author.Key.ID(), r.keep)}}, nil
	})
	if err != nil {
		return errors.Join(err, os.Remove(made))
	}
	if err := o.placeKeys(r.spare, made); err != nil {
		return err
	}
	s := o.known().State()
	fmt.Fprintf(o.app.out, "version %d: owner %s, spare %s\n", s.Version, s.Owners[0], s.Owners[1])
	fmt.Fprintf(o.app.err, "\nmove %s off line now; a backup made before cannot sign any more: streembit fleet backup FILE\n", o.dir.spare())
	return nil
}

// placeKeys gives the keys the names that their parts in the new state have. The old owner key stays under another name: what it wrote can
// still be looked into.
func (o *office) placeKeys(spareTookOver bool, made string) error {
	if spareTookOver {
		text, err := fleet.ReadSecret(o.as)
		if err != nil {
			return err
		}
		retired := filepath.Join(string(o.dir), fmt.Sprintf("retired-%d.key", o.known().State().Version-1))
		if err := os.Rename(o.dir.owner(), retired); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotating: %w", err)
		}
		if err := fleet.WriteFile(o.dir.owner(), text, 0o600); err != nil {
			return err
		}
	}
	if err := os.Rename(made, o.dir.spare()); err != nil {
		return fmt.Errorf("rotating: %w", err)
	}
	return nil
}

// loadSpare takes the spare key for the author's, when it takes over.
func (o *office) loadSpare(ctx context.Context) error {
	key, err := o.ownerKey(ctx, o.as)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Try(err, "streembit fleet rotate --spare --spare-key /media/usb/spare.key")
	}
	if err != nil {
		return err
	}
	s := o.known().State()
	switch key.ID() {
	case s.Owners[0], s.Owners[1]:
	default:
		return cli.Try(fmt.Errorf("%s is no owner key of fleet %s: %w", o.as, s.Name, fleet.ErrNotOwner), "streembit fleet show%s", o.dirArg())
	}
	if key.ID() == s.LogWriter {
		return cli.Try(cli.Usagef("%s is the key that writes the fleet's log now, not the spare", o.as), "streembit fleet rotate --new-spare")
	}
	o.author.Key, o.owner = key, true
	return nil
}

func newFleetSync(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Bring this folder and the hubs to the same fleet",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if d.offline {
				return cli.Try(cli.Usagef("there is no sync --offline"), "streembit fleet sync")
			}
			o, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.close()) }()
			return o.syncNow(cmd.Context())
		},
	}
	d.flags(cmd)
	return cmd
}
