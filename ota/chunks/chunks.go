// SPDX-License-Identifier: Apache-2.0

// Package chunks cuts programs into pieces that can be proven one by one and come from different members, and keeps those that have come on disk.
//
// A program is named by its tree: the SHA-256 of the concatenated SHA-256 hashes of its chunks, which the signed targets metadata hold. Whoever has the list of
// hashes proves it against the tree, and each chunk against the list.
package chunks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/streembit/edge/ota"
)

// Hash is a SHA-256: of a chunk, or of a list of them, which is a tree.
type Hash = [sha256.Size]byte

// Errors that are wrapped.
var (
	ErrWrong    = errors.New("not what the signed metadata say")       // bytes that do not have their hash
	ErrQuota    = errors.New("the space for programs is used up")      // Store.Begin
	ErrMissing  = errors.New("this chunk is not here")                 // File.Chunk
	ErrNotKnown = errors.New("nothing of this program is here")        // of a tree that the store does not hold
	ErrNoList   = errors.New("the list of its chunks is not yet here") // File.Put, File.List
)

// List is the hashes of a program's chunks, in order.
type List []Hash

// Tree returns the hash that names the program.
func (l List) Tree() Hash {
	h := sha256.New()
	for _, c := range l {
		h.Write(c[:])
	}
	return Hash(h.Sum(nil))
}

// Bytes is what ParseList reads.
func (l List) Bytes() []byte {
	b := make([]byte, 0, len(l)*sha256.Size)
	for _, c := range l {
		b = append(b, c[:]...)
	}
	return b
}

// ParseList proves the list of a program of size bytes. The error wraps ErrWrong.
func ParseList(raw []byte, tree Hash, size int64) (List, error) {
	if size < 1 || size > ota.MaxProgram || len(raw) != Count(size)*sha256.Size || sha256.Sum256(raw) != tree {
		return nil, fmt.Errorf("chunks: list of %d bytes for a program of %d bytes, tree %x: %w", len(raw), size, tree[:4], ErrWrong)
	}
	l := make(List, 0, Count(size))
	for b := range slices.Chunk(raw, sha256.Size) {
		l = append(l, Hash(b))
	}
	return l, nil
}

// Count returns how many chunks a program of size bytes has.
func Count(size int64) int { return int((size + Size - 1) / Size) }

// Len returns the bytes of the chunk at index i: Size, but for the last one.
func Len(size int64, i int) int { return int(min(Size, size-int64(i)*Size)) }

// Bitmap says which chunks there are: bit i%8 of byte i/8, the lowest bit first. Bits beyond the last chunk are 0.
type Bitmap []byte

// NewBitmap returns one with room for n chunks, none set.
func NewBitmap(n int) Bitmap { return make(Bitmap, (n+7)/8) }

// Has reports whether the chunk is there; false for one beyond the end.
func (b Bitmap) Has(i int) bool { return i >= 0 && i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }

// Set notes a chunk.
func (b Bitmap) Set(i int) { b[i/8] |= 1 << (i % 8) }

// Clear takes a chunk back.
func (b Bitmap) Clear(i int) { b[i/8] &^= 1 << (i % 8) }

// Fits reports whether b has the length and the empty end of a bitmap for n chunks: there is one form of each.
func (b Bitmap) Fits(n int) bool {
	return len(b) == (n+7)/8 && (n%8 == 0 || b[len(b)-1]>>(n%8) == 0)
}
