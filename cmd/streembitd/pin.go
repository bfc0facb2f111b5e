// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Files of a member's fleet.
const (
	bundleName = "fleet.cbor"
	pinName    = "fleet.pin"
)

// pin is which fleet this member belongs to and how much of it was known: fleet.cbor may be put there by a person, and then
// neither another fleet's nor an older one counts. In the file: the fleet's id, a space, the version of its state.
type pin struct {
	Fleet   journal.FleetID
	Version uint64
}

// readPin returns the pin of a state folder; the zero one if there is none.
func readPin(state string) (p pin, err error) {
	path := filepath.Join(state, pinName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return pin{}, nil
	}
	if err != nil {
		return pin{}, fmt.Errorf("reading pin: %w", err)
	}
	id, version, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if p.Fleet, err = journal.ParseFleetID(id); err == nil {
		p.Version, err = strconv.ParseUint(version, 10, 64)
	}
	if err != nil {
		return pin{}, cli.Try(fmt.Errorf("reading pin %s: %w", path, err), "restore it from a backup, or streembitd reset --i-am-here --state %s", cli.Quote(state))
	}
	return p, nil
}

// save writes the pin durably.
func (p pin) save(state string) error {
	return fleet.WriteFile(filepath.Join(state, pinName), fmt.Appendf(nil, "%s %d\n", p.Fleet, p.Version), 0o644)
}

// check refuses what the pin rules out. The error wraps fleet.ErrWrongFleet or fleet.ErrRollback.
func (p pin) check(f *fleet.Fleet) error {
	switch {
	case p.Fleet == journal.FleetID{}:
		return nil
	case f.ID() != p.Fleet:
		return fmt.Errorf("this member belongs to fleet %s, not to %s %s: %w", p.Fleet, f.State().Name, f.ID(), fleet.ErrWrongFleet)
	case f.State().Version < p.Version:
		return fmt.Errorf("the fleet's state has version %d, this member has seen %d: %w", f.State().Version, p.Version, fleet.ErrRollback)
	}
	return nil
}

// loadFleet reads fleet.cbor and checks it by the pin, which it makes the first time. The error wraps fs.ErrNotExist only where there was no fleet ever.
func loadFleet(state string) (*fleet.Fleet, error) {
	p, err := readPin(state)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(state, bundleName)
	f, err := fleet.Load(path, journal.FleetID{}) // the pin says more of another fleet's
	reset := "streembitd reset --i-am-here --state " + cli.Quote(state)
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.Fleet != journal.FleetID{}:
		return nil, cli.Try(fmt.Errorf("%s of fleet %s is gone", path, p.Fleet), "copy it from the owner or another member; to leave the fleet: %s", reset)
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, cli.Try(err, "copy %s from the owner to %s", bundleName, path)
	}
	if err := p.check(f); err != nil {
		return nil, cli.Try(err, "copy %s from this member's owner to %s; to join another fleet: %s", bundleName, path, reset)
	}
	return f, pin{f.ID(), f.State().Version}.save(state)
}
