// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// disk makes every call that changes the disk, each of them announced.
type disk struct {
	before func(call, path string) error
}

func (d disk) step(call, path string) error {
	if d.before == nil {
		return nil
	}
	return d.before(call, path)
}

func (d disk) mkdir(path string) error {
	if err := d.step("mkdir", path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o755)
}

func (d disk) rename(from, to string) error {
	if err := d.step("rename", from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (d disk) symlink(target, path string) error {
	if err := d.step("symlink", path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// remove takes a file, link or empty folder away; one that is not there is well.
func (d disk) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.step("remove", path); err != nil {
		return err
	}
	return os.Remove(path)
}

// removeAll takes a folder away with what is in it, one call for each. It follows no link.
func (d disk) removeAll(path string) error {
	if info, err := os.Lstat(path); err != nil || !info.IsDir() {
		return d.remove(path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.removeAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return d.remove(path)
}

// sync brings a file, or the names in a folder, to the disk.
func (d disk) sync(path string) error {
	if err := d.step("fsync", path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// create writes a new file and syncs it.
func (d disk) create(path string, data []byte) error {
	if err := d.step("create", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	err = d.step("write", path)
	if err == nil {
		_, err = f.Write(data)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.sync(path)
}

// replace writes a file so that its name leads to the old content or to the new one, whatever happens.
func (d disk) replace(path string, data []byte) error {
	beside := hidden(path)
	if err := d.create(beside, data); err != nil {
		return err
	}
	return d.swap(beside, path)
}

// relink has a link lead elsewhere, in the same way.
func (d disk) relink(path, target string) error {
	beside := hidden(path)
	if err := d.remove(beside); err != nil {
		return err
	}
	if err := d.symlink(target, beside); err != nil {
		return err
	}
	return d.swap(beside, path)
}

func (d disk) swap(from, to string) error {
	if err := d.rename(from, to); err != nil {
		return err
	}
	return d.sync(filepath.Dir(to))
}

func hidden(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// lock takes a lock file; the kernel lets it go with its holder. The error wraps ErrBusy if it is held and wait is false.
func lock(path string, wait bool) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("slots: opening the lock: %w", err)
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, errors.Join(fmt.Errorf("slots: locking: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil // which also unlocks
}

// room returns how many bytes a folder's file system has free for this user.
func room(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("slots: asking for free space: %w", err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
