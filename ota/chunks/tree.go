// SPDX-License-Identifier: Apache-2.0

// Package chunks cuts programs into pieces that can be fetched from several members and proven one by one.
package chunks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Size is the length of a chunk in bytes; the last of a file may be shorter.
const Size = 256 << 10

// Tree returns the hash that names a file by its chunks, and the file's length in bytes: SHA-256 over the concatenated SHA-256 hashes of the
// chunks. An empty file has no chunks.
func Tree(r io.Reader) (tree [32]byte, size int64, err error) {
	all, buf := sha256.New(), make([]byte, Size)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			chunk := sha256.Sum256(buf[:n])
			all.Write(chunk[:])
			size += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return [32]byte(all.Sum(nil)), size, nil
		case err != nil:
			return tree, size, fmt.Errorf("chunks: hashing at byte %d: %w", size, err)
		}
	}
}
