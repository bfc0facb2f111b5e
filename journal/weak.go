// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"slices"

	"github.com/streembit/edge"
)

// smallOrder lists the encoded y coordinates, sign bit cleared, of the points of edwards25519 whose order divides the
// cofactor 8, in all encodings that crypto/ed25519 reads: 0, 1, two of order 8, p-1, and p and p+1 for 0 and 1.
var smallOrder = [...]edge.ID{
	{},
	{1},
	{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
	{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
	fieldTop(0xec), fieldTop(0xed), fieldTop(0xee),
}

// fieldTop is 2^255 - 256 + low, little-endian; p = 2^255 - 19 ends in 0xed.
func fieldTop(low byte) (id edge.ID) {
	id[0] = low
	for i := 1; i < len(id)-1; i++ {
		id[i] = 0xff
	}
	id[len(id)-1] = 0x7f
	return id
}

// WeakKey reports whether id is a key for which anybody can make valid Ed25519 signatures: a point of small order
// (RFC 8032 §5.1.7 does not refuse them). The zero ID is one, so an identity that somebody forgot to fill in would let
// everybody sign. Nothing signed with such a key is accepted, and no owner or member may have one.
func WeakKey(id edge.ID) bool {
	id[len(id)-1] &= 0x7f
	return slices.Contains(smallOrder[:], id)
}
