// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

func newEnroll(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "Take devices into the fleet: by the code that one shows, or by a token on its boot partition",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newApprove(a), newToken(a), newTokenEnd(a), newClaims(a), newClaimGrant(a), newClaimDeny(a), newClaimServe(a))
	return cmd
}

// approval is what streembit enroll approve was asked for.
type approval struct {
	code  enroll.Code
	typed typedGrant
	plain bool // nothing was said of the grant: one that is there stays
	noLAN bool
}

func newApprove(a *app) *cobra.Command {
	d := desk{app: a}
	p := approval{}
	var file string
	cmd := &cobra.Command{
		Use:   "approve CODE|-",
		Short: "Take in the device that shows this code",
		Long: `CODE is the text of the QR code, or the whole offer block, that streembitd id shows on the device; - reads it from standard input. The code holds
a secret: whoever has it can offer the device a fleet, so bring it over by eye, by camera or by a channel that you trust.

The device is granted, and told so directly when it is on this LAN or the block's addresses reach it; otherwise the approval waits at the hubs until
the device asks for it. The same again tells it again.`,
		Example: "  streembit enroll approve STREEMBIT:1:…\n  ssh gateway streembitd id --offer | streembit enroll approve - --label site=lab",
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			text, err := codeText(argv, file)
			if err != nil {
				return err
			}
			if p.code, err = enroll.ParseCode(text); err != nil {
				return cli.Try(cli.Usage(err), "on the device: streembitd id --state /var/lib/streembit")
			}
			p.plain = !slices.ContainsFunc([]string{"name", "role", "site", "label", "expires", "addr"}, cmd.Flags().Changed)
			return d.approve(cmd.Context(), p)
		},
	}
	p.typed.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&p.typed.roles, "role", "device", "`roles`: device, hub, or both")
	fl.StringSliceVar(&p.typed.addrs, "addr", nil, "`multiaddr` at which a hub is reached (may be repeated)")
	fl.StringVar(&file, "file", "", "`file` that holds the code or the offer block")
	fl.BoolVar(&p.noLAN, "no-lan", false, "do not look for the device on this LAN")
	d.flags(cmd)
	return cmd
}

// maxCode bounds what is read for a code, in bytes; a block may stand in a letter.
const maxCode = 64 << 10

func codeText(argv []string, file string) (string, error) {
	switch {
	case (len(argv) == 1) == (file != ""):
		return "", cli.Try(cli.Usagef("streembit enroll approve: want a code, or - for standard input, or --file"), "streembit enroll approve -")
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", cli.Try(cli.Usagef("--file: %w", err), "streembit enroll approve CODE")
		}
		defer f.Close()
		return readCode(f)
	case argv[0] == "-":
		return readCode(os.Stdin)
	}
	return argv[0], nil
}

func readCode(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxCode))
	if err != nil {
		return "", fmt.Errorf("reading code: %w", err)
	}
	return string(text), nil
}

func (d desk) approve(ctx context.Context, p approval) (err error) {
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	g, err := o.approved(p)
	if err != nil {
		return err
	}
	a := p.code.Approve(o.known().ID(), o.author.Key.ID())
	changed, err := o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		if err := nameFree(f, g); err != nil {
			return nil, nil, err
		}
		next, err := enrol(f, o.author, g, now)
		if err != nil || next == f {
			return f, nil, err
		}
		return next, []audit.Event{{Event: "approve", What: g.Member.String(), Detail: granted(g).Detail}}, nil
	})
	if err != nil {
		return err
	}
	if changed {
		fmt.Fprintf(o.app.out, "added %s %s %s\n", g.Roles, g.Name, g.Member)
	} else {
		fmt.Fprintf(o.app.out, "%s already is %s %s\n", g.Member, g.Roles, g.Name)
	}
	return o.deliver(ctx, p, g, a)
}

// approved is the grant for the device that showed the code.
func (o *office) approved(p approval) (fleet.Grant, error) {
	f, id := o.known(), p.code.Device
	if g, ok := f.Member(id); ok && p.plain {
		return g, nil
	}
	if g, r, former := f.Former(id); former && r != nil {
		return fleet.Grant{}, cli.Try(fmt.Errorf("the key of %s was revoked (%s): %w", g.Name, r.Reason, fleet.ErrRevoked),
			"on the device: streembitd reset --i-am-here, which makes a new key; or bring this key back with streembit fleet grant %s", id)
	}
	p.typed.id = id.String()
	if p.typed.name == "" {
		p.typed.name = suggest(p.code)
	}
	g, err := p.typed.grant(time.Now())
	if err == nil && g.Roles&^(fleet.Device|fleet.Hub) != 0 {
		err = errors.New("--role: a code makes a device or a hub; others are granted with streembit fleet grant")
	}
	if err != nil {
		return g, cli.Try(cli.Usage(err), "streembit enroll approve --help")
	}
	return g, nil
}

// suggest makes a member's name of what a device calls itself.
func suggest(c enroll.Code) string {
	if name := strings.ToLower(c.Name); journal.ValidStream(name) {
		return name
	}
	id := c.Device.String()
	return "device-" + strings.ToLower(id[len(id)-6:])
}

// How long the ways to a device may take.
const (
	lanWait   = 3 * time.Second
	offerWait = 30 * time.Second
)

// deliver tells the device, by the first way that works; the hubs keep it otherwise.
func (o *office) deliver(ctx context.Context, p approval, g fleet.Grant, a enroll.Approval) error {
	if o.offline {
		fmt.Fprintf(o.app.err, "the device has not been told (--offline): the same command again without it\n")
		return nil
	}
	if err := o.start(ctx); err != nil {
		return err
	}
	refused := o.offer(ctx, p, a)
	if refused == nil {
		fmt.Fprintf(o.app.out, "%s has taken it and is a member now\n", g.Name)
		return nil
	}
	if at := o.deposit(ctx, a); len(at) > 0 {
		fmt.Fprintf(o.app.out, "the approval waits at %s until %s asks for it\n", strings.Join(at, ", "), g.Name)
		return nil
	}
	return cli.Try(fmt.Errorf("%s is granted, but neither it nor a hub could be told: %w", g.Name, refused),
		"the same command again, beside the device or when a hub can be reached")
}

// offer brings the fleet to the device itself. nil means that it took it.
func (o *office) offer(ctx context.Context, p approval, a enroll.Approval) error {
	failed := fmt.Errorf("%s was not found: %w", p.code.Device.Short(), transport.ErrUnreachable)
	try := func(addrs []string) bool {
		ctx, cancel := context.WithTimeout(ctx, offerWait)
		defer cancel()
		err := o.hubs.node.OfferTo(ctx, p2p.Found{ID: p.code.Device, Addrs: addrs}, a)
		if err != nil {
			o.log.Info("device has not taken the offer", "addrs", addrs, "err", err)
			failed = err
		}
		return err == nil
	}
	if len(p.code.Addrs) > 0 && try(p.code.Addrs) {
		return nil
	}
	if p.noLAN {
		return failed
	}
	look, cancel := context.WithTimeout(ctx, lanWait)
	defer cancel()
	found, err := p2p.Discover(look)
	if err != nil {
		o.log.Info("cannot look around on the LAN", "err", err)
	}
	for _, d := range found {
		if d.ID == p.code.Device && try(d.Addrs) {
			return nil
		}
	}
	return failed
}

// deposit leaves the approval at all hubs and returns the names of those that have it.
func (o *office) deposit(ctx context.Context, a enroll.Approval) []string {
	var mu sync.Mutex
	var at []string
	o.atHubs(ctx, func(ctx context.Context, h fleet.Grant) error {
		err := o.hubs.node.Deposit(ctx, h.Member, a)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, h.Name)
		}
		return err
	})
	slices.Sort(at)
	return at
}

// atHubs does something at all hubs at once and returns how many answered.
func (o *office) atHubs(ctx context.Context, do func(ctx context.Context, h fleet.Grant) error) (answered, of int) {
	ctx, cancel := context.WithTimeout(ctx, hubWait)
	defer cancel()
	all := o.known().Hubs()
	errs := make([]error, len(all))
	var asked sync.WaitGroup
	for i, h := range all {
		asked.Go(func() { errs[i] = do(ctx, h) })
	}
	asked.Wait()
	for i, err := range errs {
		if err == nil {
			answered++
		} else {
			o.log.Info("hub did not do it", "hub", all[i].Name, "err", err)
		}
	}
	return answered, len(all)
}
