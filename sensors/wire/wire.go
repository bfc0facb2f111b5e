// SPDX-License-Identifier: Apache-2.0

// Package wire has what the drivers of I²C chips share: registers of 16 bits, Sensirion's words with a checksum, and the
// test for a bus that is stuck.
package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// ReadWord reads a register of 16 bits, high byte first, in one transaction.
func ReadWord(ctx context.Context, c *hal.Conn, reg byte) (uint16, error) {
	var b [2]byte
	err := c.Tx(ctx, []byte{reg}, b[:])
	return binary.BigEndian.Uint16(b[:]), err
}

// WriteWord writes a register of 16 bits, high byte first.
func WriteWord(ctx context.Context, c *hal.Conn, reg byte, value uint16) error {
	return c.Tx(ctx, []byte{reg, byte(value >> 8), byte(value)}, nil)
}

// Command sends a command of 16 bits, high byte first, as Sensirion's chips take it.
func Command(ctx context.Context, c *hal.Conn, command uint16) error {
	return c.Tx(ctx, []byte{byte(command >> 8), byte(command)}, nil)
}

// ReadWords reads len(words) words, each followed by its CRC, as Sensirion's chips send them. It wraps sensors.ErrCRC.
func ReadWords(ctx context.Context, c *hal.Conn, words []uint16) error {
	b := make([]byte, 3*len(words))
	if err := c.Tx(ctx, nil, b); err != nil {
		return err
	}
	for i := range words {
		w := b[3*i : 3*i+3]
		if CRC8(w[:2]) != w[2] {
			return fmt.Errorf("word %d is % x: %w", i, w, sensors.ErrCRC)
		}
		words[i] = binary.BigEndian.Uint16(w)
	}
	return nil
}

// CRC8 is the checksum of Sensirion's and Aosong's chips: polynomial 0x31, initial value 0xff, not reflected, no final XOR
// (SHT3x-DIS data sheet §4.12: 0xbeef gives 0x92).
func CRC8(data []byte) byte {
	crc := byte(0xff)
	for _, b := range data {
		crc ^= b
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// Foreign takes a wrong checksum for another chip's answer: what an Identify returns that reads words with a CRC. The error then wraps both
// sensors.ErrWrongChip and sensors.ErrCRC.
func Foreign(err error) error {
	if errors.Is(err, sensors.ErrCRC) {
		return fmt.Errorf("%w: %w", sensors.ErrWrongChip, err)
	}
	return err
}

// Uniform reports whether all bits are 0 or all are 1: a bus without a chip, or a stuck one.
func Uniform(b []byte) bool {
	for _, v := range b {
		if v != b[0] || v != 0 && v != 0xff {
			return false
		}
	}
	return true
}
