// SPDX-License-Identifier: Apache-2.0

// Package ota names what the parts of an update speak about: a version, a program of a release, the machine it is for, and how far a device is.
// The parts are its sub-folders: trust proves metadata and programs (TUF), chunks and swarm bring them from whoever has them, rollout says which
// device takes which release when, slots puts a program beside the running one, tries it, and commits it or goes back.
package ota

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// Version is a version by Semantic Versioning 2.0.0, without a leading v: "1.4.0", "1.5.0-rc.1".
type Version string

// maxVersion bounds a version, in bytes: it is part of file names.
const maxVersion = 64

// ParseVersion refuses what is no complete version. Build metadata ("+…") does not count in comparisons, so that it is refused too.
func ParseVersion(s string) (Version, error) {
	v := "v" + s
	if len(s) > maxVersion || !semver.IsValid(v) || semver.Build(v) != "" || semver.Canonical(v) != v {
		return "", fmt.Errorf("ota: version %.80q: want Semantic Versioning, for example 1.4.0 or 1.5.0-rc.1", s)
	}
	return Version(s), nil
}

// Compare returns -1, 0 or 1. The empty version is below all others.
func (v Version) Compare(o Version) int {
	switch {
	case v == o:
		return 0
	case v == "":
		return -1
	case o == "":
		return 1
	}
	return semver.Compare("v"+string(v), "v"+string(o))
}

// MaxProgram bounds a program, in bytes: a board of 512 MB holds one in memory, once, when it is installed.
const MaxProgram = 96 << 20

// Machine is what a program runs on.
type Machine struct {
	Arch  string // GOARCH: arm (built for GOARM=6), arm64, amd64, riscv64
	Board string // id in package boards; "" = not known
}

// Artifact is one program of a release for one kind of machine, as the signed targets metadata describe it.
type Artifact struct {
	Path    string // of the TUF target: "streembitd/1.4.0/linux-arm64"
	Version Version
	Channel string   // e.g. "stable": what the right to update is about
	Arch    string   // as in Machine
	Boards  []string // none = every board of the architecture
	Size    int64    // bytes of the program
	Hash    [32]byte // SHA-256 of the program
	Tree    [32]byte // SHA-256 of the concatenated SHA-256 hashes of its chunks (package chunks)
	Floor   Version  // once this runs, nothing below is installed any more; "" = none
	Notes   string   // for people
}

// ErrUnfit is wrapped when a program is for another kind of machine.
var ErrUnfit = errors.New("this program is for another kind of machine")

// Fits returns nil if the program is for that machine; the error wraps ErrUnfit.
func (a *Artifact) Fits(m Machine) error {
	if a.Arch != m.Arch {
		return fmt.Errorf("ota: %s is for %s, this is %s: %w", a.Path, a.Arch, m.Arch, ErrUnfit)
	}
	if len(a.Boards) > 0 && !slices.Contains(a.Boards, m.Board) {
		return fmt.Errorf("ota: %s is for %s, this board is %q: %w", a.Path, strings.Join(a.Boards, ", "), m.Board, ErrUnfit)
	}
	return nil
}

// ErrBelowFloor is wrapped when a program is below the security floor.
var ErrBelowFloor = errors.New("it is below the security floor: a later version mended what must not come back")

// Above returns nil unless the program's version is below a security floor, "" = none. The error wraps ErrBelowFloor.
func (a *Artifact) Above(floor Version) error {
	if a.Version.Compare(floor) < 0 {
		return fmt.Errorf("ota: %s is below %s: %w", a.Path, floor, ErrBelowFloor)
	}
	return nil
}

// Stage is how far a device is with an update.
type Stage string

// The stages, in order. A device that runs what is wanted is at Idle.
const (
	Idle       Stage = "idle"
	Waiting    Stage = "waiting"     // for its wave, for quiet hours, for space, for its metadata to be renewed: Reason says
	Fetching   Stage = "fetching"    // Percent counts
	Staged     Stage = "staged"      // complete and proven, handed to the helper
	Trying     Stage = "trying"      // runs, not yet committed
	Committed  Stage = "committed"   // healthy: this is now what is gone back to
	RolledBack Stage = "rolled-back" // Reason says why
	Refused    Stage = "refused"     // not installed: Reason says why
)

// Reason is a code for why a device does not run what is wanted; texts for people stand beside it.
type Reason string

// The reasons.
const (
	ReasonWave      Reason = "not-in-wave"
	ReasonPaused    Reason = "paused"
	ReasonQuiet     Reason = "quiet-hours"
	ReasonSpace     Reason = "no-space"
	ReasonExpired   Reason = "metadata-expired"
	ReasonNoClock   Reason = "no-clock"
	ReasonProof     Reason = "not-proven"
	ReasonUnfit     Reason = "wrong-machine"
	ReasonFloor     Reason = "below-security-floor"
	ReasonFailed    Reason = "failed-before"
	ReasonCrashed   Reason = "crashed"       // ended or was killed too often while on trial
	ReasonHung      Reason = "watchdog"      // did not feed the watchdog
	ReasonMemory    Reason = "out-of-memory" // killed by the kernel or its limit
	ReasonSensors   Reason = "sensors"       // fewer sensors deliver than before
	ReasonHub       Reason = "hub"           // a hub was reachable before, and no segment was acknowledged
	ReasonConfig    Reason = "config"        // it did not read its config or lost its identity
	ReasonTimeout   Reason = "not-healthy"   // none of the above in time
	ReasonOperator  Reason = "operator"      // an operator wanted it
	ReasonDamaged   Reason = "state-damaged" // the state on disk could not be read: the last good one runs
	ReasonNoSources Reason = "no-source"     // nobody who was asked has it
	ReasonDisk      Reason = "disk"          // a file could not be read or written
	ReasonSame      Reason = "runs-already"  // it is what runs
)

// Progress is where a device stands, as it tells the fleet and keeps on disk.
type Progress struct {
	Version Version `json:"version"`          // that runs
	Wanted  Version `json:"wanted,omitempty"` // by the rollout; "" = nothing
	Stage   Stage   `json:"stage"`
	Percent int     `json:"percent,omitempty"` // 0 to 100, of Fetching
	Reason  Reason  `json:"reason,omitempty"`
	Detail  string  `json:"detail,omitempty"` // for people
	At      int64   `json:"at,omitempty"`     // ms since 1970, 0 = the clock was not right
}
