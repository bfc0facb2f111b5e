// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/streembit/edge/ota"
)

// Boot is called before each start of the agent. It returns the path of the program that is to run, having finished what was left unfinished. A start
// while a program is on trial and its last run was not seen to end counts as an unclean end, whatever ended it: a crash, a kill, the machine's power.
func (s *Slots) Boot() (program string, err error) {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return "", err
	}
	defer unlock()
	st, err := s.settle()
	if err != nil {
		return "", err
	}
	if !st.trying() {
		return s.Program(), nil
	}
	if err := s.intact(st.current); err != nil {
		return s.Program(), s.back(st, ota.ReasonDamaged, err.Error())
	}
	t := st.ledger.Trial
	if t.Running {
		t.unclean(ota.ReasonCrashed, "its end was not seen: the machine stopped, or nobody watched")
	}
	if back, err := s.spent(st); back || err != nil {
		return s.Program(), err
	}
	t.Running = true
	return s.Program(), s.saveLedger(&st.ledger)
}

// Ended is called after each end of the agent. clean: it was told to, or ended without an error; else why says how it ended. The third unclean end
// of a program on trial has the good one run from the next start on.
func (s *Slots) Ended(clean bool, why ota.Reason, detail string) error {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.settle()
	if err != nil || !st.trying() || !st.ledger.Trial.Running {
		return err
	}
	t := st.ledger.Trial
	t.Running = false
	if !clean {
		t.unclean(why, detail)
	}
	if back, err := s.spent(st); back || err != nil {
		return err
	}
	return s.saveLedger(&st.ledger)
}

func (t *Trial) unclean(why ota.Reason, detail string) {
	t.Unclean++
	t.Running = false
	t.Why, t.Detail = why, detail
}

// spent goes back if the program on trial has ended uncleanly too often.
func (s *Slots) spent(st *standing) (back bool, err error) {
	t := st.ledger.Trial
	if t.Unclean < maxUnclean {
		return false, nil
	}
	return true, s.back(st, t.Why, fmt.Sprintf("it ended uncleanly %d times, the last time: %s", t.Unclean, t.Detail))
}

// Install puts the first program in place, which comes with the system and not by an update. It refuses where there is one.
func (s *Slots) Install(version ota.Version, program string) error {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.linked(goodName); err == nil {
		return fmt.Errorf("slots: %s has a program already: %w", s.o.Root, fs.ErrExist)
	}
	a, err := artifactOf(version, program)
	if err != nil {
		return err
	}
	f, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("slots: installing: %w", err)
	}
	to := releaseOf(a)
	err = s.disk.removeAll(s.folder(to.name)) // of an attempt that was cut off
	if err == nil {
		err = s.fill(f, to, a.Hash[:])
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.saveLedger(&ledger{}); err != nil {
		return err
	}
	if err := s.link(goodName, to); err != nil {
		return err
	}
	return s.link(currentName, to)
}

// artifactOf describes a program that its owner vouches for.
func artifactOf(version ota.Version, program string) (a ota.Artifact, err error) {
	info, err := os.Stat(program)
	if err != nil {
		return a, fmt.Errorf("slots: installing: %w", err)
	}
	if info.Size() == 0 || info.Size() > ota.MaxProgram {
		return a, fmt.Errorf("slots: installing %s: %d bytes, want 1 to %d", program, info.Size(), ota.MaxProgram)
	}
	sum, err := hashOf(program)
	if err != nil {
		return a, fmt.Errorf("slots: installing: %w", err)
	}
	return ota.Artifact{Version: version, Size: info.Size(), Hash: sum}, nil
}

// Failed reports whether the updater of a root folder has tried a program, by the SHA-256 of it in hex, and gone back from it. The agent asks
// before it fetches one. A damaged ledger remembers nothing.
func Failed(root, hash string) (bool, error) {
	var l ledger
	err := readChecked((&Slots{o: Options{Root: root}}).path(ledgerName), &l)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return false, fmt.Errorf("slots: reading the ledger: %w", err)
	}
	_, err = hex.DecodeString(hash)
	return l.failed(hash), err
}
