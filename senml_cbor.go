// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"fmt"
	"math"
)

// Initial bytes of the CBOR items that a pack uses (RFC 8949 §3.1) and the labels of RFC 8428 §6.
const (
	cborUint, cborNegative, cborText, cborArray, cborMap = 0 << 5, 1 << 5, 3 << 5, 4 << 5, 5 << 5

	cborDecimal                 = 0xc4 // tag 4: decimal fraction [exponent, mantissa] (RFC 8949 §3.4.4)
	cborMilli                   = 0x22 // the exponent -3
	cborFalse, cborTrue         = 0xf4, 0xf5
	cborHalf, cborSingle        = 0xf9, 0xfa
	cborDouble                  = 0xfb
	labelName, labelUnit        = 0, 1
	labelValue, labelText       = 2, 3
	labelState, labelSum        = 4, 5
	labelTime, labelBase        = 6, 0x21 // 0x21 is -2
	minRecord                   = 8       // bytes of the smallest record: {0: "a/b", 4: true}
	millis                int64 = 1000
)

// MarshalSenML writes the readings as one SenML pack (RFC 8428) in core deterministic CBOR (RFC 8949 §4.2.1). The first
// record carries the base name "<device>/"; each record has n, u (unless empty), exactly one of v, vs, vb, s, and t.
//
// ref is the moment the pack is closed in milliseconds since boot, not before the newest reading; t = At.Mono - ref is
// time relative to it (RFC 8428 §4.5.3): an integer when it is a whole number of seconds, else a decimal fraction, never a float, and left
// out when 0. At.Wall is not written: whoever carries the pack states the wall time of ref.
//
// The bytes are equal to those of a general encoder (the tests compare them), which costs five times as much per reading.
// An error wraps ErrBadReading and names the reading's index.
func MarshalSenML(device ID, ref int64, readings []Reading) ([]byte, error) {
	if err := checkCount(len(readings)); err != nil {
		return nil, fmt.Errorf("edge: encoding SenML: %w", err)
	}
	b := make([]byte, 0, 80+48*len(readings))
	b = appendHead(b, cborArray, uint64(len(readings)))
	for i := range readings {
		r := &readings[i]
		err := r.Validate()
		if err == nil && r.At.Mono > ref {
			err = badReading("%s: taken at %d ms since boot, after the pack was closed at %d ms", r.Name(), r.At.Mono, ref)
		}
		if err != nil {
			return nil, fmt.Errorf("edge: encoding SenML: reading %d: %w", i, err)
		}
		b = appendRecord(b, r, ref, i == 0)
		if i == 0 {
			b = append(b, labelBase)
			b = appendText(b, device.String()+"/")
		}
	}
	return b, nil
}

// appendRecord writes one record. The keys come in the bytewise order of their encoding, so that bn (0x21) is last.
func appendRecord(b []byte, r *Reading, ref int64, first bool) []byte {
	pairs := uint64(2)
	if r.Unit != "" {
		pairs++
	}
	if r.At.Mono != ref {
		pairs++
	}
	if first {
		pairs++
	}
	b = appendHead(b, cborMap, pairs)
	b = append(b, labelName)
	b = appendHead(b, cborText, uint64(len(r.Sensor)+1+len(r.Quantity.Name)))
	b = append(b, r.Sensor...)
	b = append(b, '/')
	b = append(b, r.Quantity.Name...)
	if r.Unit != "" {
		b = append(b, labelUnit)
		b = appendText(b, r.Unit)
	}
	switch r.Kind {
	case Gauge:
		b = appendFloat(append(b, labelValue), r.Value)
	case Counter:
		b = appendFloat(append(b, labelSum), r.Value)
	case Text:
		b = appendText(append(b, labelText), r.Text)
	case State:
		b = append(b, labelState, cborFalse+byte(r.Value))
	}
	if r.At.Mono != ref {
		b = appendTime(append(b, labelTime), uint64(ref-r.At.Mono))
	}
	return b
}

// appendTime writes the time -ago milliseconds in seconds; ago > 0.
func appendTime(b []byte, ago uint64) []byte {
	if ago%uint64(millis) == 0 {
		return appendHead(b, cborNegative, ago/uint64(millis)-1)
	}
	return appendHead(append(b, cborDecimal, cborArray|2, cborMilli), cborNegative, ago-1)
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

// appendHead writes an item's first byte and its argument in the shortest form (RFC 8949 §4.2.1).
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return append(b, major|25, byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return append(b, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, major|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// appendFloat writes a finite number in the shortest of the three float formats that keeps it exactly (RFC 8949 §4.2.1).
func appendFloat(b []byte, v float64) []byte {
	single := float32(v)
	if float64(single) != v {
		n := math.Float64bits(v)
		return append(b, cborDouble, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	if half, ok := toHalf(single); ok {
		return append(b, cborHalf, byte(half>>8), byte(half))
	}
	n := math.Float32bits(single)
	return append(b, cborSingle, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// toHalf converts to IEEE 754 binary16 when that loses nothing. f is finite.
func toHalf(f float32) (half uint16, exact bool) {
	bits := math.Float32bits(f)
	sign, exp, frac := uint16(bits>>16&0x8000), int(bits>>23&0xff)-127, bits&0x7fffff
	switch {
	case f == 0:
		return sign, true
	case exp >= -14 && exp <= 15: // normal
		return sign | uint16(exp+15)<<10 | uint16(frac>>13), frac&0x1fff == 0
	case exp >= -24 && exp < -14: // subnormal
		shift := uint(-1 - exp)
		frac |= 1 << 23
		return sign | uint16(frac>>shift), frac&(1<<shift-1) == 0
	}
	return 0, false
}

// fromHalf converts from IEEE 754 binary16.
func fromHalf(h uint16) float64 {
	exp, frac := int(h>>10&0x1f), float64(h&0x3ff)
	var v float64
	switch exp {
	case 0:
		v = math.Ldexp(frac, -24)
	case 0x1f:
		if frac != 0 {
			return math.NaN()
		}
		v = math.Inf(1)
	default:
		v = math.Ldexp(frac+1024, exp-25)
	}
	if h&0x8000 != 0 {
		return math.Copysign(v, -1)
	}
	return v
}
