// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Target is an open disk or image file, and a Device.
type Target struct {
	*os.File
	Disk Disk // zero for a file
}

// FindDisk says which disk a path such as /dev/sdb or /dev/disk/by-id/… names. A path that is no block device is a *Refusal.
func FindDisk(root fs.FS, path string) (Disk, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Disk{}, fmt.Errorf("image: finding disk: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeDevice == 0 || info.Mode()&fs.ModeCharDevice != 0 {
		return Disk{}, &Refusal{NoDisk, path, "it is no disk", "lsblk -d -o NAME,MODEL,SIZE,TRAN shows the disks"}
	}
	return Find(root, unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// OpenDisk opens the disk that was shown to a person, for this process alone, and looks at it again: what is open is then what was shown, and may still be
// written. The errors of a changed or used disk are *Refusal.
func OpenDisk(root fs.FS, path string, shown Disk, need int64, allow Allow) (*Target, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_EXCL, 0) // the kernel lets nobody mount or claim it meanwhile, and refuses if somebody has
	if errors.Is(err, syscall.EBUSY) {
		return nil, &Refusal{InUse, shown.Name, "another program or a mount of another container uses it", "lsblk, and unmount what is mounted"}
	}
	if err != nil {
		return nil, fmt.Errorf("image: opening disk: %w", err)
	}
	d, err := statDisk(root, f)
	if err == nil {
		err = shown.Same(d)
	}
	if err == nil {
		err = d.Refuse(need, allow)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Target{f, d}, nil
}

func statDisk(root fs.FS, f *os.File) (Disk, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Disk{}, fmt.Errorf("image: opening disk: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Disk{}, &Refusal{Changed, f.Name(), "it is no disk any more", "the same command again"}
	}
	return Find(root, unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// Forget implements Device.
func (t *Target) Forget() error {
	if t.Disk.Name == "" {
		return unix.Fadvise(int(t.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	return unix.IoctlSetInt(int(t.Fd()), unix.BLKFLSBUF, 0)
}

// Reload implements Device. udev looks at each disk that changes, which makes it busy for moments; a loop device may have no partitions at all.
func (t *Target) Reload() error {
	if t.Disk.Name == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		err := unix.IoctlSetInt(int(t.Fd()), unix.BLKRRPART, 0)
		if err == nil || errors.Is(err, unix.EINVAL) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
