// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
)

func newFleetRevoke(a *app) *cobra.Command {
	d := desk{app: a}
	var reason string
	var noHubs bool
	cmd := &cobra.Command{
		Use:   "revoke NAME|ID",
		Short: "Take everything from a member; what it published up to now stays valid",
		Long: `Asks the hubs how far the member's chains reach and revokes it with that: those segments stay valid and are kept, repaired and read on; nothing
that it signs later counts. Members that are connected cut it off within seconds, the others when they next meet a hub.`,
		Example: "  streembit fleet revoke pi-7 --reason stolen",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			o, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.close()) }()
			g, err := o.member(argv[0])
			if err != nil {
				return err
			}
			last, err := o.lastOf(cmd.Context(), g, noHubs)
			if err != nil {
				return err
			}
			o.printCuts(g, last)
			return o.revoke(cmd.Context(), g, last, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for people")
	cmd.Flags().BoolVar(&noHubs, "no-hubs", false, "do not ask the hubs: then nothing of what a device published stays valid")
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

// member returns the one member that a person means.
func (o *office) member(selector string) (fleet.Grant, error) {
	found := o.known().Find(selector)
	switch len(found) {
	case 0:
		return fleet.Grant{}, cli.Try(cli.Usagef("no member of fleet %s is called %q", o.known().State().Name, selector), "streembit fleet show%s", o.dirArg())
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, g := range found {
		ids = append(ids, g.Member.String())
	}
	return fleet.Grant{}, cli.Try(cli.Usagef("%q means %s: name one by its id", selector, strings.Join(ids, " and ")), "streembit fleet show%s", o.dirArg())
}

// revoke makes the revocation, and takes a hub out of the state's bootstrap list.
func (o *office) revoke(ctx context.Context, g fleet.Grant, last []fleet.Cut, reason string) error {
	_, err := o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		next, err := f.Revoke(o.author, now, g.Member, last, reason)
		if err != nil {
			return nil, nil, err
		}
		next, err = bootstrap(next, o.author, now, bootstrapWith(f.State().Hubs, fleet.Grant{Member: g.Member}))
		return next, []audit.Event{{Event: "revoke", What: g.Member.String(), Detail: fmt.Sprintf("%s %s, chains that stay: %d, reason: %s", g.Roles, g.Name, len(last), reason)}}, err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(o.app.out, "revoked %s %s %s\n", g.Roles, g.Name, g.Member)
	if !o.owner && slices.ContainsFunc(o.known().State().Hubs, func(b fleet.Bootstrap) bool { return b.ID == g.Member }) {
		fmt.Fprintf(o.app.err, "the fleet state still names it as a hub to begin at; only the owner can change that, with the next change of a hub\n")
	}
	return nil
}

func (o *office) printCuts(g fleet.Grant, last []fleet.Cut) {
	if len(last) == 0 {
		fmt.Fprintf(o.app.out, "nothing that %s signed stays valid\n", g.Name)
		return
	}
	fmt.Fprintf(o.app.out, "of %s stays valid:\n", g.Name)
	t := cli.NewTable(o.app.out, 2)
	for _, c := range last {
		t.Row("  "+c.Stream, c.Incarnation.String(), fmt.Sprintf("0 to %d", c.Seq))
	}
	t.Flush()
}

func newFleetRekey(a *app) *cobra.Command {
	d := desk{app: a}
	var reader, reason string
	var noHubs bool
	cmd := &cobra.Command{
		Use:   "rekey OLD NEWID",
		Short: "Give a member's place to a new key: the new one is granted the same, the old one is revoked at its last segment",
		Long: `For a member that has made a new key: a board that was flashed anew, a gateway whose key was told to somebody. The new key gets the old one's name,
roles, site, labels, rights and end, and the old one is revoked at the last segment that the hubs hold; hubs learn both at once.`,
		Example: "  streembit fleet rekey pi-7 12D3KooW…",
		Args:    cli.Args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			id, err := edge.ParseID(argv[1])
			if err != nil {
				return cli.Try(cli.Usage(err), "on the member: streembitd id --state /var/lib/streembit")
			}
			o, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.close()) }()
			old, err := o.member(argv[0])
			if err != nil {
				return err
			}
			g := old
			g.Member, g.Serial, g.Token = id, 0, fleet.TokenID{}
			if reader != "" {
				if g.Reader, err = readReaderPub(reader); err != nil {
					return cli.Usage(err)
				}
			}
			return o.rekey(cmd.Context(), old, g, reason, noHubs)
		},
	}
	cmd.Flags().StringVar(&reader, "reader", "", "the new reader.pub `file`; default: the reader key stays")
	cmd.Flags().StringVar(&reason, "reason", "new key", "`text` for people")
	cmd.Flags().BoolVar(&noHubs, "no-hubs", false, "do not ask the hubs: then nothing of what a device published stays valid")
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

func (o *office) rekey(ctx context.Context, old, g fleet.Grant, reason string, noHubs bool) error {
	if _, taken := o.known().Member(g.Member); taken || o.known().IsMember(g.Member) {
		return cli.Try(cli.Usagef("%s is a member already", g.Member), "streembit fleet show%s", o.dirArg())
	}
	last, err := o.lastOf(ctx, old, noHubs)
	if err != nil {
		return err
	}
	o.printCuts(old, last)
	_, err = o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		next, err := f.Grant(o.author, now, g)
		if err == nil {
			next, err = next.Revoke(o.author, now, old.Member, last, reason)
		}
		if err != nil {
			return nil, nil, err
		}
		hubs := bootstrapWith(bootstrapWith(f.State().Hubs, fleet.Grant{Member: old.Member}), g)
		next, err = bootstrap(next, o.author, now, hubs)
		return next, []audit.Event{granted(g), {Event: "revoke", What: old.Member.String(), Detail: "rekey of " + old.Name + ": " + reason}}, err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(o.app.out, "%s is %s now, instead of %s\n", g.Name, g.Member, old.Member)
	return o.copyHint(g)
}
