// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/streembit/edge/test/swarm"
)

// daemon is a real streembitd. Its log is read once it has ended.
type daemon struct {
	cmd  *exec.Cmd
	log  swarm.Buffer
	done chan struct{}
}

// daemons runs streembitd with the config FOLDER.toml, which names FOLDER as its state folder: daemon start FOLDER, daemon stop FOLDER, daemon kill FOLDER (with
// SIGKILL), daemon says FOLDER TEXT (waits until its log does). What runs at the end of a transcript is killed.
func daemons(t *testing.T) func(*testscript.TestScript, bool, []string) {
	var mu sync.Mutex
	all := map[string]*daemon{} // by absolute folder
	return func(ts *testscript.TestScript, _ bool, args []string) {
		folder := ts.MkAbs(args[1])
		mu.Lock()
		d := all[folder]
		mu.Unlock()
		switch args[0] {
		case "start":
			d = startDaemon(t, ts, args[1])
			mu.Lock()
			all[folder] = d
			mu.Unlock()
		case "stop":
			d.end(syscall.SIGTERM)
		case "kill":
			d.end(syscall.SIGKILL)
		case "says":
			d.await(ts, args[2])
		default:
			ts.Fatalf("daemon %s: want start, stop, kill or says", args[0])
		}
	}
}

func (d *daemon) end(how syscall.Signal) {
	_ = d.cmd.Process.Signal(how) // it may have ended
	<-d.done
}

func (d *daemon) await(ts *testscript.TestScript, text string) {
	for deadline := time.Now().Add(within); !strings.Contains(d.log.String(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("streembitd never said %q: %s", text, d.log.Tail(20))
		}
	}
}

func startDaemon(t *testing.T, ts *testscript.TestScript, folder string) *daemon {
	program := swarm.Program(t, "streembitd")
	ts.Setenv("STREEMBITD", program)
	d := &daemon{cmd: exec.Command(program, "run", "--config", folder+".toml"), done: make(chan struct{})}
	d.cmd.Dir, d.cmd.Stderr = ts.MkAbs("."), &d.log
	ts.Check(d.cmd.Start())
	go func() { _ = d.cmd.Wait(); close(d.done) }() // end waits for it
	ts.Defer(func() {
		d.end(syscall.SIGKILL)
		ts.Logf("the end of the log of %s:\n%s", folder, d.log.Tail(30)) // seen where the transcript failed
	})
	deadline := time.Now().Add(within)
	for {
		status := exec.Command(program, "status", "--state", folder)
		status.Dir = d.cmd.Dir
		err := status.Run()
		if err == nil {
			return d
		}
		select {
		case <-d.done:
			ts.Fatalf("streembitd ended: %s", d.log.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			d.end(syscall.SIGKILL)
			ts.Fatalf("streembitd is not ready: %v", errors.Join(err, errors.New(d.log.String())))
		}
	}
}
