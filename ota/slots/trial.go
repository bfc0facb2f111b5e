// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/streembit/edge/ota"
)

// maxUnclean is how many runs of a program on trial may end uncleanly before it goes back.
const maxUnclean = 3

// maxWatches is how often a trial may be begun to be watched anew because the machine was started again: with the deadline of one watch, this is
// the longest that a trial lasts while the machine is on.
const maxWatches = 10

// standing is what the folder says, once everything unfinished is finished.
type standing struct {
	current, good release
	ledger        ledger
}

func (s *standing) trying() bool { return s.current.name != s.good.name }

// settle reads where things stand and finishes what a power cut, a kill or a damaged file left unfinished. The caller holds the lock.
func (s *Slots) settle() (*standing, error) {
	st := &standing{}
	why, err := s.readStanding(st)
	if err != nil {
		return nil, err
	}
	t := st.ledger.Trial
	switch {
	case st.trying() && why == "" && (t == nil || t.Release != st.current.name):
		why = "the trial of " + st.current.name + " is not in the ledger"
	case st.trying() && why == "" && t.Verdict != "":
		return st, s.back(st, t.Verdict, t.Detail)
	}
	if why != "" {
		s.o.Logger.Error("the updater's state was damaged: the last good program runs", "err", why)
		return st, s.back(st, ota.ReasonDamaged, why)
	}
	if st.trying() || t == nil {
		return st, nil
	}
	switch {
	case t.Release == st.current.name: // cut off between the link and the ledger
		return st, s.committed(st)
	case t.Verdict != "":
		return st, s.returned(st, t.Verdict, t.Detail)
	}
	st.ledger.Trial = nil // cut off before the link was changed
	return st, s.saveLedger(&st.ledger)
}

// readStanding reads links and ledger. A damaged one is replaced, with why saying so; the error is for a disk on which no program is left.
func (s *Slots) readStanding(st *standing) (why string, err error) {
	var noCurrent, noGood error
	st.current, noCurrent = s.linked(currentName)
	st.good, noGood = s.linked(goodName)
	if noCurrent != nil && noGood != nil {
		if st.good, err = s.anyRelease(); err != nil {
			return "", err
		}
		st.current = release{}
		if err := s.link(goodName, st.good); err != nil {
			return "", err
		}
	}
	if noGood != nil && noCurrent == nil {
		st.good = st.current
		if err := s.link(goodName, st.good); err != nil {
			return "", err
		}
	}
	if err := errors.Join(noCurrent, noGood); err != nil {
		why = err.Error()
	}
	if err := readChecked(s.path(ledgerName), &st.ledger); err != nil {
		if !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("slots: reading the ledger: %w", err)
		}
		why = fmt.Sprintf("ledger: %v", err)
		st.ledger = ledger{}
	}
	st.ledger.raise(st.good.Floor) // also when the ledger was lost
	return why, nil
}

// Flip has the staged program run from the next start on, on trial. The caller starts the agent anew.
func (s *Slots) Flip(staged *Staged) error {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.settle()
	switch {
	case err != nil:
		return err
	case st.trying():
		return fmt.Errorf("slots: %s is on trial: %w", st.current.Version, ErrBusy)
	}
	to := staged.release
	st.ledger.Trial = &Trial{Release: to.name, Hash: to.Hash, Version: to.Version, Previous: st.good.Version, Baseline: staged.baseline}
	if err := s.saveLedger(&st.ledger); err != nil {
		return err
	}
	if err := s.link(currentName, to); err != nil {
		return err
	}
	s.trying(st.ledger.Trial)
	return nil
}

func (s *Slots) trying(t *Trial) {
	s.conclude(ota.Progress{Version: t.Version, Wanted: t.Version, Stage: ota.Trying})
}

// Trial returns the trial that goes on. The error wraps ErrNoTrial when there is none.
func (s *Slots) Trial() (Trial, error) {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return Trial{}, err
	}
	defer unlock()
	st, err := s.settle()
	if err != nil {
		return Trial{}, err
	}
	if !st.trying() {
		return Trial{}, fmt.Errorf("slots: %w", ErrNoTrial)
	}
	return *st.ledger.Trial, nil
}

// Commit makes the program on trial the one that is gone back to. The error wraps ErrNoTrial if it is on trial no more.
func (s *Slots) Commit(t Trial) error {
	return s.decide(t, func(st *standing) error {
		if err := s.link(goodName, st.current); err != nil {
			return err
		}
		st.good = st.current
		return s.committed(st)
	})
}

// Rollback has the good program run from the next start on, and the one on trial never again. The caller starts the agent anew.
func (s *Slots) Rollback(t Trial, reason ota.Reason, detail string) error {
	return s.decide(t, func(st *standing) error { return s.back(st, reason, detail) })
}

func (s *Slots) decide(t Trial, do func(*standing) error) error {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.settle()
	switch {
	case err != nil:
		return err
	case !st.trying() || st.current.name != t.Release:
		return fmt.Errorf("slots: %s: %w", t.Version, ErrNoTrial)
	}
	return do(st)
}

// committed tells and writes down what the links say already. The outcome comes first: as long as the trial is in the ledger, a power cut has it told
// again.
func (s *Slots) committed(st *standing) error {
	s.conclude(ota.Progress{Version: st.current.Version, Wanted: st.current.Version, Stage: ota.Committed})
	st.ledger.raise(st.current.Floor)
	st.ledger.Trial = nil
	if err := s.saveLedger(&st.ledger); err != nil {
		return err
	}
	return s.prune(st.current)
}

// back goes back to the good program. First it is written down that and why, so that a power cut in between changes nothing. A program is not to
// blame for damaged files.
func (s *Slots) back(st *standing, reason ota.Reason, detail string) error {
	t := st.ledger.Trial
	if t != nil && t.Release == st.current.name {
		t.Verdict, t.Detail = reason, detail
		if reason != ota.ReasonDamaged {
			st.ledger.fail(failure{t.Hash, t.Version, reason})
		}
	} else {
		st.ledger.Trial = nil
	}
	if err := s.saveLedger(&st.ledger); err != nil {
		return err
	}
	if err := s.link(currentName, st.good); err != nil {
		return err
	}
	return s.returned(st, reason, detail)
}

// returned tells and writes down what the links say already, as committed does.
func (s *Slots) returned(st *standing, reason ota.Reason, detail string) error {
	p := ota.Progress{Version: st.good.Version, Stage: ota.RolledBack, Reason: reason, Detail: detail}
	if t := st.ledger.Trial; t != nil {
		p.Wanted = t.Version
	}
	s.conclude(p)
	st.current, st.ledger.Trial = st.good, nil
	if err := s.saveLedger(&st.ledger); err != nil {
		return err
	}
	return s.prune(st.good)
}

// Failed reports whether a program was tried on this device and did not stay.
func (s *Slots) Failed(hash string) (bool, error) { return Failed(s.o.Root, hash) }

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
