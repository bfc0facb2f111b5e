// SPDX-License-Identifier: Apache-2.0

package p2p

import "time"

// WithStrangerLife shortens the time after which strangers are disconnected.
func WithStrangerLife(o Options, d time.Duration) Options {
	o.test.strangerLife = d
	return o
}

// WithoutFilters lets everybody into the DHT, as if it had no filters: what the attacks on it look like then.
func WithoutFilters(o Options) Options {
	o.test.noFilters = true
	return o
}

// What the fuzz tests reach into.
var (
	WriteFrame    = writeFrame
	ReadFrame     = readFrame
	EncodeStatus  = encodeStatus
	DecodeStatus  = decodeStatus
	DecodeRequest = decodeRequest
	DecodeAsk     = decodeAsk
	ParseLook     = parseLook
	ParseFound    = parseFound
)
