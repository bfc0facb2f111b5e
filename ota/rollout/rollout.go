// SPDX-License-Identifier: Apache-2.0

// Package rollout says which device installs which release when. An operator signs one record for a channel; every device works out by itself whether it is
// meant, so that nobody keeps lists and a device that comes later belongs to the wave that has been reached.
package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
)

// ErrBadRollout is wrapped when a rollout cannot be meant.
var ErrBadRollout = errors.New("not a usable rollout")

// Bounds of a rollout.
const (
	MaxWaves  = 32
	maxLabels = 16
	maxLabel  = 100 // bytes
	MaxSoak   = 90 * 24 * time.Hour
)

// Wave is a part of the fleet.
type Wave struct {
	_       struct{} `cbor:",toarray"`
	On      []string // selectors of rights: "*", a name, an id, a label; a device is meant that fits one of them
	Percent int      // of those, 1 to 100; the same ones in each wave of a rollout, so that 10 lie in 50
	Healthy int      // percent of all devices reached so far that must run the release before the next wave begins, 1 to 100
	Soak    int64    // ms that they must have done so
}

// Rollout is what a channel's devices are to run. Its record's version says which one counts.
type Rollout struct {
	_        struct{} `cbor:",toarray"`
	Channel  string
	Release  ota.Version
	Previous ota.Version // to go back to; "" = there is no way back
	Salt     [16]byte    // random: which devices are the first is another matter in each rollout
	Waves    []Wave
	Reached  int   // index of the last wave that has begun
	Since    int64 // ms since 1970 UTC: when it began
	Paused   bool  // nobody begins; who has begun goes on
	Back     bool  // who runs Release goes back to Previous
	Note     string
}

// Encode checks a rollout and returns its body for a record.
func (r *Rollout) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return journal.Encode(r)
}

// Parse reads what Encode wrote, of the channel.
func Parse(channel string, body []byte) (*Rollout, error) {
	var r Rollout
	if err := journal.Decode(body, &r); err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	if r.Channel != channel {
		return nil, fmt.Errorf("rollout: of channel %.40q under the key of %q: %w", r.Channel, channel, ErrBadRollout)
	}
	return &r, r.check()
}

func (r *Rollout) check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("rollout: %s: %w", fmt.Sprintf(format, args...), ErrBadRollout)
	}
	if !journal.ValidStream(r.Channel) {
		return wrong("channel %.40q: want 1 to 32 of a-z 0-9 . _ -", r.Channel)
	}
	if _, err := ota.ParseVersion(string(r.Release)); err != nil {
		return fmt.Errorf("%w: %w", err, ErrBadRollout)
	}
	if _, err := ota.ParseVersion(string(r.Previous)); r.Previous != "" && err != nil {
		return fmt.Errorf("%w: %w", err, ErrBadRollout)
	}
	switch {
	case r.Previous == r.Release:
		return wrong("version %s is both the new and the previous one", r.Release)
	case r.Back && r.Previous == "":
		return wrong("there is no previous version to go back to")
	case len(r.Waves) == 0 || len(r.Waves) > MaxWaves:
		return wrong("%d waves: want 1 to %d", len(r.Waves), MaxWaves)
	case r.Reached < 0 || r.Reached >= len(r.Waves) || r.Since < 0 || r.Since > journal.MaxTime:
		return wrong("wave %d of %d, since %d ms", r.Reached+1, len(r.Waves), r.Since)
	case len(r.Note) > 200 || !plain(r.Note):
		return wrong("note: want at most 200 bytes of printable text")
	}
	for i, w := range r.Waves {
		if err := w.check(); err != nil {
			return wrong("wave %d: %v", i+1, err)
		}
	}
	return nil
}

func (w Wave) check() error {
	switch {
	case len(w.On) == 0 || len(w.On) > maxLabels:
		return fmt.Errorf("%d selectors: want 1 to %d, \"*\" for all devices", len(w.On), maxLabels)
	case slices.ContainsFunc(w.On, func(s string) bool { return s == "" || len(s) > maxLabel || !plain(s) }):
		return fmt.Errorf("selectors %.200q: want names, ids or labels of at most %d bytes", w.On, maxLabel)
	case w.Percent < 1 || w.Percent > 100:
		return fmt.Errorf("%d percent: want 1 to 100", w.Percent)
	case w.Healthy < 1 || w.Healthy > 100:
		return fmt.Errorf("healthy at %d percent: want 1 to 100", w.Healthy)
	case w.Soak < 0 || w.Soak > MaxSoak.Milliseconds():
		return fmt.Errorf("soak of %d ms: want 0 to %v", w.Soak, MaxSoak)
	}
	return nil
}

func plain(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\ufffd' })
}

// lot is a device's place in a rollout, 0 to 9999: it is within p percent if it is below 100p.
func (r *Rollout) lot(device edge.ID) int {
	h := sha256.New()
	h.Write([]byte("streembit/rollout/1\x00"))
	h.Write(r.Salt[:])
	h.Write(device[:])
	return int(binary.BigEndian.Uint64(h.Sum(nil)) % 10000)
}

// Wave returns the index of the first wave to which a device belongs.
func (r *Rollout) Wave(device *fleet.Grant) (int, bool) {
	lot := r.lot(device.Member)
	for i, w := range r.Waves {
		if lot < 100*w.Percent && slices.ContainsFunc(w.On, device.Selected) {
			return i, true
		}
	}
	return 0, false
}

// Reaches reports whether the device belongs to a wave that has begun.
func (r *Rollout) Reaches(device *fleet.Grant) bool {
	i, ok := r.Wave(device)
	return ok && i <= r.Reached
}

// Wanted returns what a device that runs a version is to run, "" for nothing else than that, and if it waits, why.
func (r *Rollout) Wanted(device *fleet.Grant, runs ota.Version) (ota.Version, ota.Reason) {
	switch {
	case r.Back && runs == r.Release:
		return r.Previous, ""
	case r.Back || runs == r.Release:
		return "", ""
	case !r.Reaches(device):
		return "", ota.ReasonWave
	case r.Paused:
		return "", ota.ReasonPaused
	}
	return r.Release, ""
}
