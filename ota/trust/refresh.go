// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// Refresh gets what is newer, proves it and keeps it: roots one after the other, then timestamp, snapshot and targets (TUF specification
// 1.0.31, §5). What was accepted stays accepted when a later step fails: nothing older is taken any more, and Artifacts still returns the
// last set that was complete. The error wraps ErrExpired when the newest there is may not be used for updates, and otherwise says which
// file was refused and why.
func (s *Store) Refresh(ctx context.Context, f Fetcher) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.held
	if err := s.refreshRoots(ctx, f, &next); err != nil {
		return err
	}
	set, err := newChain(next.Roots)
	if err != nil {
		return fmt.Errorf("ota/trust: %w", err)
	}
	set.RefTime = s.time()
	if err := s.refreshRest(ctx, f, set, next); err != nil {
		return fmt.Errorf("ota/trust: %w", err)
	}
	return nil
}

// keep writes what is new, and trusts it once it is on disk.
func (s *Store) keep(next held) error {
	if same(s.held, next) {
		return nil
	}
	if err := next.save(s.dir); err != nil {
		return err
	}
	s.held = next
	return nil
}

func same(a, b held) bool {
	return len(a.Roots) == len(b.Roots) && bytes.Equal(a.Seen.Timestamp, b.Seen.Timestamp) && bytes.Equal(a.Seen.Snapshot, b.Seen.Snapshot) &&
		a.Proven == b.Proven
}

// refreshRoots follows the chain of roots. An expired root in between is as good as any: only the last one's expiry counts.
func (s *Store) refreshRoots(ctx context.Context, f Fetcher, next *held) error {
	set, err := newChain(next.Roots)
	if err != nil {
		return fmt.Errorf("ota/trust: %w", err)
	}
	for range maxRoots {
		before := set.Root
		name := rootName(before.Signed.Version + 1)
		data, err := fetch(ctx, f, name, MaxRoot)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ota/trust: %w", err)
		}
		roots := append(slices.Clip(next.Roots), data)
		if set, err = newChain(roots); err != nil {
			return fmt.Errorf("ota/trust: %s: %w", name, err)
		}
		next.Roots = roots
		if keysTaken(before, set.Root) { // TUF 5.3.11: the way back from versions that a stolen key ran ahead
			next.Seen, next.Proven = seen{}, nil
		} else if _, err := next.prove(); err != nil { // other targets keys, or another threshold
			next.Proven = nil
		}
		if err := s.keep(*next); err != nil {
			return err
		}
	}
	return fmt.Errorf("ota/trust: after %d new roots there is one more: run it again: %w", maxRoots, ErrTooLarge)
}

// keysTaken reports whether a root takes keys of timestamp or snapshot away, or asks for more of them.
func keysTaken(before, after *metadata.Metadata[metadata.RootType]) bool {
	for _, role := range []string{metadata.TIMESTAMP, metadata.SNAPSHOT} {
		was, is := before.Signed.Roles[role], after.Signed.Roles[role]
		if is.Threshold != was.Threshold {
			return true
		}
		for _, id := range was.KeyIDs {
			if !slices.Contains(is.KeyIDs, id) {
				return true
			}
		}
	}
	return false
}

func (s *Store) refreshRest(ctx context.Context, f Fetcher, set *trustedmetadata.TrustedMetadata, next held) (err error) {
	defer guard(&err)
	if err := s.refreshTimestamp(ctx, f, set, &next); err != nil {
		return err
	}
	set.RefTime = s.time() // the timestamp may have told that it is later
	if err := s.refreshSnapshot(ctx, f, set, &next); err != nil {
		return err
	}
	version := set.Snapshot.Signed.Meta[targetsMeta].Version
	targets, err := refreshTargets(ctx, f, set, next.Proven)
	if err != nil {
		return err
	}
	if d := set.Targets[metadata.TARGETS].Signed.Delegations; d != nil {
		return fmt.Errorf("%s: %w", targetsName(version), ErrDelegation)
	}
	if p := next.Proven; p == nil || !bytes.Equal(p.Timestamp, next.Seen.Timestamp) || !bytes.Equal(p.Snapshot, next.Seen.Snapshot) || !bytes.Equal(p.Targets, targets) {
		next.Proven = &complete{next.Seen.Timestamp, next.Seen.Snapshot, targets}
	}
	return s.keep(next)
}

// refreshTargets returns the targets that the snapshot names: those that are held, or fetched ones.
func refreshTargets(ctx context.Context, f Fetcher, set *trustedmetadata.TrustedMetadata, held *complete) ([]byte, error) {
	if held != nil {
		err := addTargets(set, held.Targets)
		if err == nil || errors.Is(err, ErrExpired) {
			return held.Targets, err
		}
	}
	meta := set.Snapshot.Signed.Meta[targetsMeta]
	data, err := fetch(ctx, f, targetsName(meta.Version), limitOf(meta, MaxTargets))
	if err != nil {
		return nil, err
	}
	return data, addTargets(set, data)
}

func (s *Store) refreshTimestamp(ctx context.Context, f Fetcher, set *trustedmetadata.TrustedMetadata, next *held) error {
	if next.Seen.Timestamp != nil {
		_, err := set.UpdateTimestamp(next.Seen.Timestamp)
		if set.Timestamp == nil && !errors.Is(err, &metadata.ErrExpiredMetadata{}) { // a root with other keys does not know it any more
			next.Seen = seen{}
		}
	}
	data, err := fetch(ctx, f, timestampName, MaxTimestamp)
	if err != nil {
		return err
	}
	if err := checkTimestamp(data); err != nil {
		return fmt.Errorf("%s: %w", timestampName, err)
	}
	before := set.Timestamp
	_, err = set.UpdateTimestamp(data)
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) { // the first of two with one version counts
		if before.Signed.IsExpired(set.RefTime) {
			return fmt.Errorf("%s: %w", timestampName, ErrExpired)
		}
		return nil
	}
	if set.Timestamp != before { // accepted, though perhaps expired
		next.Seen.Timestamp = data
		if err := s.keep(*next); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", timestampName, explain(err))
	}
	return nil
}

func (s *Store) refreshSnapshot(ctx context.Context, f Fetcher, set *trustedmetadata.TrustedMetadata, next *held) error {
	meta := set.Timestamp.Signed.Meta[snapshotMeta]
	if next.Seen.Snapshot != nil {
		_, err := set.UpdateSnapshot(next.Seen.Snapshot, true) // what it says about versions counts, though another may be due
		if set.Snapshot != nil && set.Snapshot.Signed.Version == meta.Version && meta.VerifyLengthHashes(next.Seen.Snapshot) == nil {
			return wrapped("snapshot", err)
		}
	}
	name := snapshotName(meta.Version)
	data, err := fetch(ctx, f, name, limitOf(meta, MaxSnapshot))
	if err != nil {
		return err
	}
	if err := addSnapshot(set, data); err != nil {
		return err
	}
	next.Seen.Snapshot = data
	return s.keep(*next)
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, explain(err))
}

// limitOf is how many bytes to read: what was signed, if it was, and never more than most.
func limitOf(meta *metadata.MetaFiles, most int64) int64 {
	if meta.Length > 0 && meta.Length < most {
		return meta.Length
	}
	return most
}

// fetch asks for a file, and does not rely on the Fetcher to keep to the limit.
func fetch(ctx context.Context, f Fetcher, name string, limit int64) ([]byte, error) {
	data, err := f.Fetch(ctx, name, limit)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("getting %s: more than %d bytes: %w", name, limit, ErrTooLarge)
	}
	return data, nil
}
