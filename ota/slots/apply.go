// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/streembit/edge/ota"
)

// Applier carries updates out: what the agent handed over is staged, tried, and committed or gone back from.
type Applier struct {
	Slots   *Slots
	State   string                          // the agent's state folder
	Times   Times                           // of a trial
	Restart func(ctx context.Context) error // has the agent ended and started anew; it need not wait for the start
}

// Apply follows a trial that goes on, then carries out the request in the inbox if there is one, until the trial is decided. did is false when there
// was neither. That a program is refused or went back is no error: the outcome tells.
func (a *Applier) Apply(ctx context.Context) (did bool, err error) {
	if did, err = a.follow(ctx); err != nil {
		return did, err
	}
	staged, err := a.Slots.Stage(ctx, a.State)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !isRefusal(err):
		return did, nil
	case err != nil && (errors.Is(err, ErrBusy) || ctx.Err() != nil):
		return did, err // the request stays
	case err != nil:
		return true, a.Slots.drop(a.State)
	}
	if err := a.Slots.Flip(staged); err != nil {
		return true, errors.Join(a.Slots.refused(staged.Version(), err), a.Slots.drop(a.State))
	}
	if err := a.Slots.drop(a.State); err != nil {
		return true, err
	}
	if err := a.Restart(ctx); err != nil {
		return true, fmt.Errorf("slots: starting the agent anew: %w", err)
	}
	_, err = a.follow(ctx)
	return true, err
}

// follow watches the trial that goes on, if any.
func (a *Applier) follow(ctx context.Context) (did bool, err error) {
	back, err := a.Slots.watch(ctx, a.State, a.Times)
	switch {
	case errors.Is(err, ErrNoTrial):
		return false, nil
	case err != nil:
		return true, err
	case back:
		if err := a.Restart(ctx); err != nil {
			return true, fmt.Errorf("slots: starting the good program: %w", err)
		}
	}
	return true, nil
}

func isRefusal(err error) bool {
	_, is := errors.AsType[*Refusal](err)
	return is
}

// drop takes the request away, so that it is carried out once.
func (s *Slots) drop(state string) error {
	box, err := openInbox(state)
	if err != nil {
		return err
	}
	defer box.close()
	return box.drop()
}

// EndOf says what an end of the agent means, in the words in which systemd tells it ($SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS of systemd.exec(5)).
func EndOf(result, code, status string) (clean bool, why ota.Reason, detail string) {
	detail = fmt.Sprintf("%s (%s %s)", result, code, status)
	switch {
	case result == "success":
		return true, "", ""
	case result == "watchdog" || result == "timeout":
		return false, ota.ReasonHung, detail
	case result == "oom-kill" || code == "killed" && status == "KILL":
		return false, ota.ReasonMemory, detail
	case code == "exited" && status == "2": // the programs' exit code for arguments and config
		return false, ota.ReasonConfig, detail
	}
	return false, ota.ReasonCrashed, detail
}
