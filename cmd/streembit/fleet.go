// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// fleetDir is the folder in which an owner or an operator keeps a fleet. Only bundle ever leaves it.
type fleetDir string

func (d fleetDir) owner() string    { return filepath.Join(string(d), "owner.key") }
func (d fleetDir) spare() string    { return filepath.Join(string(d), "spare.key") }
func (d fleetDir) recovery() string { return filepath.Join(string(d), "recovery.key") }
func (d fleetDir) bundle() string   { return filepath.Join(string(d), bundleName) }
func (d fleetDir) key() string      { return filepath.Join(string(d), fleet.KeyFile) } // an operator's
func (d fleetDir) life() string     { return filepath.Join(string(d), "life") }
func (d fleetDir) audit() string    { return filepath.Join(string(d), "audit") }
func (d fleetDir) tokens() string   { return filepath.Join(string(d), "tokens") }
func (d fleetDir) restored() string { return filepath.Join(string(d), "restored") } // see errRestored

// bundleName is the file that every member keeps in its state folder.
const bundleName = "fleet.cbor"

func (d fleetDir) load() (*fleet.Fleet, error) {
	f, err := fleet.Load(d.bundle(), journal.FleetID{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Try(err, "streembit fleet init --name lab --dir %s", cli.Quote(string(d)))
	}
	return f, err
}

func newFleet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Found a fleet, grant and revoke, show who may do what",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newFleetInit(a), newFleetGrant(a), newFleetRevoke(a), newFleetRekey(a), newFleetRotate(a), newFleetOperator(a), newFleetKeep(a),
		newFleetShow(a), newFleetLog(a), newFleetSync(a), newFleetBackup(a), newFleetRestore(a))
	return cmd
}

// dirFlag adds --dir, which $STREEMBIT_FLEET sets too.
func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", configDir("fleet"), "`folder` of the fleet's keys and bundle ($STREEMBIT_FLEET)")
	cmd.Flags().Lookup("dir").Annotations = map[string][]string{envKey: {"STREEMBIT_FLEET"}}
}
