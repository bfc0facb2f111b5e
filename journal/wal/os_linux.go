// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// osFile is a File of the operating system.
type osFile struct{ *os.File }

// Sync flushes the data and the size, but not the times, which saves the journal of the file system a write.
func (f osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// dropCache gives up the cached pages of f that are clean, so that they are read from the disk again.
func dropCache(f *os.File) error {
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// identity tells this file from each other one, a copy of it with the same name included: its inode and when that was
// made. It is "" where the file system cannot tell.
func identity(f *os.File) string {
	var st unix.Statx_t
	want := uint32(unix.STATX_INO | unix.STATX_BTIME)
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, int(want), &st); err != nil || st.Mask&want != want {
		return ""
	}
	return fmt.Sprintf("%d born %d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec)
}
