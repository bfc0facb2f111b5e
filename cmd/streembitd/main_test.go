// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// TestMain lets the transcripts run this program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"streembitd": main})
}

// TestTranscripts runs testdata/script/*.txt: what a technician types and sees. "exits N command" checks the exit code,
// "enrol FOLDER ROLES" gives the member in the folder a fleet.
func TestTranscripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true, UpdateScripts: *update || os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "enrol": enrol},
	})
}

// exits runs a command that must end with the exit code: exits 2 streembitd run. Its output is for stdout and stderr, as
// that of exec.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		code = string(rune('0' + exit.ExitCode()))
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("%v ended with %s, want %s", args[1:], code, args[0])
	}
}

// enrol founds a fleet, grants the roles to the member whose key lies in the folder, and puts the bundle there.
func enrol(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	key, err := fleet.LoadKey(filepath.Join(dir, "key.pem"))
	ts.Check(err)
	roles, err := fleet.ParseRoles(args[1])
	ts.Check(err)
	recovery, err := journal.GenerateReaderKey()
	ts.Check(err)
	owner, spare := newKey(ts), newKey(ts)
	f, err := fleet.Found(fleet.Founding{Name: "lab", Owner: owner, Spare: spare.ID(), Recovery: recovery.Public()}, time.Now())
	ts.Check(err)
	f, err = f.Grant(fleet.Author{Key: owner}, time.Now(), fleet.Grant{Member: key.ID(), Name: "me", Roles: roles})
	ts.Check(err)
	ts.Check(f.Save(filepath.Join(dir, "fleet.cbor")))
	ts.Setenv("ID", key.ID().String())
}

func newKey(ts *testscript.TestScript) journal.SoftKey {
	_, priv, err := ed25519.GenerateKey(nil)
	ts.Check(err)
	return journal.NewSoftKey(priv)
}
