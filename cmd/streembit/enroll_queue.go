// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// waiting is a claim that waits at one hub or several, and the JSON of enroll list.
type waiting struct {
	Device edge.ID   `json:"device"`
	Name   string    `json:"name"` // what the device calls itself
	Token  string    `json:"token"`
	Since  time.Time `json:"since"` // by the hub's clock
	From   string    `json:"from"`  // multiaddr
	Hubs   []string  `json:"hubs"`
	Valid  bool      `json:"valid"`            // this folder can grant it
	Reason string    `json:"reason,omitempty"` // why not

	claim enroll.Claim
}

// queue asks all hubs for what waits, one line a device: the first claim of it that can be granted, else any.
func (o *office) queue(ctx context.Context) ([]waiting, error) {
	if o.hubs == nil {
		return nil, cli.Try(fmt.Errorf("asking for claims: %w", transport.ErrNoHubs), "streembit fleet grant ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321")
	}
	var mu sync.Mutex
	found := map[edge.ID]waiting{}
	f, now := o.known(), time.Now()
	used, err := usageOf(f)
	if err != nil {
		return nil, err
	}
	answered, of := o.atHubs(ctx, func(ctx context.Context, h fleet.Grant) error {
		claims, err := o.hubs.node.Claims(ctx, h.Member)
		mu.Lock()
		defer mu.Unlock()
		for _, p := range claims {
			w := o.waiting(f, used, h, p, now)
			if old, there := found[w.Device]; there {
				hubs := append(old.Hubs, h.Name)
				if old.Valid {
					w = old
				}
				w.Hubs = hubs
			}
			found[w.Device] = w
		}
		return err
	})
	if answered == 0 {
		return nil, fmt.Errorf("asking for claims: none of %s answers: %w", plural(of, "hub"), transport.ErrUnreachable)
	}
	all := make([]waiting, 0, len(found))
	for _, w := range found {
		slices.Sort(w.Hubs)
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b waiting) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return a.Device.Compare(b.Device)
	})
	return all, nil
}

// waiting judges one claim that a hub has queued.
func (o *office) waiting(f *fleet.Fleet, used usage, h fleet.Grant, p p2p.Pending, now time.Time) waiting {
	w := waiting{Device: p.Claim.Device, Name: p.Claim.Name, Token: tokenName(p.Claim.Token), Since: time.UnixMilli(p.At).UTC(), From: p.Addr,
		Hubs: []string{h.Name}, claim: p.Claim}
	bad := o.judge(f, used, p.Claim, now)
	if p.Claim.Hub != h.Member {
		bad = fmt.Errorf("it was made at another hub: %w", enroll.ErrBadProof)
	}
	if w.Valid = bad == nil; bad != nil {
		w.Reason = bad.Error()
	}
	return w
}

func newClaims(a *app) *cobra.Command {
	d := desk{app: a}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the claims that wait at the hubs",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.close()) }()
			all, err := o.queue(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(a.out, all)
			}
			printClaims(a, all)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	d.flags(cmd)
	return cmd
}

func printClaims(a *app, all []waiting) {
	if len(all) == 0 {
		fmt.Fprintln(a.err, "no claim waits")
		return
	}
	t := cli.NewTable(a.out)
	t.Row("DEVICE", "NAME", "TOKEN", "SINCE", "FROM", "AT", "PROOF")
	for _, w := range all {
		proof := "ok"
		if !w.Valid {
			proof = w.Reason
		}
		t.Row(w.Device.String(), shown(w.Name), w.Token, w.Since.Format(time.RFC3339), shown(w.From), strings.Join(w.Hubs, " "), proof)
	}
	t.Flush()
}

func newClaimGrant(a *app) *cobra.Command {
	d := desk{app: a}
	var all bool
	cmd := &cobra.Command{
		Use:     "grant DEVICE|--all",
		Short:   "Grant devices that claim by a token of this folder",
		Example: "  streembit enroll grant --all",
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			if (len(argv) == 1) == all {
				return cli.Try(cli.Usagef("streembit enroll grant: want a device or --all"), "streembit enroll list")
			}
			o, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.close()) }()
			queue, err := o.queue(cmd.Context())
			if err != nil {
				return err
			}
			if !all {
				if queue, err = pick(queue, argv[0]); err != nil {
					return err
				}
				if !queue[0].Valid {
					return cli.Try(fmt.Errorf("claim of %s: %s: %w", queue[0].Device, queue[0].Reason, fleet.ErrNotAllowed), "streembit enroll deny %s", queue[0].Device)
				}
			}
			n, err := o.grantClaims(cmd.Context(), queue)
			if err == nil && n == 0 {
				fmt.Fprintln(a.err, "no claim can be granted: see streembit enroll list")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "grant all whose proof is right")
	d.flags(cmd)
	return cmd
}

// pick finds the one device that a person means: what it calls itself, or its id, or the end of it.
func pick(queue []waiting, selector string) ([]waiting, error) {
	var found []waiting
	for _, w := range queue {
		id := w.Device.String()
		if w.Name == selector || id == selector || len(selector) >= 6 && strings.HasSuffix(id, selector) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return nil, cli.Try(cli.Usagef("no device %q waits at the hubs", selector), "streembit enroll list")
	case 1:
		return found, nil
	}
	return nil, cli.Try(cli.Usagef("%s call themselves %q: name one by its id", plural(len(found), "device"), selector), "streembit enroll list")
}

// grantClaims grants those that are valid, in one entry of the log, and takes them from the queues.
func (o *office) grantClaims(ctx context.Context, queue []waiting) (int, error) {
	var done []fleet.Grant
	_, err := o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		grants, events, err := o.fitting(f, queue)
		if err != nil || len(grants) == 0 {
			return f, nil, err
		}
		next, err := f.Grant(o.author, now, grants...)
		done = grants
		return next, events, err
	})
	if err != nil {
		return 0, err
	}
	for _, g := range done {
		fmt.Fprintf(o.app.out, "added %s %s %s\n", g.Roles, g.Name, g.Member)
	}
	for _, g := range done {
		o.drop(ctx, g.Member)
	}
	return len(done), nil
}

// fitting makes the grants, judged anew one after the other so that no token gives more places than it has.
func (o *office) fitting(f *fleet.Fleet, queue []waiting) (grants []fleet.Grant, events []audit.Event, err error) {
	if !slices.ContainsFunc(queue, func(w waiting) bool { return w.Valid }) {
		return nil, nil, nil
	}
	used, err := usageOf(f)
	if err != nil {
		return nil, nil, err
	}
	places, names := map[fleet.TokenID]int{}, map[string]bool{}
	for _, g := range f.Members() {
		names[g.Name] = true
	}
	for _, w := range queue {
		p, err := o.policy(f, w.claim.Token)
		if !w.Valid || err != nil {
			continue
		}
		if _, counted := places[p.ID]; !counted {
			places[p.ID] = int(p.Uses) - len(used[p.ID])
		}
		if !used[p.ID][w.Device] {
			if places[p.ID]--; places[p.ID] < 0 {
				continue
			}
		}
		name := suggest(enroll.Code{Device: w.Device, Name: w.Name})
		if names[name] {
			name = suggest(enroll.Code{Device: w.Device})
		}
		names[name] = true
		g := fleet.Grant{Member: w.Device, Name: name, Roles: p.Roles, Site: p.Site, Labels: p.Labels, Token: p.ID}
		grants = append(grants, g)
		events = append(events, audit.Event{Event: "grant", What: w.Device.String(), Detail: granted(g).Detail + ", by token " + tokenName(p.ID)})
	}
	return grants, events, nil
}

// drop takes a device's claims from the hubs' queues. One that stays is refused or found to be a member next time.
func (o *office) drop(ctx context.Context, device edge.ID) (at int) {
	answered, _ := o.atHubs(ctx, func(ctx context.Context, h fleet.Grant) error { return o.hubs.node.DropClaim(ctx, h.Member, device) })
	return answered
}

func newClaimDeny(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "deny DEVICE",
		Short: "Take a claim from the hubs' queues",
		Long:  "The device may claim again while its token lasts. A token that is in the wrong hands stays until its end or its last use.",
		Args:  cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			o, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.close()) }()
			queue, err := o.queue(cmd.Context())
			if err != nil {
				return err
			}
			if queue, err = pick(queue, argv[0]); err != nil {
				return err
			}
			w := queue[0]
			at := o.drop(cmd.Context(), w.Device)
			fmt.Fprintf(a.out, "denied %s %s at %s\n", shown(w.Name), w.Device, plural(at, "hub"))
			return o.note(audit.Event{Event: "deny", What: w.Device.String(), Detail: "token " + w.Token})
		},
	}
	d.flags(cmd)
	return cmd
}

func newClaimServe(a *app) *cobra.Command {
	d := desk{app: a}
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Grant devices that claim by a token of this folder as they come, until Ctrl-C",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < time.Second {
				return cli.Try(cli.Usagef("--every %s: want 1s or more", every), "streembit enroll serve --every 10s")
			}
			return d.serveClaims(cmd.Context(), every)
		},
	}
	cmd.Flags().DurationVar(&every, "every", 5*time.Second, "how often the hubs are asked")
	d.flags(cmd)
	return cmd
}

func (d desk) serveClaims(ctx context.Context, every time.Duration) (err error) {
	if tokens, err := os.ReadDir(d.dir.tokens()); err != nil || len(tokens) == 0 {
		return cli.Try(fmt.Errorf("%s keeps no token", d.dir), "streembit enroll token --uses 50 --expires 7d --out enroll.toml")
	}
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	fmt.Fprintf(o.app.err, "granting devices that claim by a token of %s, until Ctrl-C\n", o.dir)
	again := time.NewTicker(every)
	defer again.Stop()
	silent := false
	for {
		queue, err := o.queue(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !silent:
			fmt.Fprintf(o.app.err, "%v\n", err)
		case err == nil:
			if _, err := o.grantClaims(ctx, queue); err != nil {
				return err
			}
		}
		silent = err != nil
		o.leave()
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		if err := o.comeBack(ctx); err != nil {
			return err
		}
	}
}
