// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/transport"
)

// outcomeWait is how long config set waits for what becomes of a config: a trial, a restart before and, if it is rolled back, one after it.
const outcomeWait = command.TrialLimit + 90*time.Second

// lookEvery is how often the device is asked what becomes of its config: each time is a line in its audit.
const lookEvery = 2 * time.Second

// errRolledBack: the device has its old config again.
var errRolledBack = errors.New("the device did not come back with the new config and has the old one again")

// pushView is the JSON of config set.
type pushView struct {
	Device   string `json:"device"`
	State    string `json:"state"` // valid, kept, rolled back, …
	SHA256   string `json:"sha256"`
	Replaces string `json:"replaces"`
	Why      string `json:"why,omitempty"`
}

func (c *configuring) set(ctx context.Context) error {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return cli.Try(cli.Usagef("reading config: %w", err), "streembit config get %s %s", cli.Quote(c.selector), cli.Quote(c.file))
	}
	if len(text) > command.MaxConfig {
		return cli.Usagef("%s has %d bytes: want at most %d", c.file, len(text), command.MaxConfig)
	}
	return c.withOne(ctx, c.selector, func(ctx context.Context, r *reacher, g fleet.Grant) error {
		p := newProgress(c.app.err)
		defer p.clear()
		v, err := c.push(ctx, r, g, p, string(text))
		if v.SHA256 != "" && c.asJSON {
			err = errors.Join(cli.PrintJSON(c.app.out, v), err)
		}
		return err
	})
}

// push checks, sets, and waits for what becomes of it.
func (c *configuring) push(ctx context.Context, r *reacher, g fleet.Grant, p *progress, text string) (pushView, error) {
	checked, err := c.ask(ctx, r, g, direct.Request{Op: direct.Call, Name: command.ConfigCheck, Value: map[string]any{"text": text}})
	if err != nil {
		return pushView{}, err
	}
	v := pushView{Device: g.Member.String(), State: "valid", SHA256: command.Hash([]byte(text)), Replaces: textOf(checked, "replaces")}
	if wrong := textOf(checked, "wrong"); wrong != "" {
		v.State, v.Why = "wrong", wrong
		return v, cli.Try(cli.Usagef("%s does not take %s as its config:\n%s", g.Name, c.file, shownLines(wrong)), "streembit config set %s %s --dry-run", cli.Quote(g.Name), cli.Quote(c.file))
	}
	if err := c.agree(r, g, &v); err != nil {
		return v, err
	}
	if c.dry {
		p.step(g.Name, "the config is valid; nothing was changed")
		return v, nil
	}
	if v.SHA256 == textOf(checked, "replaces") {
		v.State = command.TrialKept
		p.step(g.Name, "has this config")
		return v, r.noteBase(g.Member, v.SHA256)
	}
	p.step(g.Name, "the config is valid")
	if err := c.swap(ctx, r, g, v); err != nil {
		return v, err
	}
	p.step(g.Name, "written, the device starts anew with it")
	return c.await(ctx, r, g, p, v)
}

// agree says whether the config that is replaced is the one that was changed.
func (c *configuring) agree(r *reacher, g fleet.Grant, v *pushView) error {
	base, err := r.base(g.Member)
	get := func(err error) error {
		return cli.Try(err, "streembit config get %s FILE, put the change into that, or --force", cli.Quote(g.Name))
	}
	switch {
	case err != nil || c.force || v.SHA256 == v.Replaces:
		return err
	case base == "":
		return get(cli.Usagef("this folder never got the config of %s: nobody knows what would be replaced", g.Name))
	case base != v.Replaces:
		return get(fmt.Errorf("somebody changed the config of %s since it was got here", g.Name))
	}
	return nil
}

// swap has the device take the config, asked in as many sessions as that takes: with one id, so that it is done once.
func (c *configuring) swap(ctx context.Context, r *reacher, g fleet.Grant, v pushView) error {
	q := direct.Request{ID: direct.NewID(), Op: direct.Call, Name: command.ConfigSet, Sign: true,
		Value: map[string]any{"sha256": v.SHA256, "replaces": v.Replaces, "accept": strings.Join(c.accept, ",")}}
	limit, cancel := context.WithTimeout(ctx, command.TrialLimit)
	defer cancel()
	_, err := c.ask(limit, r, g, q)
	for lost(err) && nap.For(limit, again) {
		_, err = c.ask(limit, r, g, q)
	}
	if direct.ReasonOf(err) == direct.Unknown { // the device was ended in the middle of it: its state says what came of it
		err = nil
	}
	event := audit.Event{Event: evCall, What: g.Member.String(), Detail: command.ConfigSet + " " + v.SHA256}
	if err != nil {
		event.Detail += ": " + err.Error()
	}
	return errors.Join(err, r.noteCalls(context.WithoutCancel(ctx), event))
}

// lost reports whether another session may bring what this one did not.
func lost(err error) bool {
	return errors.Is(err, direct.ErrLost) || errors.Is(err, transport.ErrUnreachable) || direct.ReasonOf(err) == direct.Stopping ||
		errors.Is(err, context.DeadlineExceeded)
}

// await waits for what becomes of the config.
func (c *configuring) await(ctx context.Context, r *reacher, g fleet.Grant, p *progress, v pushView) (pushView, error) {
	limit, cancel := context.WithTimeout(ctx, outcomeWait)
	defer cancel()
	began := time.Now()
	for {
		got, err := c.ask(limit, r, g, direct.Request{Op: direct.Call, Name: command.ConfigState})
		switch state := textOf(got, "state"); {
		case cli.Is[*direct.Refusal](err) && !lost(err):
			return v, err // it is there, and does not tell
		case err != nil:
			p.live(g.Name, "%s: not back yet", time.Since(began).Round(time.Second))
		case textOf(got, "sha256") != v.SHA256:
			return v, fmt.Errorf("%s was ended before it took the config, or somebody pushed another one meanwhile", g.Name)
		case state == command.TrialReady:
			p.live(g.Name, "%s: it is about to start anew", time.Since(began).Round(time.Second))
		case state == command.TrialOpen:
			p.live(g.Name, "%s: it is back, and on trial", time.Since(began).Round(time.Second))
		default:
			v.State, v.Why = state, textOf(got, "why")
			return v, c.conclude(r, g, p, v)
		}
		if !nap.For(limit, lookEvery) {
			v.State = "unknown"
			return v, cli.Try(fmt.Errorf("%s does not answer: it puts its old config back by itself if it does not come back. %w", g.Name, transport.ErrUnreachable),
				"streembit call %s %s", cli.Quote(g.Name), command.ConfigState)
		}
	}
}

func (c *configuring) conclude(r *reacher, g fleet.Grant, p *progress, v pushView) error {
	if v.State == command.TrialKept {
		p.step(g.Name, "is back, and keeps the new config")
		return r.noteBase(g.Member, v.SHA256)
	}
	err := fmt.Errorf("%s: %s: %s", g.Name, v.State, shown(v.Why))
	if v.State == command.TrialBack {
		err = fmt.Errorf("%s: %w: %s", g.Name, errRolledBack, shown(v.Why))
	}
	return cli.Try(err, "streembit call %s logs", cli.Quote(g.Name))
}

// shownLines makes a text of several lines harmless on a terminal.
func shownLines(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, shown(strings.TrimRight(line, "\n")))
	}
	return strings.Join(out, "\n")
}
