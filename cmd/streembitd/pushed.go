// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
)

// evConfig is the audit event of a config that was pushed, and of what became of it.
const evConfig = "config"

// closing is how long a program may take to end in order with a config that does not work, before it is ended otherwise.
const closing = 10 * time.Second

// uptime is the time since the machine's boot, for what must outlive this program.
func uptime() (journal.BootID, int64) {
	boot, up, _, err := agent.Boot("/")
	if err != nil { // the agent cannot run either; a boot of no name is no other one's
		return journal.BootID{}, 0
	}
	return boot, up.Milliseconds()
}

// openConfig reads the config, or the one before it where a pushed one did not work.
func openConfig(path string) (*command.ConfigFile, config, error) {
	file, trouble := command.OpenConfig(path, uptime)
	cfg, err := loadConfig(path)
	if _, trying := file.OnTrial(); err != nil && trying {
		if trouble = errors.Join(trouble, file.RollBack(err.Error())); trouble == nil {
			cfg, err = loadConfig(path)
		}
	}
	if trouble != nil && err == nil {
		cli.Logger(os.Stderr, cfg.level).Error("what became of a pushed config is not known", "err", trouble)
	}
	return file, cfg, err
}

// run serves. With a config on trial, whatever ends the program or keeps it from being back rolls the config back.
func (r runner) run(ctx context.Context) error {
	_, trying := r.file.OnTrial()
	if trying {
		last := time.AfterFunc(command.TrialLimit+closing, r.endHung)
		defer last.Stop()
	}
	err := serve(ctx, r.cfg, r.hubs, r.file, r.logger)
	if ctx.Err() != nil {
		return err
	}
	if _, trying = r.file.OnTrial(); trying && err != nil && !errors.Is(err, errRestart) {
		return r.rollBack(err.Error())
	}
	if errors.Is(err, errRestart) {
		return startAnew()
	}
	return err
}

// runner is what streembitd run was started with.
type runner struct {
	file   *command.ConfigFile
	cfg    config
	hubs   []string
	logger *slog.Logger
}

// rollBack puts the old config back and starts the program anew with it. It returns only if that fails.
func (r runner) rollBack(why string) error {
	r.logger.Error("the pushed config is rolled back", "why", why)
	if err := r.file.RollBack(why); err != nil {
		return fmt.Errorf("%s: rolling the config back: %w", why, err)
	}
	return startAnew()
}

// endHung ends a program that neither came back nor ended in order with its config on trial.
func (r runner) endHung() {
	if _, trying := r.file.OnTrial(); !trying {
		return
	}
	err := r.rollBack("it neither came back nor ended in order")
	r.logger.Error("the next start decides what becomes of the config", "err", err)
	os.Exit(int(cli.Failure))
}

// pushable lends the program for its config to be replaced.
func (p *program) pushable() command.Pushable {
	return command.Pushable{
		Check:  func(old, text []byte) error { return checkPushed(p.cfg.path, old, text) },
		Before: p.standing,
		Restart: func() {
			select {
			case p.again <- struct{}{}:
			default: // it is under way
			}
		},
		Note: func(who edge.ID, what string) { p.record.decided(evConfig, who.String(), p.cfg.path, what) },
	}
}

// standing is what works now.
func (p *program) standing() (s command.Standing) {
	s.Hub = p.sees(func(id edge.ID) bool { return p.members.get().Is(id, fleet.Hub) })
	for _, h := range p.agent.Status().Sensors {
		if !h.Open || h.Error != "" {
			s.Failing = append(s.Failing, h.Sensor)
		}
	}
	return s
}

// sees reports whether such a member is connected.
func (p *program) sees(who func(edge.ID) bool) bool {
	return slices.ContainsFunc(p.node.Peers(), func(peer p2p.PeerInfo) bool { return who(peer.ID) })
}

// lacks says what does not work that worked before a trial; "" = all of it does.
func (p *program) lacks(t command.Trial) string {
	if p.agent == nil {
		return "it is no device any more"
	}
	f := p.members.get()
	return missing(t.Before, p.agent.Status().Sensors, p.sees(func(id edge.ID) bool { return f.Is(id, fleet.Hub) }),
		p.sees(func(id edge.ID) bool { return f.May(id, fleet.Command, p.key.ID(), command.ConfigSet) }))
}

// missing compares what worked before with what works now: the sensors, whether a hub is connected, and whether somebody is who may push another config.
func missing(before command.Standing, sensors []agent.Health, hub, pusher bool) string {
	var words []string
	for _, h := range sensors {
		if (!h.Open || h.Error != "") && !slices.Contains(before.Failing, h.Sensor) {
			words = append(words, strings.TrimSuffix(fmt.Sprintf("sensor %s does not work: %s", h.Sensor, h.Error), ": "))
		}
	}
	switch {
	case before.Hub && !hub:
		words = append(words, "no hub is connected, though one was before")
	case !hub && !pusher:
		words = append(words, "neither a hub nor anybody who may push a config is connected")
	}
	return strings.Join(words, "; ")
}

// tryConfig judges a config that is on trial. It returns an error when it is to be rolled back, nil otherwise or when ctx ends.
func (p *program) tryConfig(ctx context.Context) error {
	t, trying := p.file.OnTrial()
	if !trying {
		p.tellConfig()
		return nil
	}
	began, good := time.Now(), time.Time{} // since when all is well
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		why := p.lacks(t)
		switch now := time.Now(); {
		case why != "":
			good = time.Time{}
		case good.IsZero():
			good = now
		case now.Sub(good) >= command.TrialSettle:
			err := p.file.Keep()
			p.tellConfig()
			return err
		}
		if time.Since(began) >= command.TrialLimit {
			return fmt.Errorf("not back within %s: %s", command.TrialLimit, why)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tellConfig notes what became of a config, once.
func (p *program) tellConfig() {
	t, known := p.file.Last()
	if !known || t.State == command.TrialOpen || t.Told {
		return
	}
	p.record.decided(evConfig, t.By, p.cfg.path, strings.TrimSuffix(t.State+": "+t.NewHash+": "+t.Why, ": "))
	p.logger.Warn("what became of the pushed config", "state", t.State, "sha256", t.NewHash, "why", t.Why)
	if err := p.file.Told(); err != nil {
		p.logger.Error("it will be told again", "err", err)
	}
}

// configStatus is the last pushed config in the status.
type configStatus struct {
	State  string `json:"state"`
	SHA256 string `json:"sha256"`
	By     string `json:"by"`
	Why    string `json:"why,omitempty"`
}

func (p *program) configStatus() *configStatus {
	t, known := p.file.Last()
	if !known {
		return nil
	}
	return &configStatus{State: t.Called(), SHA256: t.NewHash, By: t.By, Why: t.Why}
}

func printConfig(out io.Writer, c *configStatus) {
	if c == nil {
		return
	}
	fmt.Fprintln(out, strings.TrimSuffix(fmt.Sprintf("config: the last one pushed, %s…, %s: %s", c.SHA256[:min(12, len(c.SHA256))], c.State, c.Why), ": "))
}
