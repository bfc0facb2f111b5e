// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
)

// children owns the processes that it starts. Not safe for concurrent use.
type children struct {
	logs string // folder of their logs
	all  []*child
	wait sync.WaitGroup
}

// child is one started process.
type child struct {
	name string
	cmd  *exec.Cmd
	log  string // file with its standard error
	done chan struct{}
	err  error // valid once done is closed
}

// start runs a program in a process group of its own, which the kernel kills should this process die first. Results go to
// stdout, messages to a log file.
func (c *children) start(name string, stdout io.Writer, argv ...string) (*child, error) {
	log := filepath.Join(c.logs, name+".log")
	f, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer f.Close() // the child has its own copy
	ch := &child{name: name, cmd: exec.Command(argv[0], argv[1:]...), log: log, done: make(chan struct{})}
	ch.cmd.Env, ch.cmd.Stdout, ch.cmd.Stderr = cleanEnv(), stdout, f
	ch.cmd.WaitDelay = time.Second
	ownGroup(ch.cmd)
	if err := ch.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	c.all = append(c.all, ch)
	c.wait.Go(func() {
		ch.err = ch.cmd.Wait()
		close(ch.done)
	})
	return ch, nil
}

// cleanEnv is the environment without STREEMBIT_*, which would change what the children do.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "STREEMBIT_") {
			env = append(env, kv)
		}
	}
	return env
}

// close kills every process that still runs, with all that it started, and waits for them.
func (c *children) close() {
	for _, ch := range c.all {
		ch.kill()
	}
	c.wait.Wait()
}

// kill ends the process group with SIGKILL and waits.
func (c *child) kill() {
	if !c.exited() {
		killGroup(c.cmd.Process.Pid)
	}
	<-c.done
}

func (c *child) exited() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// check returns an error if the process has ended, with the end of its log.
func (c *child) check() error {
	if !c.exited() {
		return nil
	}
	return fmt.Errorf("%s ended by itself (%v): %s", c.name, c.cmd.ProcessState, c.lastWords())
}

// lastWords returns the last line of the log, without the suggestion of a command, which was meant for somebody else.
func (c *child) lastWords() string {
	data, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	last := ""
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "try: ") {
			last = line
		}
	}
	return cmp.Or(last, "it said nothing in "+c.log)
}

// poll calls ready every few milliseconds until it says yes, the process ends, or ctx does.
func (c *child) poll(ctx context.Context, every time.Duration, ready func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-c.done:
			return c.check()
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %s", c.name, context.Cause(ctx), c.lastWords())
		case <-tick.C:
		}
	}
}

// sibling finds another program of ours: beside this one, else in $PATH.
func sibling(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		return "", cli.Try(fmt.Errorf("%s is neither beside this program nor in $PATH", name), "make build && bin/streembit demo")
	}
	return path, err
}
