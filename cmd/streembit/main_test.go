// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/streembit/edge/test/swarm"
)

// TestMain lets the transcripts run this program, with passphrases that cost little: under the race detector each would take 5 s.
func TestMain(m *testing.M) {
	testscript.Main(swarm.Tests{M: m}, map[string]func(){"streembit": func() {
		a := newApp()
		a.work = 8
		start(a)
	}})
}

// TestTranscripts runs testdata/*.txt: what a person types and sees. "exits N command" checks the exit code.
func TestTranscripts(t *testing.T) {
	old, err := filepath.Abs("../../collector/sqlite/testdata/v1.db") // of two devices, with gaps
	if err != nil {
		t.Fatal(err)
	}
	update := flag.Lookup("test.run") != nil && os.Getenv("UPDATE_SCRIPTS") != ""
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true, UpdateScripts: update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			e.Setenv("OLD_DATABASE", old)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "setid": setID, "hub": startHub, "addr": setAddr, "publish": publish,
			"newcomer": newcomer, "picard": piCard, "daemon": daemons(t), "await": await, "member": inFleet, "jsonfield": jsonField, "program": writeProgram, "says": says},
	})
}

// exits runs a command that must end with the exit code: exits 2 streembit fleet. Its output is for stdout and stderr, as
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

// setID makes a member's keys in a folder and puts its id into a variable: setid HUB folder.
func setID(ts *testscript.TestScript, _ bool, args []string) {
	id, err := makeIdentity(stateDir(ts.MkAbs(args[1])))
	ts.Check(err)
	ts.Setenv(args[0], id.ID.String())
}
