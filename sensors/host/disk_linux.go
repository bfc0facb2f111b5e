// SPDX-License-Identifier: Apache-2.0

package host

import "syscall"

// diskFree returns the bytes that users other than root can still write (statfs(2): f_bavail).
func diskFree(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
