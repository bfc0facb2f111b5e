// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

func newRewrap(a *app) *cobra.Command {
	var r rewrapping
	cmd := &cobra.Command{
		Use:   "rewrap NAME|ID",
		Short: "Hand the keys of older data to a member that became a reader later",
		Long: `A new reader can open what devices seal from then on, not what they sealed before. This collector, which can, hands it the keys of the older
data: for each stream that both have the right to read, sealed for the new reader alone, through the hubs. The new reader's next pull, or its
collect run as it runs, uses them by itself. Run it again at any time: only what is missing is handed on.

What was handed on cannot be taken back, like everything that a reader could ever open.`,
		Example: "  streembit rewrap archive\n  streembit rewrap archive --device pi-1 --stream main",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			for _, s := range r.streams {
				if !journal.ValidStream(s) {
					return cli.Try(cli.Usagef("--stream %q: want 1 to 32 of a-z 0-9 . _ -", s), "streembit rewrap %s --stream main", cli.Quote(argv[0]))
				}
			}
			return r.run(cmd.Context(), a, argv[0])
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&r.devices, "device", nil, "only data of this `device`: a name, an id, or the end of an id; repeat it for more; default all")
	fl.StringSliceVar(&r.streams, "stream", nil, "only this `stream`; repeat it for more; default all that both may read")
	fl.BoolVar(&r.json, "json", false, "write JSON")
	stateFlag(cmd, &r.state)
	return cmd
}

// rewrapping is what streembit rewrap was asked for.
type rewrapping struct {
	state            string
	devices, streams []string
	json             bool
}

// rewrapView is the JSON of what was done.
type rewrapView struct {
	To       edge.ID `json:"to"`
	Name     string  `json:"name"`
	Chains   int     `json:"chains"`
	Handed   int     `json:"handed"`
	Had      int     `json:"had"`
	Unopened int     `json:"unopened"`
	Missing  int     `json:"missing"`
}

func (r *rewrapping) run(ctx context.Context, a *app, selector string) (err error) {
	log, err := a.logger(usualLevel(false))
	if err != nil {
		return err
	}
	cl, err := dialAnew(ctx, log, stateDir(r.state)) // keys must not go to somebody who was revoked meanwhile
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.node.Close()) }()
	to, err := cl.recipient(selector)
	if err != nil {
		return err
	}
	sel, err := cl.devices(r.devices)
	if err != nil {
		return err
	}
	done, err := cl.rewrap(ctx, to, sel, r.streams)
	if done.Handed > 0 {
		err = errors.Join(err, cl.note(to, done))
	}
	if err != nil {
		return err
	}
	return r.report(a, to, done)
}

// recipient returns the one member that a person means, if it can be handed a key.
func (c *client) recipient(selector string) (fleet.Grant, error) {
	f := c.know.get()
	found := f.Find(selector)
	switch {
	case len(found) == 0:
		return fleet.Grant{}, cli.Try(cli.Usagef("no member of fleet %s is called %q", f.State().Name, selector), "streembit fleet show")
	case len(found) > 1:
		var ids []string
		for _, g := range found {
			ids = append(ids, g.Member.String())
		}
		return fleet.Grant{}, cli.Try(cli.Usagef("%q means %s: name one by its id", selector, strings.Join(ids, " and ")), "streembit fleet show")
	case found[0].Member == c.key.ID():
		return fleet.Grant{}, cli.Try(cli.Usagef("%q is this collector itself", selector), "streembit fleet show")
	case len(found[0].Reader) == 0:
		g := found[0]
		return g, cli.Try(fmt.Errorf("%s %s %w", g.Name, g.Member, collector.ErrNoReader),
			"on the owner's machine: streembit fleet grant %s --role collector --name %s --reader reader.pub", g.Member, cli.Quote(g.Name))
	}
	return found[0], nil
}

// rewrap hands the keys on. What it returns is valid even with an error.
func (c *client) rewrap(ctx context.Context, to fleet.Grant, sel selection, streams []string) (collector.Rewrapped, error) {
	p := transport.NewPublisher(c.node, c.know.get)
	defer p.Close()
	return collector.Rewrap(ctx, collector.Config{Source: c.node, Fleet: c.know.get, Key: c.reader, Reader: c.key.ID(), Devices: sel.ids, Names: sel.names,
		Log: c.log.With("part", "collector")},
		collector.Rewrapping{Signer: c.key, To: to.Member, Streams: streams, At: stampNow(), Publish: func(ctx context.Context, seg *journal.Segment) error {
			_, err := p.Publish(ctx, seg, nil)
			return err
		}})
}

// stampNow is the time as this machine knows it; where the kernel does not tell the boot, the boot stays zero.
func stampNow() journal.Stamp {
	boot, up, _, err := agent.Boot("/")
	if err != nil {
		boot, up = journal.BootID{}, 0
	}
	at := edge.Instant{Mono: up.Milliseconds()}
	if clockSynced() {
		at.Wall = time.Now().UnixMilli()
	}
	return journal.Stamp{Boot: boot, At: at}
}

// note writes to the audit log of the collector's folder what was handed on.
func (c *client) note(to fleet.Grant, done collector.Rewrapped) error {
	log, err := audit.Open(audit.Options{Dir: fleetDir(c.dir).audit(), Boot: bootID().String(), Synced: clockSynced})
	if err != nil {
		return err
	}
	err = log.Add(audit.Event{Event: "rewrap", Who: c.key.ID().String(), What: to.Member.String(), Detail: fmt.Sprintf("to %s the keys of %s", to.Name, plural(done.Handed, "epoch"))})
	return errors.Join(err, log.Close())
}

func (r *rewrapping) report(a *app, to fleet.Grant, done collector.Rewrapped) error {
	if r.json {
		v := rewrapView{To: to.Member, Name: to.Name, Chains: done.Chains, Handed: done.Handed, Had: done.Had, Unopened: done.Unopened, Missing: done.Missing}
		if err := cli.PrintJSON(a.out, v); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "handed to %s the keys of %s of %s; it had those of %s already\n", to.Name, plural(done.Handed, "epoch"), plural(done.Chains, "chain"), number(done.Had))
		if done.Unopened > 0 {
			fmt.Fprintf(a.out, "not handed on: %s that this collector cannot open either; a reader that was there earlier can: run streembit rewrap there\n", plural(done.Unopened, "epoch"))
		}
	}
	switch {
	case done.Missing > 0:
		return cli.Try(fmt.Errorf("the beginning of %s is on no hub that answered, so the key could not be handed on: %w", plural(done.Missing, "epoch"), errUnverified),
			"the same command when all hubs answer")
	case done.Chains == 0:
		return cli.Try(fmt.Errorf("the hubs have nothing that was asked for and that both this collector and %s may read", to.Name),
			"streembit fleet show, for the rights of both; streembit pull, for what there is")
	}
	if done.Handed > 0 {
		fmt.Fprintf(a.err, "next, on %s: streembit pull, or streembit collect run, which goes on by itself\n", to.Name)
	}
	return nil
}
