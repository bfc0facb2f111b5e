// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

func newFleetInit(a *app) *cobra.Command {
	d := desk{app: a}
	var name string
	cmd := &cobra.Command{
		Use:   "init --name NAME",
		Short: "Found a fleet: owner, spare and recovery keys, and the signed bundle",
		Long: `Makes the keys of a fleet in a folder and protects each of them with one passphrase, which is asked for at the terminal: an armored age
file with scrypt, which the program age opens too. Without the passphrase nobody can open them, their owner included.`,
		Example: "  streembit fleet init --name lab\n  streembit fleet init --name lab --passphrase-file /run/secrets/owner",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "--name lab", "name"); err != nil {
				return err
			}
			if err := checkFounding(d.dir, name); err != nil { // before a passphrase is thought up
				return err
			}
			passphrase, err := d.pass.choose(cmd.Context(), "the fleet's keys")
			if err != nil {
				return err
			}
			f, _, err := foundFleet(a, d.dir, name, passphrase, time.Now())
			if err != nil {
				return err
			}
			printFounded(a, d.dir, f, passphrase != "")
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the fleet, for people")
	dirFlag(cmd, (*string)(&d.dir))
	d.pass.app = a
	d.pass.flags(cmd)
	return cmd
}

// checkFounding refuses a name that no fleet may have, and a place where a fleet is already.
func checkFounding(dir fleetDir, name string) error {
	if !journal.ValidStream(name) {
		return cli.Try(cli.Usagef("founding fleet: name %q: want 1 to 32 of a-z 0-9 . _ -", name), "streembit fleet init --name lab")
	}
	for _, path := range []string{dir.bundle(), dir.owner(), dir.spare(), dir.recovery()} {
		if _, err := os.Lstat(path); err == nil {
			return cli.Try(fmt.Errorf("founding fleet: %s: %w, and nothing is overwritten", path, fs.ErrExist),
				"streembit fleet show --dir %s", cli.Quote(string(dir)))
		}
	}
	return nil
}

// foundFleet makes the keys and the bundle in an empty place; it replaces nothing. passphrase "" leaves the keys unprotected. The bundle comes
// last, so an interrupted run leaves keys that no fleet names yet, and says so when it is started again.
func foundFleet(a *app, dir fleetDir, name, passphrase string, now time.Time) (*fleet.Fleet, fleet.Author, error) {
	var by fleet.Author
	if err := checkFounding(dir, name); err != nil {
		return nil, by, err
	}
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return nil, by, fmt.Errorf("founding fleet: %w", err)
	}
	owner, ownerText, err := fleet.NewKey()
	if err != nil {
		return nil, by, err
	}
	spare, spareText, err := fleet.NewKey()
	if err != nil {
		return nil, by, err
	}
	recovery, recoveryText, err := fleet.NewReaderKey()
	if err != nil {
		return nil, by, err
	}
	by.Key = owner
	f, err := fleet.Found(fleet.Founding{Name: name, Owner: owner, Spare: spare.ID(), Recovery: recovery.Public()}, now)
	if err != nil {
		return nil, by, cli.Try(cli.Usage(err), "streembit fleet init --name lab")
	}
	for _, k := range []struct {
		path string
		text []byte
	}{{dir.owner(), ownerText}, {dir.spare(), spareText}, {dir.recovery(), recoveryText}} {
		if err := a.writeKey(k.path, k.text, passphrase); err != nil {
			return nil, by, err
		}
	}
	return f, by, f.Save(dir.bundle())
}

// writeKey writes a new key's text, protected unless passphrase is empty.
func (a *app) writeKey(path string, text []byte, passphrase string) error {
	if passphrase != "" {
		sealed, err := a.seal(text, passphrase)
		if err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		text = sealed
	}
	return fleet.WriteFile(path, text, 0o600)
}

func printFounded(a *app, dir fleetDir, f *fleet.Fleet, protected bool) {
	fmt.Fprintf(a.out, "fleet %s  %s\n\n", f.State().Name, f.ID())
	t := cli.NewTable(a.out)
	t.Row(dir.owner(), "signs what you add: keep it on this machine, with a backup")
	t.Row(dir.spare(), "move off line now: replaces a lost or stolen owner key")
	t.Row(dir.recovery(), "move off line now: reads every reading of the fleet")
	t.Row(dir.bundle(), "public: every member keeps a copy")
	t.Flush()
	if !protected {
		fmt.Fprintf(a.err, "\nthe keys have no passphrase: whoever reads these files is the owner\n")
	}
	fmt.Fprintf(a.err, "\nnext, on the first hub:  streembitd id --state /var/lib/streembit\nthen, here:              streembit fleet grant ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321\n")
}

// newSpare makes a spare owner key in a file that does not count yet.
func (d *desk) newSpare(ctx context.Context) (key journal.SoftKey, path string, err error) {
	passphrase, err := d.pass.choose(ctx, "the new spare key")
	if err != nil {
		return key, "", err
	}
	key, text, err := fleet.NewKey()
	if err != nil {
		return key, "", err
	}
	path = d.dir.spare() + ".new"
	return key, path, d.app.writeKey(path, text, passphrase)
}
