// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/streembit/edge/cmd/internal/cli"
)

// app is what every command shares: where results and messages go, and how much is logged.
type app struct {
	out   io.Writer // results, nothing else
	err   *os.File  // progress, next steps, logs
	level string    // --log; "" = as the command thinks best
	work  int       // see scryptWork
}

func newApp() *app { return &app{out: os.Stdout, err: os.Stderr, work: scryptWork} }

// logger is the log on standard error. usual is the level when --log does not say: a command that
// ends with a report logs errors only, one that runs for days also what it got over.
func (a *app) logger(usual slog.Level) (*slog.Logger, error) {
	level := usual
	if a.level != "" {
		if err := level.UnmarshalText([]byte(a.level)); err != nil {
			return nil, cli.Try(cli.Usagef("--log %q: want debug, info, warn or error", a.level), "streembit --log info pull")
		}
	}
	return cli.Logger(a.err, level), nil
}

// version is set by the linker (Makefile).
var version = "devel"

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "streembit",
		Short: "Signed sensor readings that survive the device, the hub and the server",
		Long: `Streembit edge for people and servers. Boards and hubs run streembitd.

See it work on this machine:   streembit demo
Begin a fleet:                 streembit fleet init --name lab

Every flag can also be set in the environment: --state as STREEMBIT_STATE.
Exit codes: 0 ok, 1 failure, 2 usage, 3 unreachable, 4 refused, 5 verification failed.`,
		Version:       version,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs, RunE: cli.Group,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnv(cmd); err != nil {
				return err
			}
			_, err := a.logger(slog.LevelError) // a wrong level is a usage error for every command
			return err
		},
	}
	root.SetFlagErrorFunc(cli.FlagError)
	root.PersistentFlags().StringVar(&a.level, "log", "", "`level` of the log on standard error: debug, info, warn, error")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newFleet(a), newEnroll(a), newAudit(a), newID(a), newPull(a), newCollect(a), newRewrap(a),
		newDevices(a), newDescribe(a), newGet(a), newSet(a), newCall(a), newWatch(a), newPing(a), newConfig(a), newOta(a), newDemo(a))
	return root
}

// need returns a usage error unless all the flags were given.
func need(cmd *cobra.Command, example string, flags ...string) error {
	for _, name := range flags {
		if !cmd.Flags().Changed(name) {
			return cli.Try(cli.Usagef("%s: --%s is missing", cmd.CommandPath(), name), "%s %s", cmd.CommandPath(), example)
		}
	}
	return nil
}

// envKey annotates a flag whose variable is not named like itself.
const envKey = "env"

// fromEnv sets the flags that were not given from STREEMBIT_*.
func fromEnv(cmd *cobra.Command) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		key := "STREEMBIT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if own := f.Annotations[envKey]; len(own) > 0 {
			key = own[0]
		}
		value, set := os.LookupEnv(key)
		if !set || f.Changed || err != nil || f.Name == "help" {
			return
		}
		if e := cmd.Flags().Set(f.Name, value); e != nil {
			err = cli.Try(cli.Usagef("%s=%q: %w", key, value, e), "unset %s", key)
		}
	})
	return err
}

// configDir returns the folder in which a person's files are by default.
func configDir(name string) string {
	dir, err := os.UserConfigDir()
	if err != nil { // neither $HOME nor $XDG_CONFIG_HOME: a service; it names its folder anyway
		dir = "."
	}
	return filepath.Join(dir, "streembit", name)
}
