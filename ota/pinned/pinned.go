// SPDX-License-Identifier: Apache-2.0

// Package pinned proves what an updater was handed over by what the updater itself trusts: a pinned root and a folder of metadata of its own, which
// the agent cannot write to.
package pinned

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/streembit/edge/internal/ntp"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
)

// rootFile holds the pinned root, beside the folder of what was proven since.
const rootFile = "root.json"

// Trust is the updater's own. Only one process may use it at a time.
type Trust struct {
	Dir string // absolute; need not exist
}

// Prove returns the program at a TUF path, as the metadata in the folder prove it. Where no root is pinned yet, the folder's first root is, once it has
// proven the program: what comes first is believed, as at enrolment. Metadata that have expired prove nothing, by a clock that the kernel calls
// synchronised, or else by the time that was signed.
func (t Trust) Prove(ctx context.Context, folder, path string) (a ota.Artifact, err error) {
	root, err := os.ReadFile(filepath.Join(t.Dir, rootFile))
	first := errors.Is(err, fs.ErrNotExist)
	if first {
		root, err = trust.FolderFetcher(folder).Fetch(ctx, "1.root.json", trust.MaxRoot)
	}
	if err != nil {
		return a, fmt.Errorf("ota/pinned: reading the root: %w", err)
	}
	s, err := trust.Open(filepath.Join(t.Dir, "proven"), root, clock)
	if err != nil {
		return a, err
	}
	if err := s.Refresh(ctx, trust.FolderFetcher(folder)); err != nil {
		return a, err
	}
	all, err := s.Artifacts()
	if err != nil {
		return a, err
	}
	for _, a := range all {
		if a.Path == path {
			if first {
				err = t.Pin(root)
			}
			return a, err
		}
	}
	return a, fmt.Errorf("ota/pinned: the signed metadata name no program %.100q", path)
}

// Pin has a root trusted from now on. The error wraps fs.ErrExist if another one is: who really wants that removes the folder.
func (t Trust) Pin(root []byte) error {
	if err := trust.CheckRoots(root); err != nil {
		return fmt.Errorf("ota/pinned: %w", err)
	}
	path := filepath.Join(t.Dir, rootFile)
	if was, err := os.ReadFile(path); err == nil && string(was) != string(root) {
		return fmt.Errorf("ota/pinned: %s is another root: %w", path, fs.ErrExist)
	} else if err == nil {
		return nil
	}
	if err := os.MkdirAll(t.Dir, 0o755); err != nil {
		return fmt.Errorf("ota/pinned: %w", err)
	}
	return trust.WriteFile(path, root, 0o644)
}

func clock() (time.Time, bool) { return time.Now(), ntp.Synced() }
