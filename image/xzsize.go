// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"io"
)

// maxIndex is the largest index of an xz stream that is read: a million blocks.
const maxIndex = 16 << 20

// xzSize adds up what the indexes of an xz file say of its unpacked size ("The .xz File Format" 1.2.1, §2.1.2, §4), from the last stream to the first;
// 0 = they say nothing sensible. It is used to refuse an image that does not fit before anything is written, and for the progress bar.
func xzSize(r io.ReaderAt, packed int64) int64 {
	total := int64(0)
	for end := packed; end > 0; {
		var footer [12]byte
		if end < 32 || end%4 != 0 {
			return 0
		}
		if _, err := r.ReadAt(footer[:], end-12); err != nil {
			return 0
		}
		if bytes.Equal(footer[8:], make([]byte, 4)) { // padding between streams
			end -= 4
			continue
		}
		index := (int64(binary.LittleEndian.Uint32(footer[4:8])) + 1) * 4
		if footer[10] != 'Y' || footer[11] != 'Z' || index > maxIndex || index+24 > end {
			return 0
		}
		body := make([]byte, index)
		if _, err := r.ReadAt(body, end-12-index); err != nil {
			return 0
		}
		blocks, size, ok := xzIndex(body)
		end -= 12 + index + blocks + 12
		if !ok || end < 0 || total+size < total {
			return 0
		}
		total += size
	}
	return total
}

// xzIndex reads the records of an index: how much the stream's blocks take in the file, and unpacked.
func xzIndex(b []byte) (packed, size int64, ok bool) {
	if len(b) == 0 || b[0] != 0 {
		return 0, 0, false
	}
	b = b[1:]
	number := func() int64 { // a multibyte integer of at most 9 bytes: what binary.Uvarint reads
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<60 {
			b = nil
			return -1
		}
		b = b[n:]
		return int64(v)
	}
	records := number()
	for range max(records, 0) {
		unpadded, unpacked := number(), number()
		if unpadded < 0 || unpacked < 0 || packed > 1<<60 || size > 1<<60 {
			return 0, 0, false
		}
		packed += (unpadded + 3) &^ 3
		size += unpacked
	}
	return packed, size, records >= 0
}
