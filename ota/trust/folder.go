// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FolderFetcher returns a Fetcher over the metadata files in a folder: a USB stick's, or an inbox that another user writes to. It opens
// ordinary files only: no links, no pipes.
func FolderFetcher(dir string) Fetcher { return folder(dir) }

type folder string

func (d folder) Fetch(ctx context.Context, name string, limit int64) ([]byte, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("ota/trust: %.80q is not the name of a metadata file: %w", name, ErrMalformed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := filepath.Join(string(d), name)
	// Without O_NONBLOCK a pipe would hold us up for as long as nobody writes to it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("ota/trust: %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("ota/trust: %w", err)
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, fmt.Errorf("ota/trust: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("ota/trust: %s is no ordinary file: %w", path, ErrMalformed)
	}
	return readLimited(f, path, limit)
}

// readLimited reads at most limit bytes.
func readLimited(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("ota/trust: reading %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("ota/trust: %s has more than %d bytes: %w", name, limit, ErrTooLarge)
	}
	return data, nil
}
