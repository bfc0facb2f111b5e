// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
)

// Sign signs the draft with those of the keys that may, and once it has enough signatures makes a new snapshot and timestamp of it. It
// reports whether devices can have it now; if not, the error is nil and Draft says who is missing. The error wraps ErrNoDraft,
// ErrForeignKey when no key has a part in it, and ErrTooFew when snapshot or timestamp cannot be signed with these keys.
func (r *Repo) Sign(now time.Time, keys ...journal.Signer) (bool, error) {
	c, err := r.current()
	if err != nil {
		return false, err
	}
	draft, err := r.loadDraft()
	if err != nil {
		return false, err
	}
	if c.targets != nil && draft.Signed.Version != c.targets.Signed.Version+1 {
		return false, fmt.Errorf("ota/repo: the draft is targets %d, and %d is due: %w", draft.Signed.Version, c.targets.Signed.Version+1, trust.ErrRollback)
	}
	signed, err := signRole(c.root, metadata.TARGETS, draft, keys)
	if err != nil {
		return false, err
	}
	text, err := encode(draft)
	if err != nil {
		return false, err
	}
	s, err := standing(metadata.TARGETS, c.root.Signed.Roles[metadata.TARGETS], c.root.Signed.Keys, draft)
	if err != nil {
		return false, err
	}
	if signed > 0 {
		if err := trust.WriteFile(r.draft(), text, 0o644); err != nil {
			return false, err
		}
	}
	if s.Missing > 0 {
		if signed == 0 {
			return false, fmt.Errorf("ota/repo: signing targets %d: %w", draft.Signed.Version, ErrForeignKey)
		}
		return false, nil
	}
	if err := r.write(fmt.Sprintf("%d.targets.json", draft.Signed.Version), text); err != nil {
		return false, err
	}
	if err := r.signSnapshot(c, draft.Signed.Version, text, now, keys); err != nil {
		return false, err
	}
	if err := os.Remove(r.draft()); err != nil {
		return true, fmt.Errorf("ota/repo: %w", err)
	}
	return true, nil
}

// Resign signs a new timestamp, and a new snapshot when the present one is past half its life or keys have changed. Any operator's node may,
// daily. The error wraps ErrNoRelease, ErrTooFew, and ErrRenew after a root with other targets keys: Renew and Sign are due then.
func (r *Repo) Resign(now time.Time, keys ...journal.Signer) error {
	c, err := r.current()
	if err != nil {
		return err
	}
	if c.timestamp == nil {
		return fmt.Errorf("ota/repo: %w", ErrNoRelease)
	}
	if c.root.VerifyDelegate(metadata.TARGETS, c.targets) != nil {
		return fmt.Errorf("ota/repo: targets %d: %w", c.targets.Signed.Version, ErrRenew)
	}
	if c.snapshot.Signed.Expires.Sub(now) < SnapshotLife/2 || c.root.VerifyDelegate(metadata.SNAPSHOT, c.snapshot) != nil {
		version := c.targets.Signed.Version
		text, err := r.read(fmt.Sprintf("%d.targets.json", version))
		if err != nil {
			return err
		}
		return r.signSnapshot(c, version, text, now, keys)
	}
	text, err := r.read(named(c.timestamp.Signed.Meta, metadata.SNAPSHOT))
	if err != nil {
		return err
	}
	return r.signTimestamp(c, c.snapshot.Signed.Version, text, now, keys)
}

// signSnapshot makes a snapshot of the targets, and a timestamp of that.
func (r *Repo) signSnapshot(c current, targets int64, text []byte, now time.Time, keys []journal.Signer) error {
	snap := metadata.Snapshot(expiry(now, SnapshotLife))
	if c.snapshot != nil {
		snap.Signed.Version = c.snapshot.Signed.Version + 1
	}
	snap.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": describe(targets, text)}
	out, err := signWhole(c.root, metadata.SNAPSHOT, snap, keys)
	if err != nil {
		return err
	}
	if err := r.write(fmt.Sprintf("%d.snapshot.json", snap.Signed.Version), out); err != nil {
		return err
	}
	return r.signTimestamp(c, snap.Signed.Version, out, now, keys)
}

// signTimestamp comes last: without it nothing that was written before counts.
func (r *Repo) signTimestamp(c current, snapshot int64, text []byte, now time.Time, keys []journal.Signer) error {
	ts := metadata.Timestamp(expiry(now, TimestampLife))
	if c.timestamp != nil {
		ts.Signed.Version = c.timestamp.Signed.Version + 1
	}
	ts.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": describe(snapshot, text)}
	ts.Signed.UnrecognizedFields = map[string]any{signedTime: now.UTC().Truncate(time.Second).Format(time.RFC3339)}
	out, err := signWhole(c.root, metadata.TIMESTAMP, ts, keys)
	if err != nil {
		return err
	}
	return r.write("timestamp.json", out)
}

func describe(version int64, text []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(text)
	return &metadata.MetaFiles{Version: version, Length: int64(len(text)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// signRole signs with those keys that have the role, and says how many did.
func signRole[T metadata.Roles](root *metadata.Metadata[metadata.RootType], role string, m *metadata.Metadata[T], keys []journal.Signer) (int, error) {
	signed := 0
	for _, k := range keys {
		_, name, err := keyOf(k.ID())
		if err != nil {
			return signed, err
		}
		if !slices.Contains(root.Signed.Roles[role].KeyIDs, name) {
			continue
		}
		if err := signWith(m, k); err != nil {
			return signed, err
		}
		signed++
	}
	return signed, nil
}

// signWhole signs what must have all its signatures at once.
func signWhole[T metadata.Roles](root *metadata.Metadata[metadata.RootType], role string, m *metadata.Metadata[T], keys []journal.Signer) ([]byte, error) {
	if _, err := signRole(root, role, m, keys); err != nil {
		return nil, err
	}
	s, err := standing(role, root.Signed.Roles[role], root.Signed.Keys, m)
	if err != nil {
		return nil, err
	}
	if s.Missing > 0 {
		return nil, fmt.Errorf("ota/repo: %s: %d of %d signatures: %w", role, len(s.Signed), len(s.Signed)+s.Missing, ErrTooFew)
	}
	return encode(m)
}

// Needs returns whose keys would sign what: of the role's keys, by their public halves.
func (r *Repo) Needs(role string) ([]edge.ID, error) {
	roles, _, _, err := r.Roles()
	if err != nil {
		return nil, err
	}
	for _, of := range roles.List() {
		if of.Name == role {
			return of.Keys, nil
		}
	}
	return nil, fmt.Errorf("ota/repo: there is no role %q", role)
}

// Verify proves the folder as a device would that knows only the root, nil for the folder's first, and has a clock that is right; and then all
// its programs.
func (r *Repo) Verify(ctx context.Context, root []byte, now time.Time) ([]ota.Artifact, error) {
	if _, err := r.Files(); err != nil {
		return nil, err
	}
	if len(root) == 0 {
		roots, err := r.roots()
		if err != nil {
			return nil, err
		}
		root = roots[0]
	}
	all, err := Prove(ctx, root, trust.FolderFetcher(r.Metadata()), now)
	if err != nil {
		return all, err
	}
	for _, a := range all {
		if err := r.verifyProgram(a); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (r *Repo) verifyProgram(a ota.Artifact) error {
	f, _, err := r.OpenProgram(a.Tree)
	if err != nil {
		return fmt.Errorf("%w (%s)", err, a.Path)
	}
	defer f.Close()
	return trust.CheckProgram(a, f)
}

// OpenProgram returns a program of the folder and its length in bytes, for trust.WriteBundle.
func (r *Repo) OpenProgram(tree [32]byte) (io.ReadCloser, int64, error) {
	f, err := os.Open(r.Program(tree))
	if err != nil {
		return nil, 0, fmt.Errorf("ota/repo: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("ota/repo: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// Prove proves what f has from a root on, as a device would that never heard anything before.
func Prove(ctx context.Context, root []byte, f trust.Fetcher, now time.Time) (all []ota.Artifact, err error) {
	s, done, err := throwaway(root, now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := s.Refresh(ctx, f); err != nil {
		return nil, err
	}
	if all, err = s.Artifacts(); err != nil {
		return all, err
	}
	return all, errors.Join(s.Skipped()...)
}

// throwaway returns a Store in a folder that done takes away.
func throwaway(root []byte, now time.Time) (s *trust.Store, done func() error, err error) {
	dir, err := os.MkdirTemp("", "streembit-ota-")
	if err != nil {
		return nil, nil, fmt.Errorf("ota/repo: %w", err)
	}
	done = func() error { return os.RemoveAll(dir) }
	s, err = trust.Open(dir, root, func() (time.Time, bool) { return now, true })
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return s, done, nil
}

// Files returns all that devices need, by name: the root chain and what the newest timestamp stands for. The error wraps ErrNoRelease.
func (r *Repo) Files() (map[string][]byte, error) {
	c, err := r.current()
	if err != nil {
		return nil, err
	}
	if c.timestamp == nil {
		return nil, fmt.Errorf("ota/repo: %w", ErrNoRelease)
	}
	names := []string{"timestamp.json", named(c.timestamp.Signed.Meta, metadata.SNAPSHOT), named(c.snapshot.Signed.Meta, metadata.TARGETS)}
	for v := c.root.Signed.Version; v > 0; v-- {
		name := fmt.Sprintf("%d.root.json", v)
		if _, err := os.Stat(r.Metadata() + "/" + name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		names = append(names, name)
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = r.read(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Targets returns the paths of all programs that are signed.
func (r *Repo) Targets() ([]string, error) {
	c, err := r.current()
	if err != nil || c.targets == nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(c.targets.Signed.Targets)), nil
}
