// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/device"
)

func newUpdateCommand() *cobra.Command {
	var state, from string
	c := &cobra.Command{
		Use:   "update [--from FILE]",
		Short: "Show and steer the update of this program",
		Long: `Updates come by themselves, when an operator rolls them out. With --from a bundle of streembit ota bundle is installed, for example from a USB
stick: it is proven as what comes by the network, only rollout and quiet hours are not asked.`,
		Example: "  streembitd update check\n  streembitd update --from /media/usb/streembit-1.4.0.tar",
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if from == "" {
				return cli.Group(c, args)
			}
			if len(args) > 0 {
				return cli.Usagef("--from goes without %q", args[0])
			}
			return updateFrom(c.Context(), c.OutOrStdout(), state, from)
		},
	}
	c.PersistentFlags().StringVar(&state, "state", defaultState, "state folder")
	c.Flags().StringVar(&from, "from", "", "install what is in a bundle `file`")
	c.AddCommand(newUpdateStatus(&state), newUpdateCheck(&state))
	return c
}

func newUpdateStatus(state *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show which version runs, which is wanted, and how far the update is",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := askStatus(c.Context(), *state)
			if err != nil {
				return err
			}
			var s status
			if err := json.Unmarshal(data, &s); err != nil {
				return fmt.Errorf("reading status: %w", err)
			}
			if s.Update == nil {
				return cli.Try(errNoUpdater, "streembitd status")
			}
			return printUpdate(c.OutOrStdout(), *s.Update, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newUpdateCheck(state *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Look at once for what is new",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			answer, err := askUpdate(c.Context(), *state, updateAsk{Do: "check"})
			if err != nil {
				return err
			}
			return printUpdate(c.OutOrStdout(), answer.Status, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func updateFrom(ctx context.Context, out io.Writer, state, from string) error {
	path, err := filepath.Abs(from)
	if err != nil {
		return fmt.Errorf("finding %s: %w", from, err)
	}
	answer, err := askUpdate(ctx, state, updateAsk{Do: "from", Path: path})
	if errors.Is(err, errNotRunning) {
		return cli.Try(err, "systemctl start streembitd: the program that runs proves the bundle, and is gone back to if the new one fails")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is proven and will be installed; it is kept if it is as healthy as what runs now\n", answer.Taken)
	fmt.Fprintf(out, "streembitd update status%s shows how it goes\n", stateArg(state))
	return nil
}

func stateArg(state string) string {
	if state == defaultState {
		return ""
	}
	return " --state " + cli.Quote(state)
}

func printUpdate(out io.Writer, s device.Status, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(out, s)
	}
	writeUpdate(out, s)
	return nil
}

// writeUpdate is a few lines for a person.
func writeUpdate(out io.Writer, s device.Status) {
	p := s.Progress
	text := string(p.Stage)
	if p.Stage == ota.Fetching && s.Fetching != nil {
		text = fmt.Sprintf("fetching, %d %% from %d sources (%s from neighbours, %s from others)", s.Fetching.Percent, s.Fetching.Sources, bytesText(s.Fetching.Near), bytesText(s.Fetching.Far))
	}
	if p.Reason != "" {
		text += ": " + string(p.Reason)
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	runs := string(p.Version)
	if runs == "" {
		runs = "a version without a number"
	}
	fmt.Fprintf(out, "update: channel %s, %s runs", s.Channel, runs)
	if p.Wanted != "" {
		fmt.Fprintf(out, ", %s is wanted", p.Wanted)
	}
	fmt.Fprintf(out, ", %s\n", text)
	if s.Rollout != "" {
		fmt.Fprintf(out, "  rollout: %s\n", s.Rollout)
	}
	if s.Programs > 0 {
		fmt.Fprintf(out, "  programs: %d of %d that are signed are here\n", s.Complete, s.Programs)
	}
	if !s.Checked.IsZero() {
		fmt.Fprintf(out, "  checked %s ago\n", time.Since(s.Checked).Round(time.Second))
	}
	if s.Error != "" {
		fmt.Fprintf(out, "  the last look failed: %s\n", s.Error)
	}
}
