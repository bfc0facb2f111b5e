// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/streembit/edge/ota"
)

// ErrNewer is wrapped when a newer program is in place than the one that is to be installed.
var ErrNewer = errors.New("a newer program is in place")

// Upgrade puts a program in place that an administrator of the machine brings, by a package or by hand: nothing signed proves it but the right to run this.
// Where there is no program it is the first one (Install). A newer one than what runs goes on trial if the agent has told its health below state, as an update would,
// and is at once what is gone back to where none has run. back allows an older one. The error wraps ErrNewer, ErrBusy during a trial, and is nil if this very
// program runs already.
func (s *Slots) Upgrade(version ota.Version, program, state string, back bool) error {
	err := s.Install(version, program)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	a, err := artifactOf(version, program)
	if err != nil {
		return err
	}
	staged, err := s.bring(a, program, state, back)
	if err != nil || staged == nil {
		return err
	}
	if err := s.Flip(staged); err != nil {
		return err
	}
	if staged.baseline.ID != "" {
		return nil
	}
	t, err := s.Trial() // nobody runs whose health could be watched
	if err != nil {
		return err
	}
	return s.Commit(t)
}

// bring puts the program beside the running one; nil if it is that one.
func (s *Slots) bring(a ota.Artifact, program, state string, back bool) (*Staged, error) {
	unlock, err := lock(s.path(stagingLock), false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	to := releaseOf(a)
	if same, err := s.newer(to, back); err != nil || same {
		return nil, err
	}
	f, err := os.Open(program)
	if err != nil {
		return nil, fmt.Errorf("slots: installing: %w", err)
	}
	err = s.disk.removeAll(s.folder(to.name)) // of an attempt that was cut off
	if err == nil {
		err = s.fill(f, to, a.Hash[:])
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, s.sweep())
	}
	h := readHealth(state)
	return &Staged{to, Baseline{ID: h.ID, Sensors: h.Sensors, Hub: h.Hub}}, nil
}

// newer returns an error unless the release may take the place of what runs; same: it is what runs.
func (s *Slots) newer(to release, back bool) (same bool, err error) {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return false, err
	}
	defer unlock()
	st, err := s.settle()
	switch {
	case err != nil:
		return false, err
	case st.trying():
		return false, fmt.Errorf("slots: %s is on trial: %w", st.current.Version, ErrBusy)
	case to.name == st.current.name:
		return true, nil
	case !back && to.Version.Compare(st.current.Version) < 0:
		return false, fmt.Errorf("slots: %s runs, %s would be older: %w", st.current.Version, to.Version, ErrNewer)
	}
	return false, s.prune(st.current, st.good)
}
