// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SpaceOf returns the room of the file system that holds a path of this machine, as it is for users other than root.
func SpaceOf(path string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Space{}, fmt.Errorf("doctor: %s: %w", path, err)
	}
	return Space{int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize)}, nil
}
