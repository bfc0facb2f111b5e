// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/boards"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/pinned"
	"github.com/streembit/edge/ota/slots"
)

func newSuperviseCommand() *cobra.Command {
	times, limits := slots.Usual(), slots.UsualLimits()
	var root, state, first string
	memory := size(0)
	c := &cobra.Command{
		Use:   "supervise [flags] -- run [flags of run]",
		Short: "Run the agent and its updates without systemd, for containers",
		Long: `Runs the current release as a child, starts it again when it ends, and carries out updates: what was handed over is proven again, tried, and
committed or gone back from. With systemd the units streembitd.service and streembit-updater.service do that, better: there the agent cannot write
to its own program.

A folder without releases gets this very program as its first one.`,
		Args: cli.Args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if times.Window <= 0 || times.Deadline <= times.Window || times.Every <= 0 {
				return cli.Usagef("--window %s, --deadline %s: want a window above zero and a longer deadline", times.Window, times.Deadline)
			}
			limits.Memory = int64(memory)
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			logger := cli.Logger(os.Stderr, slog.LevelInfo).With("part", "supervisor")
			s, err := openSlots(root, first, logger)
			if err != nil {
				return err
			}
			return (&slots.Supervisor{Slots: s, State: state, Args: args, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr(),
				Times: times, Limits: limits, Logger: logger, Hangup: hangup}).Run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&root, "root", filepath.Join(defaultState, "releases"), "folder of the releases")
	f.StringVar(&state, "state", defaultState, "state folder of the agent")
	f.StringVar(&first, "version", version, "version of this program, if it does not know that itself")
	f.DurationVar(&times.Window, "window", times.Window, "for how long a new program must be healthy")
	f.DurationVar(&times.Deadline, "deadline", times.Deadline, "until when it must have been")
	f.DurationVar(&times.Every, "every", times.Every, "between two looks at inbox and health")
	f.DurationVar(&limits.Start, "start", limits.Start, "until the agent must be ready")
	f.DurationVar(&limits.Watchdog, "watchdog", limits.Watchdog, "for how long the agent's work may stand still")
	f.DurationVar(&limits.Stop, "stop", limits.Stop, "for how long the agent may take to end")
	f.Var(&memoryFlag{&memory}, "memory", "resident memory that the agent may use, for example 256MiB; none = no limit")
	return c
}

// memoryFlag is a size on the command line.
type memoryFlag struct{ *size }

func (m *memoryFlag) Set(s string) error { return m.UnmarshalText([]byte(s)) }
func (m *memoryFlag) String() string     { return "" }
func (m *memoryFlag) Type() string       { return "size" }

// openSlots opens the releases, with this program as the first one where there is none.
func openSlots(root, first string, logger *slog.Logger) (*slots.Slots, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	board, _ := boards.Detect(os.DirFS("/"))
	s, err := slots.Open(slots.Options{Root: root, Machine: ota.Machine{Arch: runtime.GOARCH, Board: board.ID},
		Prove: pinned.Trust{Dir: filepath.Join(root, "trust")}.Prove, Logger: logger})
	if err != nil {
		return nil, cli.Try(err, "--root with a folder that this user may write to")
	}
	if _, err := s.Trial(); err == nil || errors.Is(err, slots.ErrNoTrial) {
		return s, nil
	} else if !errors.Is(err, slots.ErrNoProgram) {
		return nil, err
	}
	v, err := ota.ParseVersion(first)
	if err != nil {
		return nil, cli.Try(cli.Usage(err), "streembitd supervise --version 1.2.3 -- run")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return s, s.Install(v, self)
}
