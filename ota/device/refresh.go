// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/rollout"
	"github.com/streembit/edge/ota/trust"

	"github.com/streembit/edge/fleet"
)

// Fetcher reads TUF metadata from the fleet's records.
type Fetcher struct{ Net Network }

// Fetch implements trust.Fetcher.
func (f Fetcher) Fetch(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, err := f.Net.Record(ctx, records.Key(records.Metadata, name))
	switch {
	case errors.Is(err, records.ErrNone):
		return nil, fmt.Errorf("device: %w: %w", trust.ErrNotFound, err)
	case err != nil:
		return nil, err
	case int64(len(r.Body)) > limit:
		return nil, fmt.Errorf("device: %s has %d bytes of at most %d: %w", name, len(r.Body), limit, trust.ErrTooLarge)
	}
	return r.Body, nil
}

// metadata returns what the pinned root proves; nil if none is pinned.
func (u *Updater) metadata() (Metadata, error) {
	root := u.o.Fleet().State().UpdateRoot
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(root) == 0 {
		return nil, nil
	}
	if u.meta == nil || !bytes.Equal(root, u.root) {
		m, err := u.o.Trust(root)
		if err != nil {
			return nil, err
		}
		u.meta, u.root, u.known = m, bytes.Clone(root), known{}
	}
	return u.meta, nil
}

// knownFor is how long what the metadata name is believed without proving it again; they may expire meanwhile.
const knownFor = 30 * time.Second

// artifacts returns what the metadata name.
func (u *Updater) artifacts(m Metadata) ([]ota.Artifact, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known.at.IsZero() || time.Since(u.known.at) > knownFor {
		all, err := m.Artifacts()
		u.known = known{all, err, time.Now()}
	}
	return u.known.all, u.known.err
}

// refresh gets the newest metadata and the rollout.
func (u *Updater) refresh(ctx context.Context) error {
	m, err := u.metadata()
	if err != nil || m == nil {
		return err
	}
	err = m.Refresh(ctx, Fetcher{u.o.Net})
	u.mu.Lock()
	u.known = known{}
	u.mu.Unlock()
	u.judge(err)
	if err != nil && !errors.Is(err, trust.ErrExpired) {
		return err
	}
	if err == nil {
		u.mu.Lock()
		u.status.Checked = time.Now()
		u.mu.Unlock()
	}
	return errors.Join(err, u.hearRollout(ctx))
}

// judge raises an alarm for what a person must look at.
func (u *Updater) judge(err error) {
	switch {
	case err == nil:
		u.o.Clear(AlarmExpired)
		u.o.Clear(AlarmProof)
	case errors.Is(err, trust.ErrExpired):
		u.o.Raise(AlarmExpired, "no update is installed until an operator signs a new timestamp: streembit ota keep, or streembit ota sign and publish: "+err.Error())
	case errors.Is(err, trust.ErrUnsigned), errors.Is(err, trust.ErrRollback), errors.Is(err, trust.ErrMismatch), errors.Is(err, trust.ErrMalformed), errors.Is(err, trust.ErrDelegation):
		u.o.Raise(AlarmProof, "metadata of updates that are on offer were refused, those that are known stay: "+err.Error())
	}
}

// hearRollout takes the newest rollout of the channel. One that its signer may not make for this device is none.
func (u *Updater) hearRollout(ctx context.Context) error {
	rec, err := u.o.Net.Record(ctx, records.Key(records.Rollout, u.o.Channel))
	if errors.Is(err, records.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := rollout.Parse(u.o.Channel, rec.Body)
	if err == nil && !u.o.Fleet().May(rec.Signer, fleet.Update, u.self, u.o.Channel) {
		err = fmt.Errorf("%s may not update this device: %w", rec.Signer.Short(), fleet.ErrNotAllowed)
	}
	if err != nil {
		u.o.Raise(AlarmRight, fmt.Sprintf("rollout %d of channel %s is not followed: %v", rec.Version, u.o.Channel, err))
		return nil
	}
	u.o.Clear(AlarmRight)
	return u.takeRollout(rec, r)
}

// artifact returns the program of a version for this machine: one for its board before one for all. none: no program has this version at all.
func (u *Updater) artifact(all []ota.Artifact, v ota.Version) (best *ota.Artifact, none bool, err error) {
	none = true
	for i, a := range all {
		if a.Channel != u.o.Channel || a.Version != v {
			continue
		}
		none = false
		if why := a.Fits(u.o.Machine); why != nil {
			err = why
		} else if best == nil || len(a.Boards) > 0 {
			best = &all[i]
		}
	}
	if best != nil {
		err = nil
	}
	return best, none, err
}
