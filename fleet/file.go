// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/streembit/edge/journal"
)

// WriteFile replaces path as a whole or not at all, power cuts included: temporary file, fsync, rename, fsync of the
// folder.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("fleet: writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("fleet: writing %s: %w", path, err)
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
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a folder durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Load reads and proves a bundle file. pinned may be zero for first contact.
func Load(path string, pinned journal.FleetID) (*Fleet, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("fleet: reading bundle: %w", err)
	}
	f, err := Open(data, pinned)
	if err != nil {
		return nil, fmt.Errorf("fleet: reading bundle %s: %w", path, err)
	}
	return f, nil
}

// Save writes the bundle durably, and refuses to replace one that is newer or another fleet's, or that cannot be read:
// whether that one was newer nobody knows. Not safe for concurrent use on one path.
func (f *Fleet) Save(path string) error {
	if old, err := Load(path, journal.FleetID{}); err == nil {
		if err := f.Newer(old); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("fleet: saving: the file that is there cannot be read, move it away to begin anew: %w", err)
	}
	enc, err := f.Encoded()
	if err != nil {
		return err
	}
	return WriteFile(path, enc, 0o644)
}
