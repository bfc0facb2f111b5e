// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"os"
	"syscall"
	"testing"
)

// hold returns a file's or folder's inode, and keeps it from being used again.
func (l *lossy) hold(path string) uint64 {
	l.t.Helper()
	var st syscall.Stat_t
	check(l.t, syscall.Stat(path, &st))
	if l.held[st.Ino] == nil {
		f, err := os.Open(path)
		check(l.t, err)
		l.held[st.Ino] = f
	}
	return st.Ino
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	return data
}
