// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Code is a program's exit status, what scripts see.
type Code int

// The exit codes of both programs.
const (
	OK          Code = 0
	Failure     Code = 1 // anything not named below
	Misuse      Code = 2 // the command line or a config cannot be meant
	Unreachable Code = 3 // nobody answers
	Refused     Code = 4 // somebody who could answer said no
	Unverified  Code = 5 // something is missing or does not prove what it claims
)

// usageError is a command line or a config that cannot be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// Usage marks err as one that the caller mends by calling otherwise.
func Usage(err error) error { return &usageError{err} }

// Usagef is Usage of fmt.Errorf.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// tryError is an error together with the command that helps.
type tryError struct {
	err error
	try string
}

func (e *tryError) Error() string { return e.err.Error() }
func (e *tryError) Unwrap() error { return e.err }

// Try adds to err what to try next: a command that can be pasted, or a few words where no command helps.
func Try(err error, format string, args ...any) error {
	return &tryError{err, fmt.Sprintf(format, args...)}
}

// Tried reports whether err says already what to try.
func Tried(err error) bool { return Is[*tryError](err) }

// Kind says how a kind of error ends the program, and what to try where the error itself does not say.
type Kind struct {
	Is   func(error) bool
	Code Code
	Try  string
}

// Is matches errors that have a T in their tree.
func Is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// Wraps matches errors that wrap one of targets.
func Wraps(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

// Program is one of the programs as far as its end goes.
type Program struct {
	Name  string
	Kinds []Kind // the first that fits counts; misuse and an interruption are known without
}

// Report tells a person what went wrong and what to try, and returns the exit code. It writes nothing for nil.
func (p Program) Report(w io.Writer, err error) Code {
	if err == nil {
		return OK
	}
	k := p.kind(err)
	try := k.Try
	if t, ok := errors.AsType[*tryError](err); ok {
		try = t.try
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(w, "%s: %v\ntry: %s\n", p.Name, err, try)
	return k.Code
}

// Code is the exit code with which an error would end the program.
func (p Program) Code(err error) Code {
	if err == nil {
		return OK
	}
	return p.kind(err).Code
}

func (p Program) kind(err error) Kind {
	help := p.Name + " --help"
	switch {
	case Is[*usageError](err):
		return Kind{Code: Misuse, Try: help}
	case errors.Is(err, context.Canceled):
		return Kind{Code: Failure, Try: "the same command again"}
	}
	for _, k := range p.Kinds {
		if k.Is(err) {
			return k
		}
	}
	return Kind{Code: Failure, Try: help}
}
