// SPDX-License-Identifier: Apache-2.0

// Command streembitd is the program for boards and always-on boxes: it runs the roles device and hub, and has the local
// commands that a technician needs there.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := withDocs(newRoot()).ExecuteContext(ctx)
	stop()
	os.Exit(int(outcome().Report(os.Stderr, err)))
}

// version is set by the Makefile.
var version = "devel"

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "streembitd",
		Short: "Streembit edge for boards: sensors in, signed readings out to the fleet",
		Long: `Streembit edge for boards and always-on boxes: sensors in, signed readings out to the fleet.

Exit codes: 0 ok, 1 failure, 2 usage, 3 unreachable, 4 refused, 5 verification failed.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs, RunE: cli.Group,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(cli.FlagError)
	root.AddCommand(newRunCommand(), newIDCommand(), newSensorsCommand(), newStatusCommand(), newNetCommand(), newAuditCommand(), newResetCommand(), newDoctorCommand(), newSuperviseCommand(), newUpdateCommand())
	return root
}

// outcome says how each kind of error ends streembitd and what to try if the error itself does not say.
func outcome() cli.Program {
	return cli.Program{Name: "streembitd", Kinds: []cli.Kind{
		{Is: cli.Wraps(transport.ErrUnreachable, errNotRunning, errNoHub), Code: cli.Unreachable, Try: "streembitd run --config FILE"},
		{Is: cli.Is[*transport.Refusal], Code: cli.Refused, Try: "streembitd status"},
		{Is: cli.Wraps(errSick), Code: cli.Failure, Try: "streembitd doctor"},
		{Is: cli.Wraps(errNotGranted), Code: cli.Refused, Try: "streembitd id"},
		{Is: cli.Wraps(journal.ErrForeignSigner, journal.ErrNotCanonical, journal.ErrMalformed, fleet.ErrNotOwner, fleet.ErrRollback, fleet.ErrWrongFleet),
			Code: cli.Unverified, Try: "copy fleet.cbor from the owner again"},
	}}
}
