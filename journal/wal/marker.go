// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	markerName = "closed"
	markerTemp = "closed.tmp"
)

// marker is the file that Close leaves. Its text ends with the identity of the file that holds it, which a copy or a
// restored backup of the directory does not have.
type marker struct {
	text     string
	identity string // of the file; "" if there is no marker
}

// state describes the log as the marker does: where it ends, how long it is and a CRC over all files.
func (l *Log) state() string {
	end, sum := Pos{}, uint32(0)
	for _, s := range l.files {
		b := binary.LittleEndian.AppendUint64(nil, s.no)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.size))
		b = binary.LittleEndian.AppendUint32(b, s.digest)
		sum = crc32.Update(sum, castagnoli, b)
		end = Pos{s.no, s.size}
	}
	return fmt.Sprintf("streembit wal %d closed: end %v size %d state %08x", version, end, l.total, sum)
}

func (m marker) proves(state string) bool {
	return m.identity != "" && m.text == markerText(state, m.identity)
}

func markerText(state, identity string) string { return state + " file " + identity + "\n" }

func readMarker(dir string) (marker, error) {
	f, err := os.Open(filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return marker{}, nil
	}
	if err != nil {
		return marker{}, err
	}
	defer f.Close()
	text := make([]byte, 512)
	n, _ := f.ReadAt(text, 0) // an unreadable marker proves nothing
	return marker{string(text[:n]), identity(f)}, nil
}

// writeMarker leaves the marker, by write, sync, rename and sync of the directory.
func (l *Log) writeMarker() error {
	temp := filepath.Join(l.dir, markerTemp)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	id := identity(f)
	if id == "" { // nothing can be proved on this file system
		return errors.Join(f.Close(), os.Remove(temp))
	}
	if _, err = f.WriteString(markerText(l.state(), id)); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(l.dir, markerName)); err != nil {
		return err
	}
	return l.lock.Sync()
}

// removeMarker removes the marker, durably.
func removeMarker(dir string, d *os.File) error {
	for _, name := range []string{markerName, markerTemp} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Sync()
}
