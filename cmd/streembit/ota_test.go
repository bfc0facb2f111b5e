// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

// writeProgram writes the least that is a program for Linux, with a text that tells it from others: program FILE ARCH TEXT.
func writeProgram(ts *testscript.TestScript, _ bool, args []string) {
	machine := map[string]uint16{"arm64": 183, "arm": 40, "amd64": 62, "riscv64": 243}[args[1]]
	class, size := byte(2), 64
	if args[1] == "arm" {
		class, size = 1, 52
	}
	h := make([]byte, size)
	copy(h, []byte{0x7f, 'E', 'L', 'F', class, 1, 1})
	binary.LittleEndian.PutUint16(h[16:], 2)
	binary.LittleEndian.PutUint16(h[18:], machine)
	binary.LittleEndian.PutUint32(h[20:], 1)
	binary.LittleEndian.PutUint16(h[size-12:], uint16(size))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(h, bytes.Repeat([]byte(args[2]+"z"), 50_000)...), 0o755))
}
