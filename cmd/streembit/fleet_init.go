// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
)

func newFleetInit(a *app) *cobra.Command {
	var name, dir string
	cmd := &cobra.Command{
		Use:     "init --name NAME",
		Short:   "Found a fleet: owner, spare and recovery keys, and the signed bundle",
		Example: "  streembit fleet init --name lab",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "--name lab", "name"); err != nil {
				return err
			}
			f, err := foundFleet(fleetDir(dir), name, time.Now())
			if err != nil {
				return err
			}
			printFounded(a, fleetDir(dir), f)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the fleet, for people")
	dirFlag(cmd, &dir)
	return cmd
}

// foundFleet makes the keys and the bundle in an empty place; it replaces nothing. The bundle comes last, so an
// interrupted run leaves keys that no fleet names yet, and says so when it is started again.
func foundFleet(dir fleetDir, name string, now time.Time) (*fleet.Fleet, error) {
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return nil, fmt.Errorf("founding fleet: %w", err)
	}
	for _, path := range []string{dir.bundle(), dir.owner(), dir.spare(), dir.recovery()} {
		if _, err := os.Lstat(path); err == nil {
			return nil, cli.Try(fmt.Errorf("founding fleet: %s: %w, and nothing is overwritten", path, fs.ErrExist),
				"streembit fleet show --dir %s", cli.Quote(string(dir)))
		}
	}
	owner, err := fleet.LoadOrCreateKey(dir.owner())
	if err != nil {
		return nil, err
	}
	spare, err := fleet.LoadOrCreateKey(dir.spare())
	if err != nil {
		return nil, err
	}
	recovery, err := fleet.LoadOrCreateReaderKey(dir.recovery())
	if err != nil {
		return nil, err
	}
	f, err := fleet.Found(fleet.Founding{Name: name, Owner: owner, Spare: spare.ID(), Recovery: recovery.Public()}, now)
	if err != nil {
		for _, path := range []string{dir.owner(), dir.spare(), dir.recovery()} {
			_ = os.Remove(path) // made a moment ago, nobody knows them
		}
		return nil, cli.Try(cli.Usage(err), "streembit fleet init --name lab")
	}
	return f, f.Save(dir.bundle())
}

func printFounded(a *app, dir fleetDir, f *fleet.Fleet) {
	fmt.Fprintf(a.out, "fleet %s  %s\n\n", f.State().Name, f.ID())
	t := cli.NewTable(a.out)
	t.Row(dir.owner(), "signs what you add: keep it on this machine, with a backup")
	t.Row(dir.spare(), "move off line now: replaces a lost or stolen owner key")
	t.Row(dir.recovery(), "move off line now: reads every reading of the fleet")
	t.Row(dir.bundle(), "public: every member keeps a copy")
	t.Flush()
	fmt.Fprintf(a.err, "\nnext, on the first hub:  streembitd id --state /var/lib/streembit\nthen, here:              streembit fleet add ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321\n")
}
