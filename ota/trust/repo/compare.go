// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge/ota/trust"
)

// Compare asks what the fleet has and reports whether the folder's metadata are newer, so that they are to be published: false when the fleet
// has the very same. The error wraps ErrNotNewer when the fleet has something that the folder does not build on: another operator published
// first, and Adopt is due.
func (r *Repo) Compare(ctx context.Context, f trust.Fetcher, now time.Time) (newer bool, err error) {
	ours, err := r.Files()
	if err != nil {
		return false, err
	}
	theirs, err := r.theirs(ctx, f, now)
	if errors.Is(err, trust.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for name, text := range theirs {
		if err := r.buildsOn(name, text, ours); err != nil {
			return false, err
		}
	}
	versions, err := versionsOf(theirs)
	if err != nil {
		return false, err
	}
	if err := r.setCommon(versions[3]); err != nil {
		return false, err
	}
	if bytes.Equal(ours["timestamp.json"], theirs["timestamp.json"]) {
		return len(ours) > len(theirs), nil // a new root alone
	}
	return true, r.after(ours, theirs)
}

// buildsOn checks that the folder had what the fleet has: roots and targets to the byte, or what was released elsewhere would be lost. Of
// timestamps and snapshots only the versions count, which after checks, unless two have one version.
func (r *Repo) buildsOn(name string, text []byte, ours map[string][]byte) error {
	own, ok := ours[name]
	if !ok && !strings.HasSuffix(name, ".snapshot.json") {
		var err error
		if own, err = r.read(name); err != nil && !errors.Is(err, trust.ErrNotFound) {
			return err
		}
		ok = true
	}
	if ok && name != "timestamp.json" && !bytes.Equal(own, text) {
		return fmt.Errorf("ota/repo: the fleet has another %s: %w", name, ErrNotNewer)
	}
	return nil
}

// after checks that versions go up.
func (r *Repo) after(ours, theirs map[string][]byte) error {
	a, err := versionsOf(ours)
	if err != nil {
		return err
	}
	b, err := versionsOf(theirs)
	if err != nil {
		return err
	}
	for i, role := range []string{metadata.ROOT, metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS} {
		if a[i] < b[i] || role == metadata.TIMESTAMP && a[i] == b[i] {
			return fmt.Errorf("ota/repo: the fleet has %s %d, here is %d: %w", role, b[i], a[i], ErrNotNewer)
		}
	}
	return nil
}

// versionsOf returns the versions of root, timestamp, snapshot and targets.
func versionsOf(files map[string][]byte) (v [4]int64, err error) {
	ts, err := metadata.Timestamp().FromBytes(files["timestamp.json"])
	if err != nil {
		return v, fmt.Errorf("ota/repo: %w", err)
	}
	snap, err := metadata.Snapshot().FromBytes(files[named(ts.Signed.Meta, metadata.SNAPSHOT)])
	if err != nil {
		return v, fmt.Errorf("ota/repo: %w", err)
	}
	targets, err := metadata.Targets().FromBytes(files[named(snap.Signed.Meta, metadata.TARGETS)])
	if err != nil {
		return v, fmt.Errorf("ota/repo: %w", err)
	}
	for name := range files {
		var n int64
		if _, err := fmt.Sscanf(name, "%d.root.json", &n); err == nil {
			v[0] = max(v[0], n)
		}
	}
	v[1], v[2], v[3] = ts.Signed.Version, snap.Signed.Version, targets.Signed.Version
	return v, nil
}

// theirs proves what the fleet has from our first root on. Expired metadata of the fleet's are no reason not to publish new ones.
func (r *Repo) theirs(ctx context.Context, f trust.Fetcher, now time.Time) (files map[string][]byte, err error) {
	roots, err := r.roots()
	if err != nil {
		return nil, err
	}
	// Asked at no time, nothing has expired.
	s, done, err := throwaway(roots[0], time.Time{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := s.Refresh(ctx, f); err != nil {
		return nil, err
	}
	return s.Files()
}

// Adopt takes over what the fleet has, after it was proven from the folder's first root on. What only the draft had stays in a new draft.
// It does not bring the programs.
func (r *Repo) Adopt(ctx context.Context, f trust.Fetcher, now time.Time) error {
	theirs, err := r.theirs(ctx, f, now)
	if err != nil {
		return err
	}
	before, err := r.current()
	if err != nil {
		return err
	}
	own, err := r.unpublished(before)
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(theirs)), func(n string) bool { return n == "timestamp.json" })
	for _, name := range append(names, "timestamp.json") { // last: it is what makes the others count
		if err := r.write(name, theirs[name]); err != nil {
			return err
		}
	}
	c, err := r.current()
	if err != nil {
		return err
	}
	if err := r.setCommon(c.targets.Signed.Version); err != nil {
		return err
	}
	draft := metadata.Targets(expiry(now, TargetsLife))
	maps.Copy(draft.Signed.Targets, c.targets.Signed.Targets)
	maps.Copy(draft.Signed.Targets, own)
	for _, t := range own { // the fleet's floor may be above what we had in mind
		prune(draft, customOf(t).Channel)
	}
	if len(added(c.targets, draft)) == 0 {
		return r.dropDraft()
	}
	return r.saveDraft(c, draft, now)
}
