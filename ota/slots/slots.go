// SPDX-License-Identifier: Apache-2.0

// Package slots puts a program beside the running one, tries it, and commits it or goes back.
//
// Below a folder that only the updater may write to:
//
//	releases/1.5.0-0123abcd/streembitd   a program, proven and complete, and release.json, which says what it is
//	current -> releases/…                what runs
//	good -> releases/…                   what is gone back to
//	ledger.json                          failed programs, the security floor, the trial
//	outcome.json                         ota.Progress, for the agent to tell
//
// The two links are the truth: a trial goes on exactly while they differ. Each is replaced by one rename, after everything that it leads to is on the
// disk, so that after a power cut at any moment one of two complete programs runs. What is damaged is left aside and the good program runs.
// No decision asks for the time of day, which a board without a battery does not have: a trial's times are monotonic, and across
// starts of the machine it is bounded by counting them.
//
// Only PrepareAndCheckBinary of minio/selfupdate is used. Its CommitBinary renames the old program away before it renames the new one in, and syncs nothing.
package slots

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/streembit/edge/ota"
)

// ProgramName is the name of the program in each release's folder.
const ProgramName = "streembitd"

// Names in the root folder.
const (
	releasesName = "releases"
	currentName  = "current"
	goodName     = "good"
	ledgerName   = "ledger.json"
	outcomeName  = "outcome.json"
	lockName     = "lock"
	stagingLock  = "staging.lock"
	proofName    = "proof"
)

// Errors of this package.
var (
	ErrBusy      = errors.New("another update is under way")
	ErrNoProgram = errors.New("there is no complete program")
	ErrNoTrial   = errors.New("no program is on trial")
)

// Options is what Slots need.
type Options struct {
	Root    string // absolute; only the user of the updater may write to it
	Machine ota.Machine
	// Prove returns the program at a TUF path, as the metadata in the folder prove it by what the updater itself trusts.
	Prove  func(ctx context.Context, folder, path string) (ota.Artifact, error)
	Logger *slog.Logger
	// Before is told of each call that changes the disk; an error stops the work there. It is for trials of power cuts, nil for nothing.
	Before func(call, path string) error
}

// Slots is the releases folder. Its methods may be called from several processes and goroutines: a lock that the kernel drops with its
// holder keeps them apart.
type Slots struct {
	o    Options
	disk disk
}

// Open prepares the folder and changes nothing that is there. Close is not needed.
func Open(o Options) (*Slots, error) {
	if !filepath.IsAbs(o.Root) || o.Logger == nil {
		return nil, fmt.Errorf("slots: root %q: want an absolute path, and a logger", o.Root)
	}
	s := &Slots{o: o, disk: disk{o.Before}}
	if err := os.MkdirAll(s.path(releasesName), 0o755); err != nil {
		return nil, fmt.Errorf("slots: making the folder of releases: %w", err)
	}
	return s, nil
}

func (s *Slots) path(names ...string) string {
	return filepath.Join(append([]string{s.o.Root}, names...)...)
}

// Program is the path of the program that runs, through the link.
func (s *Slots) Program() string { return s.path(currentName, ProgramName) }

// Outcome returns how far the last update is; Idle when there was none.
func (s *Slots) Outcome() (ota.Progress, error) {
	p := ota.Progress{Stage: ota.Idle}
	if err := readChecked(s.path(outcomeName), &p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("slots: reading the outcome: %w", err)
	}
	return p, nil
}

// ReadOutcome is Outcome of a folder, for those who may not write there: the agent.
func ReadOutcome(root string) (ota.Progress, error) {
	return (&Slots{o: Options{Root: root}}).Outcome()
}

// conclude says how far the update is, on disk and in the log. That it cannot be written changes nothing of the update.
func (s *Slots) conclude(p ota.Progress) {
	if err := s.disk.writeChecked(s.path(outcomeName), p); err != nil {
		s.o.Logger.Error("the outcome cannot be written", "err", err)
	}
	s.o.Logger.Info("update", "stage", p.Stage, "version", p.Version, "wanted", p.Wanted, "reason", p.Reason, "detail", p.Detail)
}

// Refusal says why a program is not installed. It wraps the cause.
type Refusal struct {
	Reason ota.Reason
	Err    error
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("slots: not installed (%s): %v", r.Reason, r.Err)
}
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(reason ota.Reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Errorf(format, args...)}
}
