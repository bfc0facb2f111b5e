// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// exitCode is what scripts see.
type exitCode int

const (
	exitOK          exitCode = 0
	exitFailure     exitCode = 1 // anything not named below
	exitUsage       exitCode = 2 // the command line or a config cannot be meant
	exitUnreachable exitCode = 3 // no hub answers
	exitRefused     exitCode = 4 // somebody who could answer said no
	exitUnverified  exitCode = 5 // something is missing or does not prove what it claims
)

// usageError is a command line or a config that cannot be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// tryError is an error together with the command that helps.
type tryError struct {
	err error
	try string
}

func (e *tryError) Error() string { return e.err.Error() }
func (e *tryError) Unwrap() error { return e.err }

func withTry(err error, format string, args ...any) error {
	return &tryError{err, fmt.Sprintf(format, args...)}
}

// errUnverified is wrapped when readings are missing or do not verify.
var errUnverified = errors.New("not complete or not verified")

// outcome says how each kind of error ends the program and what to try if the error itself does not say. The first
// row that fits counts.
var outcome = []struct {
	is   func(error) bool
	code exitCode
	try  string
}{
	{is[*usageError], exitUsage, "streembit --help"},
	{wraps(context.Canceled), exitFailure, "the same command again"},
	{wraps(errUnverified, journal.ErrForeignSigner, journal.ErrTampered, journal.ErrFork, journal.ErrMalformed, journal.ErrNotCanonical,
		journal.ErrBadSeq, journal.ErrForeignChain, journal.ErrSealed), exitUnverified, "streembit pull all --format jsonl >/dev/null"},
	{is[*transport.Refusal], exitRefused, "streembit fleet show"},
	{wraps(fleet.ErrNotOwner, fleet.ErrWrongFleet, fleet.ErrRollback, fleet.ErrBadGrant, journal.ErrNotReader, journal.ErrWrongFleet), exitRefused, "streembit fleet show"},
	{wraps(transport.ErrUnreachable, transport.ErrNoHubs, collector.ErrNoHub), exitUnreachable, "streembit fleet show"},
	{wraps(fs.ErrNotExist), exitFailure, "streembit fleet init --name lab"},
	{func(error) bool { return true }, exitFailure, "streembit --help"},
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func wraps(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

// report tells a person what went wrong and what to try, and returns the exit code.
func report(w io.Writer, err error) exitCode {
	if err == nil {
		return exitOK
	}
	for _, o := range outcome {
		if !o.is(err) {
			continue
		}
		try := o.try
		if t, ok := errors.AsType[*tryError](err); ok {
			try = t.try
		}
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(w, "streembit: %v\ntry: %s\n", err, try)
		return o.code
	}
	return exitFailure
}
