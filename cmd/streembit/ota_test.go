// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/transport/p2p"
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

// says has a device tell the fleet how far its update is: says FOLDER VERSION STAGE [WANTED REASON].
func says(ts *testscript.TestScript, _ bool, args []string) {
	state := stateDir(ts.MkAbs(args[0]))
	key, err := fleet.LoadKey(state.key())
	ts.Check(err)
	f, err := fleet.Load(state.bundle(), journal.FleetID{})
	ts.Check(err)
	p := ota.Progress{Version: ota.Version(args[1]), Stage: ota.Stage(args[2]), At: time.Now().UnixMilli()}
	if len(args) > 4 {
		p.Wanted, p.Reason = ota.Version(args[3]), ota.Reason(args[4])
	}
	body, err := json.Marshal(p)
	ts.Check(err)
	name := records.Key(records.Progress, key.ID().String())
	raw, err := records.Sign(key, f.ID(), name, uint64(time.Now().UnixMilli()), body)
	ts.Check(err)
	node, err := p2p.New(context.Background(), p2p.Options{Signer: key, Fleet: func() *fleet.Fleet { return f }})
	ts.Check(err)
	defer func() { ts.Check(node.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	ts.Check(node.PutRecord(ctx, name, raw))
}

// TestHoldsVersion: a program that was built as another version is no release, because every device would go back from it.
func TestHoldsVersion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "streembitd")
	if err := os.WriteFile(file, []byte("\x7fELF…v1.4.0…"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := holdsVersion(file, "1.4.0"); err != nil {
		t.Error(err)
	}
	err := holdsVersion(file, "1.5.0")
	if !errors.Is(err, errOtherVersion) || !cli.Tried(err) {
		t.Errorf("%v", err)
	}
}
