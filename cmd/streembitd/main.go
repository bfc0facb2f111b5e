// SPDX-License-Identifier: Apache-2.0

// Command streembitd is the program for boards and always-on boxes: it runs the roles device and hub, and has the local
// commands that a technician needs there.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Exit codes, the same as streembit's.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitUnverified  = 5
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "streembitd:", err)
		return exitCode(err)
	}
	return 0
}

// version is set by the Makefile.
var version = "dev"

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "streembitd",
		Short:         "Streembit edge for boards: sensors in, signed readings out to the fleet",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\ntry: %s --help", err, c.CommandPath())}
	})
	root.AddCommand(newRunCommand(), newIDCommand(), newSensorsCommand(), newStatusCommand())
	for _, c := range root.Commands() {
		requireKnownArgs(c)
	}
	requireKnownArgs(root)
	return root
}

// requireKnownArgs makes wrong arguments a usage error with the next command to try.
func requireKnownArgs(c *cobra.Command) {
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		var err error
		if check != nil {
			err = check(c, args)
		} else {
			err = cobra.NoArgs(c, args)
		}
		if err != nil {
			return usageError{fmt.Errorf("%w\ntry: %s --help", err, c.CommandPath())}
		}
		return nil
	}
	for _, sub := range c.Commands() {
		if c.HasParent() {
			requireKnownArgs(sub)
		}
	}
	if c.RunE == nil {
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
}

// usageError marks what the caller can mend by calling otherwise.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func exitCode(err error) int {
	var usage usageError
	var refusal *transport.Refusal
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, transport.ErrUnreachable), errors.Is(err, errNotRunning):
		return exitUnreachable
	case errors.As(err, &refusal), errors.Is(err, errNotGranted):
		return exitRefused
	case errors.Is(err, journal.ErrForeignSigner), errors.Is(err, journal.ErrNotCanonical), errors.Is(err, journal.ErrMalformed),
		errors.Is(err, fleet.ErrNotOwner), errors.Is(err, fleet.ErrRollback), errors.Is(err, fleet.ErrWrongFleet):
		return exitUnverified
	}
	return exitFailure
}
