// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
)

func newFleetOperator(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Appoint those who grant, revoke and command for the owner",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newOperatorAdd(a))
	return cmd
}

func newOperatorAdd(a *app) *cobra.Command {
	d := desk{app: a}
	m := typedGrant{roles: "operator"}
	var texts []string
	cmd := &cobra.Command{
		Use:   "add ID --name NAME",
		Short: "Appoint an operator: the owner's alone to do",
		Long: `The operator makes a key with streembit id --operator and tells its id. Without --right the operator may do everything but appoint operators and
change owner keys; with it, what the rights say, and hand on no more than that. To end it: streembit fleet revoke NAME.`,
		Example: `  streembit fleet operator add 12D3KooW… --name ann
  streembit fleet operator add 12D3KooW… --name bob --right "enrol device on site=lab" --right "command * on site=lab" --expires 90d`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if err := need(cmd, argv[0]+" --name ann", "name"); err != nil {
				return err
			}
			m.id, m.rights = argv[0], texts
			if len(texts) == 0 {
				for _, r := range fleet.Everything() {
					m.rights = append(m.rights, r.String())
				}
			}
			g, err := m.grant(time.Now())
			if err != nil {
				return cli.Try(cli.Usage(err), "streembit fleet operator add --help")
			}
			return appoint(cmd.Context(), d, g)
		},
	}
	m.flags(cmd)
	cmd.Flags().StringArrayVar(&texts, "right", nil, "a `right`, for example \"enrol device on site=lab\" (may be repeated); default everything")
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

func appoint(ctx context.Context, d desk, g fleet.Grant) (err error) {
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if !o.owner {
		return cli.Try(fmt.Errorf("appointing operator %s: %w", g.Name, fleet.ErrNotAllowed), "the same command on the owner's machine")
	}
	changed, err := o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		if err := nameFree(f, g); err != nil {
			return nil, nil, err
		}
		next, err := enrol(f, o.author, g, now)
		if err != nil || next == f {
			return f, nil, err
		}
		return next, []audit.Event{granted(g)}, nil
	})
	if err != nil {
		return err
	}
	if !changed {
		fmt.Fprintf(o.app.out, "%s already is operator %s: nothing changed\n", g.Member, g.Name)
		return nil
	}
	fmt.Fprintf(o.app.out, "appointed operator %s %s\n", g.Name, g.Member)
	for _, r := range g.Rights {
		fmt.Fprintf(o.app.out, "  may %s\n", r)
	}
	fmt.Fprintf(o.app.err, "\ncopy %s into the operator's folder, beside key.pem\n", o.dir.bundle())
	return nil
}

// whoIs names a member for people, by what the fleet knows.
func whoIs(f *fleet.Fleet, id edge.ID) string {
	if g, ok := f.Member(id); ok {
		return g.Name
	}
	for i, owner := range f.State().Owners {
		if owner == id {
			return []string{"owner", "spare"}[i]
		}
	}
	if g, _, ok := f.Former(id); ok {
		return g.Name + " (former)"
	}
	return id.Short()
}
