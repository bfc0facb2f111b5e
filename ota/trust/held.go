// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// held is what a Store trusts. It lies in one file, so that a power cut leaves all of the old or all of the new.
type held struct {
	Roots  [][]byte  `json:"roots"` // from the pinned one on
	Seen   seen      `json:"seen"`
	Proven *complete `json:"proven,omitempty"`
}

// seen is the newest that was accepted, complete or not: nothing older is accepted any more.
type seen struct {
	Timestamp []byte `json:"timestamp,omitempty"`
	Snapshot  []byte `json:"snapshot,omitempty"`
}

// complete is the newest set in which all metadata are there and fit together.
type complete struct {
	Timestamp []byte `json:"timestamp"`
	Snapshot  []byte `json:"snapshot"`
	Targets   []byte `json:"targets"`
}

// proven is a complete set, read.
type proven struct {
	root     *metadata.Metadata[metadata.RootType]
	snapshot *metadata.Metadata[metadata.SnapshotType]
	targets  *metadata.Metadata[metadata.TargetsType]
	expires  time.Time // of the first that does
}

// newChain follows roots from the pinned one on. Nothing is expired by its reference time, which the caller sets.
func newChain(roots [][]byte) (set *trustedmetadata.TrustedMetadata, err error) {
	defer guard(&err)
	for i, root := range roots {
		if err := checkRoot(root); err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		if i > 0 {
			_, err = set.UpdateRoot(root)
		} else {
			set, err = trustedmetadata.New(root)
		}
		if err != nil {
			return nil, fmt.Errorf("root: %w", explain(err))
		}
		set.RefTime = time.Time{}
	}
	return set, nil
}

// CheckRoots proves a chain of roots: each is signed by enough keys of its own and of the one before it. Expiry is not judged.
func CheckRoots(roots ...[]byte) error {
	if _, err := newChain(roots); err != nil {
		return fmt.Errorf("ota/trust: %w", err)
	}
	return nil
}

// begin lets the chain begin at the pinned root. One that it does not know is an owner's newer one: what that one's keys did not sign goes.
func (h *held) begin(pinned []byte) {
	if i := slices.IndexFunc(h.Roots, func(root []byte) bool { return bytes.Equal(root, pinned) }); i >= 0 {
		h.Roots = h.Roots[i:]
		return
	}
	h.Roots = [][]byte{pinned}
	if _, err := h.prove(); err != nil {
		h.Seen, h.Proven = seen{}, nil
	}
}

// prove reads the complete set; nil, nil if there is none. Expiry is not judged.
func (h *held) prove() (p *proven, err error) {
	defer guard(&err)
	set, err := newChain(h.Roots)
	if err != nil || h.Proven == nil {
		return nil, err
	}
	if err := addTimestamp(set, h.Proven.Timestamp); err != nil {
		return nil, err
	}
	if err := addSnapshot(set, h.Proven.Snapshot); err != nil {
		return nil, err
	}
	if err := addTargets(set, h.Proven.Targets); err != nil {
		return nil, err
	}
	p = &proven{root: set.Root, snapshot: set.Snapshot, targets: set.Targets[metadata.TARGETS], expires: set.Root.Signed.Expires}
	for _, t := range []time.Time{set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires, p.targets.Signed.Expires} {
		if t.Before(p.expires) {
			p.expires = t
		}
	}
	return p, nil
}

func addTimestamp(set *trustedmetadata.TrustedMetadata, data []byte) error {
	if err := checkTimestamp(data); err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	if _, err := set.UpdateTimestamp(data); err != nil {
		return fmt.Errorf("timestamp: %w", explain(err))
	}
	return nil
}

func addSnapshot(set *trustedmetadata.TrustedMetadata, data []byte) error {
	if err := checkSnapshot(data); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if _, err := set.UpdateSnapshot(data, false); err != nil {
		return fmt.Errorf("snapshot: %w", explain(err))
	}
	return nil
}

func addTargets(set *trustedmetadata.TrustedMetadata, data []byte) error {
	if err := checkTargets(data); err != nil {
		return fmt.Errorf("targets: %w", err)
	}
	if _, err := set.UpdateTargets(data); err != nil {
		return fmt.Errorf("targets: %w", explain(err))
	}
	return nil
}

// signedTime names the field of the timestamp in which its signer says when it was signed, RFC 3339. TUF has none; a client without a clock
// needs it. A timestamp without it raises no floor.
const signedTime = "x-streembit-time"

// ahead is by how much a signed time may exceed a clock that is right, before it is not believed.
const ahead = 24 * time.Hour

// signedAt returns when the newest accepted timestamp was signed, as far as that can be believed: never after the root expires, which more
// and better guarded keys have signed; and not if a clock that is right shows much less. It goes with the timestamp when a new root takes
// the timestamp's key away, so that a stolen key's lies about the time end there.
func (h *held) signedAt(now func() (time.Time, bool)) time.Time {
	if h.Seen.Timestamp == nil || len(h.Roots) == 0 {
		return time.Time{}
	}
	ts, err := metadata.Timestamp().FromBytes(h.Seen.Timestamp)
	if err != nil {
		return time.Time{}
	}
	text, _ := ts.Signed.UnrecognizedFields[signedTime].(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.After(ts.Signed.Expires) {
		return time.Time{}
	}
	if clock, right := now(); right && at.After(clock.Add(ahead)) {
		return time.Time{}
	}
	root, err := metadata.Root().FromBytes(h.Roots[len(h.Roots)-1])
	if err != nil {
		return time.Time{}
	}
	if at.After(root.Signed.Expires) {
		return root.Signed.Expires
	}
	return at
}

// heldName is the file of a Store: the SHA-256 of what follows the first line, in hex, then held in JSON.
const heldName = "trusted"

// loadHeld returns nothing without an error when there is no file. The error wraps ErrDamaged when the file is not what was written.
func loadHeld(dir string) (h held, err error) {
	path := filepath.Join(dir, heldName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("ota/trust: reading: %w", err)
	}
	sum, rest, _ := bytes.Cut(data, []byte("\n"))
	if want := sha256.Sum256(rest); string(sum) != hex.EncodeToString(want[:]) {
		return h, fmt.Errorf("ota/trust: reading %s: %w", path, ErrDamaged)
	}
	if err := json.Unmarshal(rest, &h); err != nil {
		return h, fmt.Errorf("ota/trust: reading %s: %w: %w", path, ErrDamaged, err)
	}
	return h, nil
}

func (h *held) save(dir string) error {
	rest, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("ota/trust: writing: %w", err)
	}
	sum := sha256.Sum256(rest)
	data := append(hex.AppendEncode(nil, sum[:]), '\n')
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("ota/trust: writing: %w", err)
	}
	return WriteFile(filepath.Join(dir, heldName), append(data, rest...), 0o644)
}

// WriteFile replaces path as a whole or not at all, power cuts included: temporary file, fsync, rename, fsync of the folder.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("ota/trust: writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("ota/trust: writing %s: %w", path, err)
			_ = os.Remove(tmp.Name())
		}
	}()
	_, werr := tmp.Write(data)
	if err = errors.Join(werr, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
