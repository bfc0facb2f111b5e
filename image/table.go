// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Extent is a partition of an image, in bytes.
type Extent struct {
	Start, Size int64
	Kind        string // fat, ext, or "" = none that is written to
}

// ErrNoTable is wrapped when an image has no partition table that makes sense.
var ErrNoTable = errors.New("no partition table")

// sector is the unit of partition tables on disks that boards start from, in bytes.
const sector = 512

// Extents reads the partitions of an image of size bytes from its MBR or GPT, in the order of the table, with what is on them. Empty entries are left out.
// An entry that reaches beyond the image is an error, like a table that is damaged: the errors wrap ErrNoTable.
func Extents(r io.ReaderAt, size int64) ([]Extent, error) {
	var mbr [sector]byte
	if _, err := r.ReadAt(mbr[:], 0); err != nil || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, fmt.Errorf("image: reading partitions: %w: no boot record", errors.Join(err, ErrNoTable))
	}
	var found []Extent
	for i := range 4 {
		e := mbr[446+16*i:]
		if e[4] == 0xee {
			return gpt(r, size)
		}
		x := Extent{Start: int64(binary.LittleEndian.Uint32(e[8:])) * sector, Size: int64(binary.LittleEndian.Uint32(e[12:])) * sector}
		if e[4] == 0 || x.Size == 0 || e[4] == 0x05 || e[4] == 0x0f || e[4] == 0x85 { // none, or a container of further ones: no board image has its system there
			continue
		}
		found = append(found, x)
	}
	return identify(r, size, found)
}

// gpt reads a GUID partition table (UEFI 2.10, §5.3).
func gpt(r io.ReaderAt, size int64) ([]Extent, error) {
	var h [sector]byte
	if _, err := r.ReadAt(h[:], sector); err != nil || !bytes.HasPrefix(h[:], []byte("EFI PART")) {
		return nil, fmt.Errorf("image: reading partitions: %w: no GPT header", errors.Join(err, ErrNoTable))
	}
	first, count, each := binary.LittleEndian.Uint64(h[72:]), binary.LittleEndian.Uint32(h[80:]), binary.LittleEndian.Uint32(h[84:])
	if first > 1<<40 || count > 1024 || each < 128 || each > 4096 {
		return nil, fmt.Errorf("image: reading partitions: %w: %d GPT entries of %d bytes", ErrNoTable, count, each)
	}
	var found []Extent
	entry := make([]byte, each)
	for i := range int64(count) {
		if _, err := r.ReadAt(entry, int64(first)*sector+i*int64(each)); err != nil {
			return nil, fmt.Errorf("image: reading partitions: %w", errors.Join(err, ErrNoTable))
		}
		from, to := binary.LittleEndian.Uint64(entry[32:]), binary.LittleEndian.Uint64(entry[40:])
		if bytes.Equal(entry[:16], make([]byte, 16)) {
			continue
		}
		if from > to || to > 1<<40 {
			return nil, fmt.Errorf("image: reading partitions: %w: an entry from sector %d to %d", ErrNoTable, from, to)
		}
		found = append(found, Extent{Start: int64(from) * sector, Size: int64(to-from+1) * sector})
	}
	return identify(r, size, found)
}

// identify checks the extents and finds out what is on them.
func identify(r io.ReaderAt, size int64, found []Extent) ([]Extent, error) {
	for i, x := range found {
		if x.Start < sector || x.Start+x.Size > size {
			return nil, fmt.Errorf("image: reading partitions: %w: partition %d ends at byte %d of %d", ErrNoTable, i+1, x.Start+x.Size, size)
		}
		var head [2048]byte
		if _, err := r.ReadAt(head[:min(int64(len(head)), x.Size)], x.Start); err != nil {
			return nil, fmt.Errorf("image: reading partitions: %w", err)
		}
		switch {
		case bytes.HasPrefix(head[54:], []byte("FAT1")) || bytes.HasPrefix(head[82:], []byte("FAT32")):
			found[i].Kind = "fat"
		case head[1080] == 0x53 && head[1081] == 0xef: // the superblock's magic (Documentation/filesystems/ext4/super.rst)
			found[i].Kind = "ext"
		}
	}
	return found, nil
}
