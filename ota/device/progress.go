// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/rollout"
)

const (
	progressFile = "progress.json"
	maxDetail    = 300 // bytes
	stepPercent  = 20  // of a fetch, between two words to the fleet
	tellAgain    = 6 * time.Hour
	putLimit     = 30 * time.Second
)

// said is what this device remembers over a restart.
type said struct {
	Number   uint64           `json:"number"` // of the last record of its progress
	Progress ota.Progress     `json:"progress"`
	RollNo   uint64           `json:"rollout_number"`
	Rollout  *rollout.Rollout `json:"rollout"` // the newest that counts

	due  bool      // the fleet is to be told
	at   time.Time // when it was
	kept []chunks.Hash
}

// load takes over what an earlier run has left; what cannot be read is as good as nothing.
func (u *Updater) load() error {
	if err := os.MkdirAll(u.o.Dir, 0o700); err != nil {
		return fmt.Errorf("device: making folder of updates: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(u.o.Dir, progressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &u.said)
	}
	if err != nil {
		u.log.Warn("what was remembered of updates cannot be read and begins anew", "err", err)
		u.said = said{}
	}
	if r := u.said.Rollout; r != nil {
		if _, err := r.Encode(); err != nil || r.Channel != u.o.Channel {
			u.said.Rollout, u.said.RollNo = nil, 0
		}
	}
	u.said.due = true // another version may run
	return nil
}

// save writes it. The caller holds mu.
func (u *Updater) save() error {
	text, err := json.Marshal(u.said)
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	return fleet.WriteFile(filepath.Join(u.o.Dir, progressFile), text, 0o600)
}

// takeRollout follows a newer rollout from now on.
func (u *Updater) takeRollout(rec records.Record, r *rollout.Rollout) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.said.Rollout != nil && rec.Version < u.said.RollNo {
		return nil
	}
	u.status.Rollout = fmt.Sprintf("%s, wave %d of %d, number %d", r.Release, r.Reached+1, len(r.Waves), rec.Version)
	switch {
	case r.Back:
		u.status.Rollout += ", goes back to " + string(r.Previous)
	case r.Paused:
		u.status.Rollout += ", paused"
	}
	if u.said.Rollout != nil && rec.Version == u.said.RollNo {
		u.said.Rollout = r
		return nil
	}
	u.said.Rollout, u.said.RollNo = r, rec.Version
	u.log.Info("a rollout was taken", "number", rec.Version, "version", r.Release, "wave", r.Reached+1, "paused", r.Paused, "back", r.Back)
	return u.save()
}

// note makes p what this device says of itself. The time is that of the stage's begin. The caller holds mu.
func (u *Updater) note(p *ota.Progress) {
	p.Detail = strings.ToValidUTF8(p.Detail[:min(len(p.Detail), maxDetail)], "")
	last := &u.said.Progress
	moved := last.Version != p.Version || last.Wanted != p.Wanted || last.Stage != p.Stage || last.Reason != p.Reason
	if p.At == 0 && !moved {
		p.At = last.At
	}
	if now, ok := u.o.Clock(); p.At == 0 && ok {
		p.At = now.UnixMilli()
	}
	u.status.Progress = *p
	if !moved && p.Percent < last.Percent+stepPercent {
		return
	}
	if moved {
		u.log.Info("update", "stage", p.Stage, "version", p.Version, "wanted", p.Wanted, "reason", p.Reason, "detail", p.Detail)
		u.told(p)
	}
	u.said.Progress, u.said.due = *p, true
	if err := u.save(); err != nil {
		u.log.Warn("how far the update is could not be saved", "err", err)
	}
}

// told writes down, and raises, what came of an update.
func (u *Updater) told(p *ota.Progress) {
	switch p.Stage {
	case ota.RolledBack:
		u.o.Raise(AlarmBack, fmt.Sprintf("version %s was gone back from: %s %s", p.Wanted, p.Reason, p.Detail))
		u.o.Note(EvOutcome, string(p.Wanted), "gone back: "+string(p.Reason))
	case ota.Refused:
		u.o.Note(EvOutcome, string(p.Wanted), "refused: "+string(p.Reason))
	case ota.Committed:
		u.o.Clear(AlarmBack)
		u.o.Note(EvOutcome, string(p.Version), "committed")
	}
}

// tell puts the progress into the fleet if there is anything new; it reports whether it spoke.
func (u *Updater) tell(ctx context.Context) bool {
	u.mu.Lock()
	p, due := u.said.Progress, u.o.Announce && (u.said.due || time.Since(u.said.at) > tellAgain)
	number := u.said.Number
	u.mu.Unlock()
	if !due || p.Stage == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, putLimit)
	defer cancel()
	key := records.Key(records.Progress, u.self.String())
	if known, err := u.o.Net.Record(ctx, key); err == nil { // what was remembered here may be lost
		number = max(number, known.Version)
	}
	body, err := json.Marshal(p)
	if err == nil {
		var raw []byte
		if raw, err = records.Sign(u.o.Signer, u.o.Fleet().ID(), key, number+1, body); err == nil {
			err = u.o.Net.PutRecord(ctx, key, raw)
		}
	}
	if err != nil {
		u.log.Debug("the fleet could not be told how far the update is", "err", err)
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.said.Number, u.said.at = number+1, time.Now()
	u.said.due = u.said.Progress != p
	if err := u.save(); err != nil {
		u.log.Warn("how far the update is could not be saved", "err", err)
	}
	return true
}

// ParseProgress reads the body of a record of progress.
func ParseProgress(body []byte) (p ota.Progress, err error) {
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("device: progress: %w", err)
	}
	if _, err := ota.ParseVersion(string(p.Version)); p.Version != "" && err != nil || len(p.Detail) > records.MaxProgress || p.Percent < 0 || p.Percent > 100 {
		return ota.Progress{}, fmt.Errorf("device: progress of version %.40q, %d %%: %w", p.Version, p.Percent, records.ErrBadRecord)
	}
	return p, nil
}
