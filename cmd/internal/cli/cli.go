// SPDX-License-Identifier: Apache-2.0

// Package cli is what the programs have in common towards a person and a script: exit codes, errors that name the next
// command to try, tables and JSON. What an error of the fleet or the network means, each program says itself (Program).
package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Args wraps one of cobra's argument checks so that its error counts as usage.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return FlagError(cmd, err)
		}
		return nil
	}
}

// FlagError makes an error of cobra's a usage error that points to the command's help; for SetFlagErrorFunc.
func FlagError(cmd *cobra.Command, err error) error {
	return Try(Usage(err), "%s --help", cmd.CommandPath())
}

// Group is the RunE of a command that only holds others, together with cobra.ArbitraryArgs: without a name it shows
// help, with one it does not know it says which was probably meant.
func Group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	try := cmd.CommandPath() + " --help"
	if cmd.SuggestionsMinimumDistance == 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		try = cmd.CommandPath() + " " + s[0]
	}
	return Try(Usagef("unknown command %q for %q", args[0], cmd.CommandPath()), "%s", try)
}

// Logger writes to w from level on: text where a person reads it in a terminal, JSON lines for a machine.
func Logger(w *os.File, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if term.IsTerminal(int(w.Fd())) {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// PrintJSON writes v for programs, indented.
func PrintJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("cli: writing JSON: %w", err)
	}
	return nil
}
