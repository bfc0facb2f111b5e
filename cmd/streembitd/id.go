// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
)

func newIDCommand() *cobra.Command {
	var state string
	var asJSON bool
	c := &cobra.Command{
		Use:   "id",
		Short: "Show this member's id; makes its key the first time",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := os.MkdirAll(state, 0o700); err != nil {
				return cli.Try(fmt.Errorf("making state folder: %w", err), "--state with a folder that you may write to")
			}
			path := filepath.Join(state, "key.pem")
			key, err := fleet.LoadOrCreateKey(path)
			if err != nil {
				return keyError(err, state)
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), map[string]string{"id": key.ID().String(), "key": path})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n\nThe owner adds it with:\n  streembit fleet add %s --role device --name NAME\nthen copy the owner's fleet.cbor to %s\n",
				key.ID(), key.ID(), filepath.Join(state, "fleet.cbor"))
			return err
		},
	}
	c.Flags().StringVar(&state, "state", defaultState, "state folder")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// keyError adds what helps: a missing key is made, an exposed one is hidden again.
func keyError(err error, state string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.Try(err, "streembitd id --state %s", cli.Quote(state))
	case errors.Is(err, fleet.ErrExposedKey):
		return cli.Try(err, "chmod 600 %s", cli.Quote(filepath.Join(state, "key.pem")))
	}
	return err
}

// defaultState is where the service keeps its state.
const defaultState = "/var/lib/streembit"
