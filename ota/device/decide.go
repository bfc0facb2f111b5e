// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/trust"
)

// spare is what stays free beside a program and its copy for the handover, in bytes: measuring goes on.
const spare = 32 << 20

// slotsLimit is how long what was handed over may lie before a person is told that nothing takes it.
const slotsLimit = 10 * time.Minute

// refusedLimit is how long what the installer refused for a reason that passes is not handed over again.
const refusedLimit = time.Hour

// decision is what this device is to do now.
type decision struct {
	progress ota.Progress
	want     *ota.Artifact // to be fetched and handed over; nil = nothing
	by       Metadata      // that prove it
}

// decide looks at everything that is known here, begins, ends and hands over. It asks nobody.
func (u *Updater) decide(ctx context.Context) {
	d := u.judgement()
	u.follow(ctx, &d)
	u.keep(ctx, d.want)
	u.mu.Lock()
	u.note(&d.progress)
	u.mu.Unlock()
}

// judgement says what this device wants and why not.
func (u *Updater) judgement() decision {
	p := ota.Progress{Version: u.o.Running, Stage: ota.Idle}
	wait := func(stage ota.Stage, why ota.Reason, format string, args ...any) decision {
		p.Stage, p.Reason, p.Detail = stage, why, fmt.Sprintf(format, args...)
		return decision{progress: p}
	}
	if out, ok := u.outcome(&p); ok && out.Stage == ota.Trying {
		return decision{progress: p}
	}
	m, err := u.metadata()
	if err != nil {
		return wait(ota.Waiting, ota.ReasonProof, "the pinned root: %v", err)
	}
	wanted, reason := u.wanted()
	switch {
	case u.o.Slots == nil && wanted != "":
		return wait(ota.Waiting, ota.ReasonOperator, "%s is wanted, and nothing on this machine installs updates: run it by systemd's units or by streembitd supervise", wanted)
	case reason != "":
		p.Wanted = u.release()
		return wait(ota.Waiting, reason, "")
	case m == nil || wanted == "":
		return decision{progress: p}
	}
	p.Wanted = wanted
	all, err := u.artifacts(m)
	if errors.Is(err, trust.ErrExpired) {
		return wait(ota.Waiting, ota.ReasonExpired, "%v", err)
	}
	if err != nil {
		return wait(ota.Waiting, ota.ReasonProof, "%v", err)
	}
	a, none, err := u.artifact(all, wanted)
	if none {
		return wait(ota.Waiting, ota.ReasonProof, "the signed metadata name no program of version %s in channel %s", wanted, u.o.Channel)
	}
	if err != nil {
		return wait(ota.Refused, ota.ReasonUnfit, "%v", err)
	}
	if d, no := u.refusal(a, p); no {
		return d
	}
	p.Stage = ota.Fetching
	return decision{progress: p, want: a, by: m}
}

// refusal says why a program that is wanted and proven is not fetched now.
func (u *Updater) refusal(a *ota.Artifact, p ota.Progress) (decision, bool) {
	no := func(stage ota.Stage, why ota.Reason, format string, args ...any) (decision, bool) {
		p.Stage, p.Reason, p.Detail = stage, why, fmt.Sprintf(format, args...)
		return decision{progress: p}, true
	}
	if failed, err := u.o.Slots.Failed(a.Hash); err == nil && failed {
		if p.Stage == ota.RolledBack && p.Wanted == a.Version {
			return decision{progress: p}, true // which says why
		}
		return no(ota.Refused, ota.ReasonFailed, "this very program was tried and gone back from: release a mended one under another version")
	}
	if out, err := u.o.Slots.Outcome(); err == nil && out.Wanted == a.Version && out.Stage == ota.Refused && !u.retryDue(out) {
		return no(out.Stage, out.Reason, "%s", out.Detail)
	}
	if len(u.o.Quiet) > 0 && !u.byHand() {
		now, ok := u.o.Clock()
		if !ok {
			return no(ota.Waiting, ota.ReasonNoClock, "there are quiet hours, and the clock is not known to be right")
		}
		for _, q := range u.o.Quiet {
			if q.Holds(now.Local()) {
				return no(ota.Waiting, ota.ReasonQuiet, "until %s", q.String()[len("00:00-"):])
			}
		}
	}
	u.mu.Lock()
	full, until := u.full, u.fullTo
	u.mu.Unlock()
	if time.Now().Before(until) {
		return no(ota.Waiting, ota.ReasonSpace, "%s", full)
	}
	missing, err := u.o.Depot.Begin(*a)
	if errors.Is(err, chunks.ErrQuota) {
		err = errors.Join(err, u.o.Depot.Keep(a.Tree)) // what was kept for others gives way to what is wanted here
		if more, again := u.o.Depot.Begin(*a); again == nil {
			missing, err = more, nil
		}
	}
	if err != nil {
		return no(ota.Waiting, ota.ReasonSpace, "%v", err)
	}
	if free, need := u.o.Free(), missing+a.Size+spare; free < need {
		u.o.Raise(AlarmSpace, fmt.Sprintf("version %s needs %d MB free, there are %d: delete something on this machine", a.Version, need/1e6+1, free/1e6))
		return no(ota.Waiting, ota.ReasonSpace, "%d MB free of %d", free/1e6, need/1e6+1)
	}
	if full == "" {
		u.o.Clear(AlarmSpace)
	}
	return decision{}, false
}

// retryDue reports whether what the installer refused may be handed over once more: an hour after it was seen, if the reason is one that passes.
func (u *Updater) retryDue(out ota.Progress) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.handed = handed{}
	if out != u.refused.outcome {
		u.refused = refused{out, time.Now()}
	}
	passes := out.Reason == ota.ReasonSpace || out.Reason == ota.ReasonExpired || out.Reason == ota.ReasonNoClock
	return passes && time.Since(u.refused.seen) > refusedLimit
}

// wanted is the version that is to run here, or why this device waits.
func (u *Updater) wanted() (ota.Version, ota.Reason) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bundle != nil {
		return u.bundle.Version, ""
	}
	g, is := u.o.Fleet().Member(u.self)
	if u.said.Rollout == nil || !is || u.o.Running == "" || g.Roles&(fleet.Device|fleet.Hub) == 0 {
		return "", ""
	}
	return u.said.Rollout.Wanted(&g, u.o.Running)
}

func (u *Updater) release() ota.Version {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.said.Rollout == nil {
		return ""
	}
	return u.said.Rollout.Release
}

// outcome tells in p what the installer says of the program that runs.
func (u *Updater) outcome(p *ota.Progress) (out ota.Progress, ok bool) {
	if u.o.Slots == nil {
		return out, false
	}
	out, err := u.o.Slots.Outcome()
	if err != nil {
		u.log.Debug("the outcome of updates cannot be read", "err", err)
		return out, false
	}
	switch {
	case out.Stage == ota.Trying && out.Wanted == u.o.Running:
		*p = out
		p.Version, p.At = u.o.Running, 0
	case out.Stage == ota.Committed && out.Version == u.o.Running:
		p.Stage, p.At = ota.Committed, out.At
	case out.Stage == ota.RolledBack && out.Wanted != u.o.Running:
		p.Stage, p.Wanted, p.Reason, p.Detail, p.At = out.Stage, out.Wanted, out.Reason, out.Detail, out.At
	}
	return out, true
}

// byHand reports whether a person wants the update.
func (u *Updater) byHand() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bundle != nil
}
