// SPDX-License-Identifier: Apache-2.0

package chunks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/streembit/edge/ota"
)

// Size is the bytes of every chunk but the last one.
const Size = 256 << 10

// ListOf reads a program to its end, in bounded memory, and returns the hashes of its chunks and its bytes. One without bytes or beyond ota.MaxProgram is an error.
func ListOf(r io.Reader) (list List, size int64, err error) {
	buf := make([]byte, Size)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			list, size = append(list, sha256.Sum256(buf[:n])), size+int64(n)
		}
		switch {
		case size > ota.MaxProgram:
			return nil, 0, fmt.Errorf("chunks: a program of more than %d bytes: %w", ota.MaxProgram, ErrWrong)
		case (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && size == 0:
			return nil, 0, fmt.Errorf("chunks: a program of no bytes: %w", ErrWrong)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return list, size, nil
		case err != nil:
			return nil, 0, fmt.Errorf("chunks: reading program: %w", err)
		}
	}
}

// Tree reads a program to its end and returns the hash that names it, and its bytes. It is ListOf without the list.
func Tree(r io.Reader) (tree [32]byte, size int64, err error) {
	l, size, err := ListOf(r)
	if err != nil {
		return tree, 0, err
	}
	return l.Tree(), size, nil
}
