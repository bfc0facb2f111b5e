// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/transport/p2p"
)

// newcomer is a device without a fleet. It shows its code, asks hubs, and takes the fleet that proves itself; see consider.go.
type newcomer struct {
	cfg    *config
	logger *slog.Logger
	record *record
	alarms *alarms
	clock  *wallClock
	code   enroll.Code
	node   *p2p.Newcomer
	named  []fleet.Bootstrap // hubs of the config and the command line
	done   chan *fleet.Fleet // gets the fleet once it is saved

	considering sync.Mutex // one offer at a time
	claimed     bool

	mu     sync.Mutex
	token  *enroll.Token // nil = none found
	path   string        // of the token
	fault  string        // why the token file cannot be used
	hubs   map[edge.ID]*asked
	logged map[string]bool
}

// asked is how a hub answered.
type asked struct {
	queued time.Time // when it took the claim; zero = it has not
	answer string    // for people
}

// enrol waits until some fleet has taken this device in, and returns that fleet, which is saved. It returns nil when ctx ends before that.
func (p *program) enrol(ctx context.Context) (*fleet.Fleet, error) {
	n, err := p.newNewcomer(ctx)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	wait, err := serveStatus(ctx, p.cfg.State, func() any { return p.unclaimedStatus(n) })
	if err != nil {
		return nil, errors.Join(err, n.node.Close())
	}
	var f *fleet.Fleet
	p.vitals.enter(unclaimed)
	defer p.vitals.enter(opening)
	group.Go(wait)
	group.Go(func() error { n.seek(ctx); return nil })
	group.Go(func() error { return n.watchFile(ctx) })
	group.Go(func() error {
		select {
		case f = <-n.done:
			t := time.NewTimer(answerTime)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		stop()
		return nil
	})
	err = group.Wait()
	return f, errors.Join(err, n.node.Close())
}

func (p *program) newNewcomer(ctx context.Context) (*newcomer, error) {
	secret, err := claimSecret(p.cfg.State)
	if err != nil {
		return nil, err
	}
	stable, err := stableSecret(p.cfg.file(secretName))
	if err != nil {
		return nil, err
	}
	n := &newcomer{cfg: &p.cfg, logger: p.logger.With("part", "enrolment"), record: p.record, alarms: p.alarms, clock: p.clock,
		code: enroll.Code{Device: p.key.ID(), Secret: secret, Name: hostName()}, done: make(chan *fleet.Fleet, 1),
		hubs: map[edge.ID]*asked{}, logged: map[string]bool{}}
	if n.named, err = parseHubs(append(p.hubs, p.cfg.Enroll.Hubs...)); err != nil {
		return nil, cli.Usage(err)
	}
	listen := p.cfg.Listen
	if len(listen) == 0 {
		listen = defaultListen()
	}
	n.node, err = p2p.NewNewcomer(ctx, p2p.NewcomerOptions{Signer: p.key, Secret: stable, Code: n.code, Listen: listen, MDNS: p.cfg.MDNS,
		Version: version, Logger: n.logger, Offer: func(_ context.Context, a enroll.Approval, b fleet.Bundle) error {
			return n.consider(&a, b, "offered directly")
		}})
	if err != nil {
		return nil, cli.Try(err, "another port in listen, or stop what uses it")
	}
	p.record.decided(evUnclaimed, p.key.ID().String(), "", "")
	n.logger.Warn("this device belongs to no fleet and waits to be taken into one: streembit enroll approve CODE", "id", p.key.ID(), "code", n.code.String(),
		"addrs", n.node.Addrs(), "mdns", p.cfg.MDNS)
	return n, nil
}

// hostName is what a device calls itself: its host's name as far as members may be called so.
func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return cleanName(host)
}

// cleanName makes a name of what is meant to be one: a-z 0-9 . _ -, beginning with a letter or digit.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return -1
	}, strings.ToLower(s))
	s = strings.TrimLeft(s, "._-")
	return s[:min(len(s), 32)]
}

// Times of asking hubs.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
	claimAgain = 10 * time.Minute // a hub that lost its queue gets the claim again
	askLimit   = 30 * time.Second // for one hub
	askAtOnce  = 4                // hubs
	answerTime = time.Second      // for the answer to who offered the fleet, before the node closes
)

// seek asks all known hubs again and again, ever slower, until ctx ends. A token that was put there later is found too.
func (n *newcomer) seek(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; pause = min(pause*3/2, lastPause) {
		n.findToken()
		n.askAll(ctx)
		t := time.NewTimer(pause/2 + rand.N(pause)) // so that a site that comes back from a power cut does not ask as one
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// findToken reads the first token file that is there.
func (n *newcomer) findToken() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.token != nil {
		return
	}
	for _, path := range n.cfg.tokens() {
		t, err := readToken(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			n.fault = fmt.Sprintf("%s: %v", path, err)
			n.once("token "+path+err.Error(), func() { n.logger.Error("claim token not used", "file", path, "err", err) })
			continue
		}
		n.token, n.path, n.fault = &t, path, ""
		n.logger.Info("claim token found", "file", path, "fleet", t.Fleet, "expires", t.Expires, "hubs", len(t.Hubs))
		return
	}
}

func readToken(path string) (enroll.Token, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return enroll.Token{}, fmt.Errorf("reading token: %w", err)
	}
	return enroll.ParseToken(data)
}

// once logs what would come again each round. The caller holds mu.
func (n *newcomer) once(what string, log func()) {
	if !n.logged[what] && len(n.logged) < 1000 {
		n.logged[what] = true
		log()
	}
}

func (n *newcomer) askAll(ctx context.Context) {
	n.mu.Lock()
	token, hubs := n.token, mergeHubs(nil, n.named)
	if token != nil {
		hubs = mergeHubs(hubs, token.Hubs)
	}
	n.mu.Unlock()
	var all errgroup.Group
	all.SetLimit(askAtOnce)
	for _, h := range hubs {
		all.Go(func() error {
			n.ask(ctx, h, token)
			return nil
		})
	}
	_ = all.Wait() // none returns an error
}

// ask makes the claim at a hub if need be, and looks whether there is an answer.
func (n *newcomer) ask(ctx context.Context, hub fleet.Bootstrap, token *enroll.Token) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	n.mu.Lock()
	a := n.hubs[hub.ID]
	if a == nil {
		a = &asked{}
		n.hubs[hub.ID] = a
	}
	claim := token != nil && !n.tokenExpired() && time.Since(a.queued) > claimAgain
	n.mu.Unlock()
	queued, refusal := false, error(nil)
	if claim {
		refusal = n.node.ClaimAt(ctx, hub, token.Claim(n.code.Device, hub.ID, n.code.Name))
		queued = refusal == nil
	}
	r, err := p2p.Reply{}, refusal
	if ctx.Err() == nil { // refused or not: a person may have granted it
		if r, err = n.node.PollApproval(ctx, hub); err == nil {
			err = refusal
		}
	}
	if r.Granted {
		err = n.consider(r.Approval, r.Bundle, "hub "+hub.ID.String())
	}
	n.answered(ctx, hub.ID, a, queued, err)
}

// tokenExpired reports whether the token's end has passed by a clock that is right. The caller holds mu.
func (n *newcomer) tokenExpired() bool {
	now, ok := n.clock.read()
	return n.token != nil && ok && now.After(n.token.Expires)
}

func (n *newcomer) answered(ctx context.Context, hub edge.ID, a *asked, queued bool, err error) {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case queued:
		a.queued = time.Now()
		fallthrough
	case err == nil && !a.queued.IsZero():
		a.answer = "claim queued, waits for an operator or the token's policy"
	case err == nil:
		a.answer = "knows of no approval yet"
	}
	if err != nil {
		a.answer = err.Error()
	}
	n.once(hub.String()+a.answer, func() { n.logger.Info("hub asked", "hub", hub, "answer", a.answer) })
}

// watchFile takes a fleet.cbor that a person put there, on SIGHUP, until ctx ends.
func (n *newcomer) watchFile(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
		}
		f, err := loadFleet(n.cfg.State)
		if err != nil {
			n.logger.Error("no fleet taken", "err", err)
			continue
		}
		n.considering.Lock()
		if !n.claimed {
			n.finish(f, "file")
		}
		n.considering.Unlock()
	}
}
