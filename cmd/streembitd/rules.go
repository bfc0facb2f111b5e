// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/rules"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/sensors/all"
)

// ruleConfig is one [[rule]].
type ruleConfig struct {
	Name string `toml:"name"`
	Do   string `toml:"do"` // when … then …
}

// parseRules returns the rules of the config, judged by its sensors.
func (c *config) parseRules() ([]rules.Rule, error) {
	if len(c.Rules) == 0 {
		return nil, nil
	}
	var out []rules.Rule
	for i, r := range c.Rules {
		parsed, err := rules.Parse(r.Name, r.Do)
		if err != nil {
			return nil, &faultyEntry{"rule", i, "do", err}
		}
		out = append(out, parsed)
	}
	if c.Direct.Off {
		return nil, &faultyEntry{"rule", 0, "", fmt.Errorf("rules act as commands do, and direct.off takes those away: leave it out")}
	}
	var sources []rules.Source
	for _, s := range c.Sensors {
		d, err := all.Find(s.Driver)
		if err != nil {
			return nil, err
		}
		sources = append(sources, rules.Source{Name: s.Name, Measures: d.Measures, Outputs: d.Actions})
	}
	for i := range out {
		if err := rules.Check(out[:i+1], sources); err != nil {
			return nil, &faultyEntry{"rule", i, "do", err}
		}
	}
	return out, nil
}

// evRule is the audit event of what a rule has done, or could not.
const evRule = "rule"

// openRules makes the engine, which begins to act with the first reading.
func (p *program) openRules() error {
	list, err := p.cfg.parseRules()
	if err != nil || len(list) == 0 {
		return err
	}
	h := &ruleHands{p: p, lines: map[edge.ID]*direct.Session{}}
	p.opened(closerFunc(h.close))
	p.rules = rules.New(list, rules.Options{Do: h, Interval: func(sensor string) time.Duration { return p.agent.Interval(sensor) },
		Logger: p.logger.With("part", "rules"), Note: func(rule string, a rules.Act, err error) {
			what := a.String()
			if err != nil {
				what += ": " + err.Error()
			}
			p.record.decided(evRule, "", rule, what)
			p.events.tell(eventRule, map[string]any{"rule": rule, "what": what, "done": err == nil})
		}})
	p.opened(p.rules)
	return nil
}

func printRules(out io.Writer, all []rules.Status) {
	for _, r := range all {
		times := "times"
		if r.Fired == 1 {
			times = "time"
		}
		fmt.Fprintf(out, "rule %s: %s", r.Name, r.State)
		if r.Fired > 0 {
			fmt.Fprintf(out, " %d %s, last %s", r.Fired, times, ago(r.Last))
		}
		fmt.Fprintln(out)
		if r.Error != "" {
			fmt.Fprintf(out, "ALARM: rule %s: %s\n", r.Name, r.Error)
		}
	}
}

// ruleHands carries out what rules want: on this device as a command of its own, on others over sessions that stay open.
type ruleHands struct {
	p *program

	mu    sync.Mutex
	lines map[edge.ID]*direct.Session
}

// Do implements rules.Doer.
func (h *ruleHands) Do(ctx context.Context, id [16]byte, a rules.Act) error {
	op, value := direct.Call, any(nil)
	switch {
	case a.Set && a.For == 0:
		op, value = direct.Set, a.Value
	case a.Set:
		value = map[string]any{"value": a.Value, "for": a.For.Seconds()}
	case a.Value != nil:
		value = map[string]any{"value": a.Value}
	case a.Args != nil:
		args := map[string]any{}
		for k, v := range a.Args {
			args[k] = v
		}
		value = args
	}
	if a.Device == "" {
		return h.here(ctx, id, op, a.Name, value)
	}
	return h.there(ctx, a.Device, direct.Request{ID: id, Op: op, Name: a.Name, Value: value})
}

// here judges what the description says of the argument, as the server does for others.
func (h *ruleHands) here(ctx context.Context, id [16]byte, op direct.Op, name string, value any) error {
	d, _ := h.p.device.Thing()
	if op == direct.Call {
		action, ok := d.Actions[name]
		if !ok {
			return cli.Try(fmt.Errorf("this device has no action %q", name), "streembit describe")
		}
		if action.Signed {
			return fmt.Errorf("%s is destructive, a person must want it", name)
		}
		if err := action.Input.Check(name, value); err != nil {
			return err
		}
	}
	_, err := h.p.device.Do(ctx, &direct.Order{Peer: h.p.key.ID(), ID: id, Op: op, Name: name, Value: value})
	return err
}

// there asks another device; its rights are those that the fleet gives this one.
func (h *ruleHands) there(ctx context.Context, device string, r direct.Request) error {
	found := h.p.members.get().Find(device)
	if len(found) == 0 || slices.ContainsFunc(found, func(g fleet.Grant) bool { return g.Name != found[0].Name }) {
		return fmt.Errorf("%q means %d members: want one", device, len(found))
	}
	var errs []error
	for _, g := range found { // two while it changes its key: one of them is there
		s, err := h.line(ctx, g.Member)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, err = s.Do(ctx, r); err != nil && direct.ReasonOf(err) == 0 {
			h.drop(g.Member, s) // the session is lost: the next try opens another one
		}
		return err
	}
	return errors.Join(errs...)
}

func (h *ruleHands) line(ctx context.Context, device edge.ID) (*direct.Session, error) {
	h.mu.Lock()
	s := h.lines[device]
	h.mu.Unlock()
	if s != nil {
		return s, nil
	}
	stream, _, err := h.p.node.Direct(ctx, device)
	if err != nil {
		return nil, err
	}
	if s, err = direct.Open(ctx, stream, direct.Config{Signer: h.p.key, Device: device}); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.lines[device]; other != nil {
		_ = s.Close()
		return other, nil
	}
	h.lines[device] = s
	return s, nil
}

func (h *ruleHands) drop(device edge.ID, s *direct.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lines[device] == s {
		delete(h.lines, device)
	}
	_ = s.Close()
}

func (h *ruleHands) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, s := range h.lines {
		_ = s.Close()
		delete(h.lines, id)
	}
}
