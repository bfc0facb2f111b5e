// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/ota"
)

// Health is what the agent says of itself, again and again.
type Health struct {
	Run     string      `json:"run"`  // of this start of the program, random
	Beat    uint64      `json:"beat"` // goes up each time
	Version ota.Version `json:"version"`
	ID      string      `json:"id,omitempty"` // of the device; "" before it has one
	Working bool        `json:"working"`      // the work goes on: it is what feeds the watchdog
	Sensors []string    `json:"sensors"`      // that have delivered in this run and do not fail
	Hub     bool        `json:"hub"`          // a hub has acknowledged a segment of this run
}

// WriteHealth tells the updater of the agent's health. It needs no fsync: what was before a power cut is of no interest.
func WriteHealth(state string, h Health) error {
	dir := filepath.Join(state, updateName)
	text, err := json.Marshal(h)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "."+healthName), text, 0o600)
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, "."+healthName), filepath.Join(dir, healthName))
	}
	if err != nil {
		return fmt.Errorf("slots: telling the health: %w", err)
	}
	return nil
}

// readHealth trusts the file as little as the inbox. Nothing to be read is no health.
func readHealth(state string) (h Health) {
	base, err := os.Open(state)
	if err != nil {
		return h
	}
	defer func() { _ = base.Close() }()
	dir, err := folderAt(base, updateName)
	if err != nil {
		return h
	}
	defer func() { _ = dir.Close() }()
	data, err := readAt(dir, healthName, maxRequest)
	if err != nil || json.Unmarshal(data, &h) != nil {
		return Health{}
	}
	return h
}

// Times of a trial.
type Times struct {
	Window   time.Duration // for which it must be healthy
	Deadline time.Duration // in which that must happen
	Every    time.Duration // between two looks
	Silence  time.Duration // after which an agent that said nothing counts as hung
}

// Usual are the times for devices.
func Usual() Times {
	return Times{Window: 5 * time.Minute, Deadline: 15 * time.Minute, Every: 2 * time.Second, Silence: time.Minute}
}

// watch follows the trial until it is committed or gone back from, by this or by anybody else, or ctx ends. back: this watch went back, and the
// agent is to be started anew.
func (s *Slots) watch(ctx context.Context, state string, times Times) (back bool, err error) {
	t, err := s.begin()
	if err != nil || t == nil {
		return t == nil && err == nil, err
	}
	j := judge{times: times, baseline: t.Baseline, version: t.Version, began: time.Now()}
	for {
		now, err := s.Trial()
		if errors.Is(err, ErrNoTrial) || err == nil && now.Release != t.Release {
			return false, nil
		} else if err != nil {
			return false, err
		}
		v := j.look(time.Now(), readHealth(state), now)
		switch {
		case v.commit:
			return false, s.Commit(now)
		case v.reason != "":
			return true, s.Rollback(now, v.reason, v.detail)
		}
		if !nap.For(ctx, times.Every) {
			return false, ctx.Err()
		}
	}
}

// begin counts that a trial is watched from now on. It returns nil when it went back because that happened too often.
func (s *Slots) begin() (*Trial, error) {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	st, err := s.settle()
	if err != nil {
		return nil, err
	}
	if !st.trying() {
		return nil, ErrNoTrial
	}
	t := st.ledger.Trial
	if t.Watches++; t.Watches > maxWatches {
		return nil, s.back(st, ota.ReasonTimeout, fmt.Sprintf("it was not healthy for long enough in %d starts of the machine", maxWatches))
	}
	copied := *t
	if err := s.saveLedger(&st.ledger); err != nil {
		return nil, err
	}
	s.trying(t) // a power cut may have come before this was told, and the agent tells of its health only then
	return &copied, nil
}

// judge decides of a trial by what the agent says. All times are of this process's monotonic clock.
type judge struct {
	times    Times
	baseline Baseline
	version  ota.Version
	began    time.Time

	said    Health
	saidAt  time.Time // when that was new
	beats   int       // of this run
	healthy time.Time // since when; zero while it is not
}

type verdict struct {
	commit bool
	reason ota.Reason // of going back
	detail string
}

func (j *judge) look(now time.Time, h Health, t Trial) verdict {
	if h.Run != j.said.Run {
		j.beats, j.healthy = 0, time.Time{}
	}
	if h.Run != j.said.Run || h.Beat != j.said.Beat {
		j.said, j.saidAt = h, now
		j.beats++
	}
	reason, lacks := j.lacks(now)
	switch {
	case reason != "":
		j.healthy = time.Time{}
	case j.healthy.IsZero():
		j.healthy = now
	}
	if !j.healthy.IsZero() && now.Sub(j.healthy) >= j.times.Window {
		return verdict{commit: true}
	}
	if now.Sub(j.began) < j.times.Deadline {
		return verdict{}
	}
	if t.Unclean > 0 && (reason == "" || reason == ota.ReasonTimeout) {
		reason, lacks = t.Why, t.Detail
	}
	if reason == "" {
		reason, lacks = ota.ReasonTimeout, "it was healthy for "+now.Sub(j.healthy).Round(time.Second).String()+" only"
	}
	return verdict{reason: reason, detail: fmt.Sprintf("within %s: %s", j.times.Deadline, lacks)}
}

// lacks says what keeps the agent from being healthy. What the old program left in the file has no second beat.
func (j *judge) lacks(now time.Time) (ota.Reason, string) {
	h, was := j.said, j.baseline
	missing := slices.DeleteFunc(slices.Clone(was.Sensors), func(s string) bool { return slices.Contains(h.Sensors, s) })
	switch {
	case h.Run == "" || j.beats < 2:
		return ota.ReasonTimeout, "it has told nothing of its health"
	case h.Version != j.version:
		return ota.ReasonTimeout, fmt.Sprintf("what runs says that it is %q, not %s", h.Version, j.version)
	case now.Sub(j.saidAt) > j.times.Silence:
		return ota.ReasonHung, "it has said nothing for " + now.Sub(j.saidAt).Round(time.Second).String()
	case was.ID != h.ID:
		return ota.ReasonConfig, fmt.Sprintf("it is device %q, and was %q", h.ID, was.ID)
	case !h.Working:
		return ota.ReasonHung, "its work does not go on"
	case len(missing) > 0:
		return ota.ReasonSensors, "delivered before and not now: " + strings.Join(missing, ", ")
	case was.Hub && !h.Hub:
		return ota.ReasonHub, "a hub was reachable before, and none has acknowledged a segment since"
	}
	return "", ""
}
