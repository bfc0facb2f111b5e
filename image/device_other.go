// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Target is an open image file, and a Device.
type Target struct {
	*os.File
	Disk Disk // always zero
}

// errLinux: whether a disk is in use is read from Linux's tables.
var errLinux = errors.New("disks are written on Linux only, image files anywhere")

// FindDisk fails.
func FindDisk(_ fs.FS, path string) (Disk, error) {
	return Disk{}, fmt.Errorf("image: finding disk %s: %w", path, errLinux)
}

// OpenDisk fails.
func OpenDisk(_ fs.FS, path string, _ Disk, _ int64, _ Allow) (*Target, error) {
	return nil, fmt.Errorf("image: opening disk %s: %w", path, errLinux)
}

// Forget implements Device.
func (t *Target) Forget() error { return nil }

// Reload implements Device.
func (t *Target) Reload() error { return nil }
