// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// rotateAction is the action by which a device changes its key. It takes an operator's grant and revocation besides, which follow here.
const rotateAction = "rotate-key"

// rotateLimit is how long a device may take for all of it: it starts anew in between.
const rotateLimit = 2 * time.Minute

// turn is where a device's change of keys stands, as the device says and both keys prove.
type turn struct {
	fleet.Succession
	from edge.ID     // the key that the device has now
	ends []fleet.Cut // of the old key's chains, once it has the new one
}

// keyChange is what came of one.
type keyChange struct {
	Name  string  `json:"name"`
	Old   edge.ID `json:"old"`
	New   edge.ID `json:"new"`
	OK    bool    `json:"ok"`
	Error string  `json:"error,omitempty"`
	err   error
}

// rotateAll gives devices new keys, one after the other. What was interrupted goes on when it is called again, from here or from another operator's folder.
func (c *calling) rotateAll(ctx context.Context, r *reacher) error {
	groups, err := c.rotating(r.known())
	if err != nil {
		return err
	}
	if !c.yes {
		return cli.Try(cli.Usagef("%s is destructive: it wants --yes", c.name), "streembit call %s %s --yes", cli.Quote(c.selector), c.name)
	}
	if len(c.words) > 0 {
		return cli.Try(cli.Usagef("%s has no field %q", c.name, c.words[0]), "streembit call %s %s --yes", cli.Quote(c.selector), c.name)
	}
	all := []keyChange{}
	for _, group := range groups {
		limited, cancel := context.WithTimeout(ctx, rotateLimit)
		t, err := c.rotateOne(limited, r, group)
		cancel()
		one := keyChange{Name: group[0].Name, Old: t.Old, New: t.New, OK: err == nil, Error: errText(err), err: err}
		all = append(all, one)
		if c.asJSON {
			continue
		}
		if err != nil {
			fmt.Fprintf(c.app.err, "%s: %s\n", one.Name, shown(one.Error))
			continue
		}
		fmt.Fprintf(c.app.out, "%s is %s now, instead of %s\n", one.Name, one.New, one.Old)
	}
	if c.asJSON {
		err = cli.PrintJSON(c.app.out, all)
	}
	return errors.Join(err, c.rotationsFailed(all))
}

func (c *calling) rotationsFailed(all []keyChange) error {
	for _, one := range all {
		if one.err != nil {
			return cli.Try(fmt.Errorf("%s: %w", one.Name, one.err), "streembit call %s %s --yes: it goes on from there", cli.Quote(c.selector), c.name)
		}
	}
	return nil
}

// rotating returns the devices that are meant. After a change that was interrupted a device is in the fleet twice by one name.
func (c *calling) rotating(f *fleet.Fleet) ([][]fleet.Grant, error) {
	byName := map[string][]fleet.Grant{}
	for word := range strings.SplitSeq(c.selector, ",") {
		match := selectOne(f, word)
		if len(match) == 0 {
			return nil, cli.Try(cli.Usagef("no device of the fleet is called %q", word), "streembit devices list")
		}
		for _, g := range match {
			if !slices.ContainsFunc(byName[g.Name], func(o fleet.Grant) bool { return o.Member == g.Member }) {
				byName[g.Name] = append(byName[g.Name], g)
			}
		}
	}
	var out [][]fleet.Grant
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out, nil
}

// rotateOne brings one device to a new key: of those that have its name, two while a change is under way, the one that answers says how far that is.
func (c *calling) rotateOne(ctx context.Context, r *reacher, named []fleet.Grant) (t turn, err error) {
	for _, g := range named {
		t, err = c.askTurn(ctx, r, g)
		if err == nil {
			break
		}
	}
	if err != nil {
		return t, err
	}
	for _, g := range named {
		if g.Member != t.Old && g.Member != t.New {
			return t, cli.Try(cli.Usagef("%q means %s and %s, which are not one device's keys: name one by its id", g.Name, g.Member, t.from), "streembit devices list")
		}
	}
	if t.from == t.Old {
		if err := r.grantNext(ctx, t.Succession); err != nil {
			return t, err
		}
		if t, err = c.awaitTurn(ctx, r, t, named[0]); err != nil {
			return t, err
		}
	}
	return t, r.revokeOld(ctx, t)
}

// askTurn asks a device how far it is, and has it make a key if it has not begun.
func (c *calling) askTurn(ctx context.Context, r *reacher, g fleet.Grant) (turn, error) {
	out := &outcomeOf{grant: g, show: func(string, float64, string) {}}
	c.do(ctx, r, out)
	for direct.ReasonOf(out.err) == direct.Unknown && ctx.Err() == nil { // the power went meanwhile; twice is as once
		c.do(ctx, r, out)
	}
	if err := c.note(ctx, r, []*outcomeOf{out}); err != nil {
		return turn{}, err
	}
	if out.err != nil {
		return turn{}, out.err
	}
	return openTurn(r.known().ID(), g.Member, out.value)
}

// openTurn judges a device's answer: it counts only for the key that the device has proven in this session, and for one that signed as well.
func openTurn(in journal.FleetID, from edge.ID, value any) (turn, error) {
	said, _ := value.(map[string]any)
	proof, _ := said["proof"].(string)
	ends, _ := said["ends"].(string)
	record, err := base64.StdEncoding.DecodeString(proof)
	if err != nil {
		return turn{}, fmt.Errorf("the device's proof: %w", err)
	}
	t := turn{from: from}
	if t.Succession, err = fleet.OpenSuccession(in, record); err != nil {
		return turn{}, fmt.Errorf("the device's proof: %w", err)
	}
	if from != t.Old && from != t.New {
		return turn{}, fmt.Errorf("%s proves that %s gives way to %s: %w", from, t.Old, t.New, journal.ErrForeignSigner)
	}
	if from == t.Old {
		return t, nil
	}
	raw, err := base64.StdEncoding.DecodeString(ends)
	if err == nil {
		err = journal.Decode(raw, &t.ends)
	}
	if err != nil {
		return turn{}, fmt.Errorf("the ends of the old key's chains: %w", err)
	}
	return t, nil
}

// awaitTurn waits until the device has started with its new key. Meanwhile it is reached by its old one, should it not have heard of the grant.
func (c *calling) awaitTurn(ctx context.Context, r *reacher, t turn, was fleet.Grant) (turn, error) {
	next := was
	next.Member = t.New
	for {
		limited, cancel := context.WithTimeout(ctx, reachLimit)
		got, err := c.askTurn(limited, r, next)
		cancel()
		switch {
		case err == nil && got.Succession == t.Succession:
			return got, nil
		case err == nil: // a second turn: somebody else has ended this one
			return t, nil
		case direct.ReasonOf(err) != 0 && direct.ReasonOf(err) != direct.Stopping && direct.ReasonOf(err) != direct.Busy || cli.Is[*thing.ArgumentError](err):
			return t, err
		case ctx.Err() != nil:
			return t, fmt.Errorf("the new key is granted, and the device has not taken it yet: %w", err)
		}
		if l, err := r.open(ctx, t.Old); err == nil {
			_ = l.close() // the connection stays, over which the device hears of the grant
		}
		r.hubs.node.FleetChanged()
	}
}

// locked does something with the folder that other commands may use meanwhile.
func (r *reacher) locked(ctx context.Context, do func() error) error {
	r.noting.Lock()
	defer r.noting.Unlock()
	if err := r.comeBack(ctx); err != nil {
		return err
	}
	defer r.leave()
	return do()
}

// grantNext lets the new key in.
func (r *reacher) grantNext(ctx context.Context, s fleet.Succession) error {
	return r.locked(ctx, func() error {
		_, err := r.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
			next, err := f.Succeed(r.author, now, s)
			if err != nil || next == f {
				return next, nil, err
			}
			g, _ := next.Member(s.New)
			return next, []audit.Event{granted(g)}, nil
		})
		r.hubs.node.FleetChanged()
		return err
	})
}

// revokeOld takes the old key out, at what the hubs hold and the device still has.
func (r *reacher) revokeOld(ctx context.Context, t turn) error {
	return r.locked(ctx, func() error {
		old, is := r.known().Member(t.Old)
		if !is {
			return nil // it is done
		}
		if !r.known().Succeeds(t.Succession) {
			return fmt.Errorf("%s has not the place of %s: %w", t.New, t.Old, fleet.ErrBadGrant)
		}
		last, err := r.lastOf(ctx, old, len(r.known().Hubs()) == 0)
		if err != nil {
			return fmt.Errorf("the device has its new key; the old one stays a member until it is known how far it published: %w", err)
		}
		last = furthest([][]fleet.Cut{last, t.ends})
		_, err = r.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
			next, err := f.Revoke(r.author, now, t.Old, last, "rotated to "+t.New.String())
			return next, []audit.Event{{Event: "revoke", What: t.Old.String(), Detail: fmt.Sprintf("%s has the key %s, chains that stay: %d", old.Name, t.New, len(last))}}, err
		})
		r.hubs.node.FleetChanged()
		r.namedByID(t.Old)
		return err
	})
}

// namedByID says whose rights name a key that is no more: they do not follow it.
func (r *reacher) namedByID(old edge.ID) {
	for _, g := range r.known().Members() {
		for _, right := range g.Rights {
			if slices.Contains(right.On, old.String()) {
				fmt.Fprintf(r.app.err, "%s may %q, which names the old key: grant it anew if it is to stay\n", g.Name, right)
			}
		}
	}
}
