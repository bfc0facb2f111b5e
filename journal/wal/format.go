// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	magic      = "streemWL"
	version    = 1
	headerSize = 24
	frameHead  = 8        // length and CRC
	frameLimit = 16 << 20 // no frame of any log is longer: a longer length is damage
	suffix     = ".wal"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func fileName(no uint64) string { return fmt.Sprintf("%016x%s", no, suffix) }

// parseName returns the number of a log file; ok is false for any other file.
func parseName(name string) (no uint64, ok bool) {
	no, err := strconv.ParseUint(strings.TrimSuffix(name, suffix), 16, 63)
	return no, err == nil && no > 0 && name == fileName(no)
}

func newHeader(no uint64) []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, no)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// checkHeader reports whether b is the header of file no. An intact header of something else is an error: such a file
// must not be repaired by a program that does not know it.
func checkHeader(b []byte, no uint64) (ok bool, err error) {
	n := headerSize - 4
	if len(b) < headerSize || string(b[:len(magic)]) != magic ||
		crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return false, nil
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return false, fmt.Errorf("%w: %s has version %d, this program knows %d; use the program that wrote it",
			ErrVersion, fileName(no), v, version)
	}
	if is := binary.LittleEndian.Uint64(b[12:]); is != no {
		return false, fmt.Errorf("%w: %s is %s by its header; give it that name again", ErrVersion, fileName(no), fileName(is))
	}
	return true, nil
}

// appendFrame appends data as a frame whose CRC is still missing, because its place is not known yet.
func appendFrame(b, data []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(append(b, 0, 0, 0, 0), data...)
}

// frameLen returns how many bytes the frame at the beginning of b takes, by its length field.
func frameLen(b []byte) int64 { return frameHead + int64(binary.LittleEndian.Uint32(b)) }

// seal puts the CRC into frame, which is to stand at p.
func seal(frame []byte, p Pos) { binary.LittleEndian.PutUint32(frame[4:], frameCRC(frame, p)) }

// intact reports whether frame was sealed for p.
func intact(frame []byte, p Pos) bool {
	return binary.LittleEndian.Uint32(frame[4:]) == frameCRC(frame, p)
}

func frameCRC(frame []byte, p Pos) uint32 {
	var head [20]byte
	binary.LittleEndian.PutUint64(head[:], p.File)
	binary.LittleEndian.PutUint64(head[8:], uint64(p.Off))
	copy(head[16:], frame[:4])
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, frame[frameHead:])
}
