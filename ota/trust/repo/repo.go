// SPDX-License-Identifier: Apache-2.0

// Package repo is the release side of updates: a folder with the TUF metadata of a fleet's programs, which operators sign and publish, and
// which devices prove with package trust.
//
// It begins with a Request for the first root, which the holders of the root keys sign in turn (root.go). Add puts programs into a draft,
// Sign makes of it what devices accept, Resign keeps the timestamp fresh, Compare and Adopt settle who of two operators was first.
package repo

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/trust"
)

// Errors of the package; test with errors.Is.
var (
	ErrNoRoot     = errors.New("there is no root of updates yet")
	ErrNoRelease  = errors.New("nothing was signed yet")
	ErrNoDraft    = errors.New("there is no draft to sign")
	ErrForeignKey = errors.New("the key has no part in what is to be signed")
	ErrTooFew     = errors.New("not signed by enough keys")
	ErrExists     = errors.New("a release is never changed: give it another version")
	ErrRenew      = errors.New("the programs were signed by keys that the root does not name any more")
	ErrNotNewer   = errors.New("another operator published first")
	ErrWrongArch  = errors.New("the program is not for the machine that its name says")
)

// How long metadata are valid after they are signed. A timestamp that is signed daily survives the operator's holidays; the keys of root and
// targets are off line and wanted rarely.
const (
	RootLife      = 2 * 365 * 24 * time.Hour
	TargetsLife   = 365 * 24 * time.Hour
	SnapshotLife  = 120 * 24 * time.Hour
	TimestampLife = 21 * 24 * time.Hour
)

// signedTime is the field of the timestamp that package trust takes for the time of signing.
const signedTime = "x-streembit-time"

// Repo is a release folder: metadata/ as devices get it, programs/ by their tree hashes, draft.json for what is not signed yet. Not safe for
// concurrent use, by several processes neither: hold a lock on the folder.
type Repo struct{ dir string }

// Open returns the release folder; it looks for the root. The error wraps ErrNoRoot.
func Open(dir string) (*Repo, error) {
	r := &Repo{dir}
	_, err := r.roots()
	return r, err
}

// Metadata is the folder of what devices get.
func (r *Repo) Metadata() string { return filepath.Join(r.dir, "metadata") }

// Program is where the program of that tree hash lies.
func (r *Repo) Program(tree [32]byte) string {
	return filepath.Join(r.dir, "programs", fmt.Sprintf("%x", tree))
}

func (r *Repo) draft() string { return filepath.Join(r.dir, "draft.json") }

var rootFile = regexp.MustCompile(`^([1-9][0-9]{0,8})\.root\.json$`)

// roots returns the chain of roots from the first that the folder has.
func (r *Repo) roots() ([][]byte, error) {
	entries, err := os.ReadDir(r.Metadata())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("ota/repo: %w", err)
	}
	var versions []int
	for _, e := range entries {
		if m := rootFile.FindStringSubmatch(e.Name()); m != nil {
			v, _ := strconv.Atoi(m[1])
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("ota/repo: %s: %w", r.dir, ErrNoRoot)
	}
	slices.Sort(versions)
	var roots [][]byte
	for i, v := range versions {
		if v != versions[0]+i {
			return nil, fmt.Errorf("ota/repo: %d.root.json is missing in %s: copy it from a backup or another operator", versions[0]+i, r.Metadata())
		}
		root, err := r.read(fmt.Sprintf("%d.root.json", v))
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// Root returns the newest root: what the fleet's state is to pin, and from which new devices start.
func (r *Repo) Root() ([]byte, error) {
	roots, err := r.roots()
	if err != nil {
		return nil, err
	}
	return roots[len(roots)-1], nil
}

func (r *Repo) read(name string) ([]byte, error) {
	data, err := trust.FolderFetcher(r.Metadata()).Fetch(context.Background(), name, trust.MaxSize(name))
	if err != nil {
		return nil, fmt.Errorf("ota/repo: %w", err)
	}
	return data, nil
}

func (r *Repo) write(name string, data []byte) error {
	if err := os.MkdirAll(r.Metadata(), 0o755); err != nil {
		return fmt.Errorf("ota/repo: %w", err)
	}
	return trust.WriteFile(filepath.Join(r.Metadata(), name), data, 0o644)
}

// current is the newest that was signed, read but not proven: the folder is the operator's own.
type current struct {
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
}

// current returns what is signed; the parts below root are nil before the first release.
func (r *Repo) current() (c current, err error) {
	text, err := r.Root()
	if err != nil {
		return c, err
	}
	if c.root, err = metadata.Root().FromBytes(text); err != nil {
		return c, fmt.Errorf("ota/repo: root: %w", err)
	}
	text, err = r.read("timestamp.json")
	if errors.Is(err, trust.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if c.timestamp, err = metadata.Timestamp().FromBytes(text); err != nil {
		return c, fmt.Errorf("ota/repo: timestamp: %w", err)
	}
	if text, err = r.read(named(c.timestamp.Signed.Meta, "snapshot")); err != nil {
		return c, err
	}
	if c.snapshot, err = metadata.Snapshot().FromBytes(text); err != nil {
		return c, fmt.Errorf("ota/repo: snapshot: %w", err)
	}
	if text, err = r.read(named(c.snapshot.Signed.Meta, "targets")); err != nil {
		return c, err
	}
	if c.targets, err = metadata.Targets().FromBytes(text); err != nil {
		return c, fmt.Errorf("ota/repo: targets: %w", err)
	}
	return c, nil
}

// named returns the file of a role that meta names, "" if it names none.
func named(meta map[string]*metadata.MetaFiles, role string) string {
	m := meta[role+".json"]
	if m == nil {
		return ""
	}
	return fmt.Sprintf("%d.%s.json", m.Version, role)
}

// encode writes metadata in the form that package trust wants.
func encode[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	text, err := m.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("ota/repo: writing metadata: %w", err)
	}
	return trust.Canonical(text)
}

// keyOf returns the TUF form of a public key, and its id there.
func keyOf(id edge.ID) (*metadata.Key, string, error) {
	key, err := metadata.KeyFromPublicKey(ed25519.PublicKey(id[:]))
	if err != nil {
		return nil, "", fmt.Errorf("ota/repo: key %s: %w", id, err)
	}
	name, err := key.ID()
	return key, name, err
}

// signWith signs, in place of a signature by the same key if there is one.
func signWith[T metadata.Roles](m *metadata.Metadata[T], k journal.Signer) error {
	_, name, err := keyOf(k.ID())
	if err != nil {
		return err
	}
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return fmt.Errorf("ota/repo: signing: %w", err)
	}
	sig, err := k.Sign(payload)
	if err != nil {
		return fmt.Errorf("ota/repo: signing: %w", err)
	}
	m.Signatures = slices.DeleteFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == name })
	m.Signatures = append(m.Signatures, metadata.Signature{KeyID: name, Signature: sig})
	return nil
}

// Standing is how far a signature by several is.
type Standing struct {
	Role    string    // whose keys: "root", "targets"; "root before" for those that a new root replaces
	Signed  []edge.ID // who has
	Open    []edge.ID // who has not
	Missing int       // how many of those are still needed
}

// standing says who of a role has signed.
func standing[T metadata.Roles](what string, role *metadata.Role, keys map[string]*metadata.Key, m *metadata.Metadata[T]) (Standing, error) {
	s := Standing{Role: what, Missing: role.Threshold}
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return s, fmt.Errorf("ota/repo: %w", err)
	}
	for _, name := range role.KeyIDs {
		id, err := idOf(keys[name])
		if err != nil {
			return s, err
		}
		signed := slices.ContainsFunc(m.Signatures, func(sig metadata.Signature) bool {
			return sig.KeyID == name && ed25519.Verify(id.Key(), payload, sig.Signature)
		})
		if !signed {
			s.Open = append(s.Open, id)
			continue
		}
		s.Signed = append(s.Signed, id)
		s.Missing--
	}
	s.Missing = max(s.Missing, 0)
	return s, nil
}

// idOf is the reverse of keyOf.
func idOf(key *metadata.Key) (edge.ID, error) {
	if key == nil {
		return edge.ID{}, errors.New("ota/repo: a role names a key that is not there")
	}
	public, err := key.ToPublicKey()
	if err != nil {
		return edge.ID{}, fmt.Errorf("ota/repo: %w", err)
	}
	raw, ok := public.(ed25519.PublicKey)
	if !ok || len(raw) != ed25519.PublicKeySize {
		return edge.ID{}, fmt.Errorf("ota/repo: a key of type %s, want ed25519", key.Type)
	}
	return edge.ID(raw), nil
}

func expiry(now time.Time, life time.Duration) time.Time {
	return now.Add(life).UTC().Truncate(time.Second)
}
