// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/thing"
)

// errRestart ends the program so that it starts anew.
var errRestart = errors.New("a command wants the program to start anew")

// awaitRestart returns errRestart once a command wants it, or nil when ctx ends.
func (p *program) awaitRestart(ctx context.Context) error {
	select {
	case <-p.again:
		return errRestart
	case <-ctx.Done():
		return nil
	}
}

// startAnew replaces this process by the same program, which may be another version by now. It returns only if that fails: the service manager starts it then.
func startAnew() error {
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ())
	}
	return fmt.Errorf("starting anew: %w", err)
}

// actions is what the device can do beside its sensors. What this machine cannot do is not among them.
func (p *program) actions() map[string]command.Action {
	low, high := thing.Bounds(1, logLines)
	all := map[string]command.Action{
		"restart": {Action: thing.Action{Title: "restart the agent", Description: "ends streembitd in order and starts it anew"}, Do: p.restart},
		"logs": {Action: thing.Action{Title: "collect logs", Description: "the last lines of the log", Safe: true, Idempotent: true, Data: "application/jsonl",
			Input: &thing.Schema{Type: thing.Object, Properties: map[string]thing.Schema{"lines": {Type: thing.Integer, Minimum: low, Maximum: high, Default: 100}}}}, Do: p.collectLogs},
		"self-test": {Action: thing.Action{Title: "test the device", Description: "reads every sensor, writes to the disk, looks at clock, outbox and hubs", Safe: true,
			Output: &thing.Schema{Type: thing.Object}}, Do: p.selfTest},
	}
	maps.Copy(all, p.file.Actions(p.pushable()))
	maps.Copy(all, p.keyActions())
	led, err := command.FindLED("/", p.cfg.Direct.LED)
	switch {
	case err == nil:
		low, high := thing.Bounds(1, 60)
		all["identify"] = command.Action{Action: thing.Action{Title: "identify", Description: "blinks the lamp " + led.Name(), Idempotent: true,
			Input: &thing.Schema{Type: thing.Object, Properties: map[string]thing.Schema{"for": {Type: thing.Number, Unit: "s", Minimum: low, Maximum: high, Default: 10}}}}, Do: blink(led)}
	case p.cfg.Direct.LED != "" || !errors.Is(err, fs.ErrNotExist):
		p.logger.Warn("the device cannot identify itself by a lamp", "err", err)
	}
	if len(p.cfg.Direct.Reboot) > 0 {
		all["reboot"] = command.Action{Action: thing.Action{Title: "reboot", Description: "starts the machine anew", Signed: true}, Do: p.reboot}
	}
	return all
}

func (p *program) restart(_ context.Context, o *direct.Order) (any, error) {
	o.After(p.startAgain)
	return nil, nil
}

// rebootLimit is how long the program that reboots may take: it returns before the machine goes down.
const rebootLimit = 20 * time.Second

func (p *program) reboot(ctx context.Context, _ *direct.Order) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, rebootLimit)
	defer cancel()
	argv := p.cfg.Direct.Reboot
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.200q", argv[0], err, out)
	}
	return nil, nil
}

// input is a number of an action's input.
func input(o *direct.Order, name string, none float64) float64 {
	in, _ := o.Value.(map[string]any)
	if v, there := in[name]; there {
		return thing.Float(v)
	}
	return none
}

func blink(led command.LED) func(context.Context, *direct.Order) (any, error) {
	return func(ctx context.Context, o *direct.Order) (any, error) {
		d := time.Duration(input(o, "for", 10) * float64(time.Second))
		o.Progress(-1, fmt.Sprintf("%s blinks for %s", led.Name(), d))
		return nil, led.Blink(ctx, d)
	}
}

func (p *program) collectLogs(_ context.Context, o *direct.Order) (any, error) {
	_, err := o.Write(p.recent.last(int(input(o, "lines", 100))))
	return nil, err
}

// selfTest tries what the device needs and tells of each part whether it works: "ok", or what is wrong.
func (p *program) selfTest(ctx context.Context, o *direct.Order) (any, error) {
	out := map[string]any{}
	parts := len(p.sensors) + 4
	note := func(name string, err error) {
		text := "ok"
		if err != nil {
			text = strings.ToValidUTF8(fmt.Sprintf("%.300s", err.Error()), "?")
		}
		out[name] = text
		o.Progress(float64(len(out))/float64(parts), name+": "+text)
	}
	for _, s := range p.sensors {
		_, err := p.agent.Read(ctx, s.Name)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		note("sensor "+s.Name, err)
	}
	note("disk", p.testDisk())
	st := p.agent.Status()
	note("clock", unless(st.Clock == "synced", "the kernel does not say that its time is right: readings carry no time of day until it does"))
	note("outbox", unless(st.Outbox.Error == "" && st.Error == "", "%s %s", st.Outbox.Error, st.Error))
	hubs := 0
	for _, peer := range p.node.Peers() {
		if p.members.get().Is(peer.ID, fleet.Hub) {
			hubs++
		}
	}
	note("hubs", unless(hubs > 0, "no hub is connected"))
	return out, nil
}

func unless(good bool, format string, args ...any) error {
	if good {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// testDisk writes a little, durably.
func (p *program) testDisk() error {
	path := filepath.Join(p.cfg.file(directFolder), "self-test")
	if err := fleet.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		return err
	}
	return os.Remove(path)
}
