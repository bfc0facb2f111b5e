// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
)

// TestKillTakesTheGroup starts a shell that starts another process, and wants both gone.
func TestKillTakesTheGroup(t *testing.T) {
	procs := children{logs: t.TempDir()}
	ch, err := procs.start("shell", nil, "sh", "-c", "sleep 1000 & echo $! >&2; wait")
	if err != nil {
		t.Fatal(err)
	}
	defer procs.close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var pid int
	err = ch.poll(ctx, time.Millisecond, func() (bool, error) {
		pid, err = strconv.Atoi(ch.lastWords())
		return err == nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.check(); err != nil {
		t.Fatalf("it should still run: %v", err)
	}
	procs.close()
	if err := ch.check(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("after the kill: %v", err)
	}
	for gone := false; !gone; { // init may take a moment to bury the orphan
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		gone = errors.Is(err, os.ErrNotExist) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || bytes.Contains(state, []byte(") Z "))
		if ctx.Err() != nil {
			t.Fatalf("process %d, started by the child, still runs", pid)
		}
	}
}

func TestChildThatEndsIsNamed(t *testing.T) {
	procs := children{logs: t.TempDir()}
	defer procs.close()
	var out bytes.Buffer
	ch, err := procs.start("shell", &out, "sh", "-c", "echo result; echo no good >&2; echo try: that >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = ch.poll(t.Context(), time.Millisecond, func() (bool, error) { return false, nil })
	if err == nil || err.Error() != "shell ended by itself (exit status 3): no good" {
		t.Errorf("got %v", err)
	}
	if out.String() != "result\n" {
		t.Errorf("standard output: %q", out.String())
	}
}

func TestPollEndsWithItsContext(t *testing.T) {
	procs := children{logs: t.TempDir()}
	defer procs.close()
	ch, err := procs.start("sleeper", nil, "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	late := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, late)
	defer cancel()
	if err := ch.poll(ctx, time.Millisecond, func() (bool, error) { return false, nil }); !errors.Is(err, late) {
		t.Errorf("got %v, want %v", err, late)
	}
}

// TestChildrenDoNotInherit: a STREEMBIT_* variable of the person who runs the demo must not reach the demo's processes.
func TestChildrenDoNotInherit(t *testing.T) {
	t.Setenv("STREEMBIT_STATE", "/somewhere")
	t.Setenv("OTHER", "stays")
	env := strings.Join(cleanEnv(), "\n")
	if strings.Contains(env, "STREEMBIT_STATE") || !strings.Contains(env, "OTHER=stays") {
		t.Errorf("got %s", env)
	}
}

func TestSiblingIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := sibling("streembitd")
	var out bytes.Buffer
	if code := outcome().Report(&out, err); code != cli.Failure || !strings.Contains(out.String(), "try: make build && bin/streembit demo\n") {
		t.Errorf("exit code %d, said %q", code, out.String())
	}
}
