// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
)

// TestRun is what the units do, as far as no systemd is needed: test/vm has the rest.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	root, state, program := filepath.Join(dir, "opt"), filepath.Join(dir, "state"), filepath.Join(dir, "program")
	check(t, errors.Join(os.Mkdir(state, 0o700), os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755)))
	flags := []string{"-root", root, "-state", state}
	call := func(env map[string]string, args ...string) (string, error) {
		var out bytes.Buffer
		err := run(context.Background(), append(flags[:4:4], args...), func(k string) string { return env[k] }, &out)
		return out.String(), err
	}
	must := func(env map[string]string, args ...string) {
		t.Helper()
		if out, err := call(env, args...); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	if _, err := call(nil, "boot"); !errors.Is(err, slots.ErrNoProgram) {
		t.Errorf("boot of nothing: %v", err)
	}
	must(nil, "install", "1.0.0", program)
	must(nil, "boot")
	must(map[string]string{"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "1"}, "ended")
	must(nil, "apply") // nothing was handed over
	if text, err := os.ReadFile(filepath.Join(root, "current", "streembitd")); err != nil || string(text) != "#!/bin/sh\n" {
		t.Errorf("%q runs, %v", text, err)
	}
	check(t, slots.HandOver(state, slots.Request{Path: "streembitd/2.0.0/linux-arm64", Wanted: "2.0.0"}, map[string][]byte{"1.root.json": []byte("{}")}, strings.NewReader("x")))
	must(nil, "apply")
	if p, err := slots.ReadOutcome(root); err != nil || p.Stage != ota.Refused || p.Reason != ota.ReasonProof {
		t.Errorf("what nobody signed: %+v, %v", p, err)
	}
	if _, err := os.Stat(filepath.Join(state, slots.RequestFile)); err == nil {
		t.Error("the request is still there: it would be carried out again and again")
	}
	if _, err := os.Stat(filepath.Join(root, "trust", "root.json")); err == nil {
		t.Error("a root that proves nothing was pinned")
	}
}

func TestRun_WrongArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"fly"}, {"install"}, {"install", "1.0.0"}, {"boot", "now"}, {"-window", "0s", "apply"}, {"-window", "2m", "-deadline", "1m", "apply"}, {"-what"}} {
		var out bytes.Buffer
		err := run(context.Background(), append([]string{"-root", t.TempDir()}, args...), os.Getenv, &out)
		if !errors.Is(err, errUsage) || out.Len() == 0 {
			t.Errorf("%v: %v, %q", args, err, out.String())
		}
	}
}

// TestFewDependencies holds that the helper, which runs as root, does not grow; layers_test.go holds what of ours it may import.
func TestFewDependencies(t *testing.T) {
	text, err := os.ReadFile("main.go")
	check(t, err)
	if n := bytes.Count(text, []byte("\n")); n > 150 {
		t.Errorf("main.go has %d lines, want 150 at most", n)
	}
	for _, heavy := range []string{"net/http", "cobra"} {
		if bytes.Contains(text, []byte(heavy)) {
			t.Errorf("it imports %s", heavy)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
