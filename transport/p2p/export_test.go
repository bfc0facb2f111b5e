// SPDX-License-Identifier: Apache-2.0

package p2p

// What the fuzz tests reach into.
var (
	WriteFrame    = writeFrame
	ReadFrame     = readFrame
	EncodeStatus  = encodeStatus
	DecodeStatus  = decodeStatus
	DecodeRequest = decodeRequest
)
