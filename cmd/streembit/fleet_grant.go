// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/journal"
)

// maxBootstrap is how many hubs the fleet state names at most; members learn the rest from the fleet log.
const maxBootstrap = 5

func newFleetGrant(a *app) *cobra.Command {
	d := desk{app: a}
	var m typedGrant
	cmd := &cobra.Command{
		Use:     "grant ID --role ROLES --name NAME",
		Aliases: []string{"add"},
		Short:   "Make somebody a member, or say anew what a member may do",
		Long: `Says all of what the member is and may do: what an earlier grant said and this one does not is gone. The same again changes nothing.

A right is "VERB WHAT[,WHAT] [on SELECTOR[,SELECTOR]]". VERB is read (WHAT = streams), command (actions), enrol (roles) or update (channels);
WHAT may end in *. SELECTOR is a name, an id, or a label such as site=lab. What no right names is denied.`,
		Example: `  streembit fleet grant 12D3KooW… --role hub --name hub-1 --site cellar --addr /ip4/192.0.2.7/tcp/32321
  streembit fleet grant 12D3KooW… --role device --name pi-1 --label site=lab
  streembit fleet grant 12D3KooW… --role collector --name server --reader reader.pub --right "read main on site=lab" --expires 90d`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if err := need(cmd, argv[0]+" --role device --name pi-1", "role", "name"); err != nil {
				return err
			}
			m.id = argv[0]
			g, err := m.grant(time.Now())
			if err != nil {
				return cli.Try(cli.Usage(err), "streembit fleet grant --help")
			}
			return grantMember(cmd.Context(), d, g)
		},
	}
	m.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&m.roles, "role", "", "`roles`: device, hub, collector, operator, joined by commas")
	fl.StringArrayVar(&m.rights, "right", nil, "a `right`, for example \"read main on site=lab\" (may be repeated)")
	fl.StringSliceVar(&m.addrs, "addr", nil, "`multiaddr` at which a hub, or a device without any hub, is reached, for example /ip4/192.0.2.7/tcp/32321 (may be repeated)")
	fl.StringVar(&m.reader, "reader", "", "the reader.pub `file` of a collector (streembit id writes it) or of a hub that grants devices by a token")
	fl.StringSliceVar(&m.streams, "stream", nil, "the same as --right \"read STREAM\" (may be repeated); a collector without any right may read all")
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

// typedGrant is a grant as it is typed.
type typedGrant struct {
	id, roles, name, site, reader, expires string
	addrs, streams, labels, rights         []string
}

// flags adds what every command that grants has.
func (m *typedGrant) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&m.name, "name", "", "`name` for people and selectors")
	fl.StringVar(&m.site, "site", "", "where it stands; a quorum spans two `site`s where there are two")
	fl.StringSliceVar(&m.labels, "label", nil, "`key=value` for selectors (may be repeated)")
	fl.StringVar(&m.expires, "expires", "", "end of the membership: a `duration` (90d, 12h) or a date (2027-01-31); default never")
}

func (m typedGrant) grant(now time.Time) (fleet.Grant, error) {
	id, err := edge.ParseID(m.id)
	if err != nil {
		return fleet.Grant{}, err
	}
	g := fleet.Grant{Member: id, Name: m.name, Site: m.site, Labels: fleet.SortLabels(m.labels)}
	if g.Roles, err = fleet.ParseRoles(m.roles); err != nil {
		return g, err
	}
	if g.Expires, err = parseExpires(m.expires, now); err != nil {
		return g, err
	}
	if len(m.addrs) > 0 && g.Roles&(fleet.Hub|fleet.Device) == 0 {
		return g, errors.New("--addr is for hubs and devices: nobody connects to other members")
	}
	for _, addr := range m.addrs {
		clean, err := checkAddr(addr, id)
		if err != nil {
			return g, err
		}
		g.Addrs = append(g.Addrs, clean)
	}
	if g.Rights, err = m.parseRights(g.Roles); err != nil {
		return g, err
	}
	switch collector := g.Roles&fleet.Collector != 0; {
	case collector && m.reader == "":
		return g, errors.New("a collector needs --reader: run streembit id there and bring reader.pub")
	case m.reader != "" && g.Roles&(fleet.Collector|fleet.Hub) == 0:
		return g, errors.New("--reader is for collectors, and for hubs that grant devices by a token")
	case m.reader != "":
		g.Reader, err = readReaderPub(m.reader)
	}
	return g, err
}

// parseRights reads --right and --stream, and gives a collector that has neither the right to read all.
func (m typedGrant) parseRights(roles fleet.Role) (rights []fleet.Right, err error) {
	for _, text := range m.rights {
		r, err := fleet.ParseRight(text)
		if err != nil {
			return nil, fmt.Errorf("--right: %w", err)
		}
		rights = append(rights, r)
	}
	collector := roles&fleet.Collector != 0
	switch {
	case len(m.streams) > 0 && !collector:
		return nil, errors.New("--stream is for collectors")
	case len(m.streams) > 0:
		rights = append(rights, fleet.Right{Do: fleet.Read, On: []string{"*"}, What: m.streams})
	case collector && len(rights) == 0:
		rights = append(rights, fleet.Right{Do: fleet.Read, On: []string{"*"}, What: []string{"*"}})
	case roles&fleet.Operator != 0 && len(rights) == 0:
		return nil, errors.New("an operator without --right may do nothing: name rights, or appoint one for everything with streembit fleet operator add")
	}
	return rights, nil
}

// parseExpires reads a duration from now, which may be in days or weeks, or a date; "" = never (0).
func parseExpires(s string, now time.Time) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if n, unit, ok := days(s); ok {
		return now.AddDate(0, 0, n*unit).UnixMilli(), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d).UnixMilli(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil && t.After(now) {
			return t.UnixMilli(), nil
		}
	}
	return 0, fmt.Errorf("--expires %q: want a duration such as 7d, 12h or 4w, or a date to come such as 2027-01-31", s)
}

func days(s string) (n, unit int, ok bool) {
	var kind string
	if _, err := fmt.Sscanf(s, "%d%s", &n, &kind); err != nil || n <= 0 || n > 36500 {
		return 0, 0, false
	}
	switch kind {
	case "d":
		return n, 1, true
	case "w":
		return n, 7, true
	}
	return 0, 0, false
}

// grantMember grants g, puts a hub with an address into the state's bootstrap list if the owner does it, and passes both on.
func grantMember(ctx context.Context, d desk, g fleet.Grant) (err error) {
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
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
		fmt.Fprintf(o.app.out, "%s already is %s %s: nothing changed\n", g.Member, g.Roles, g.Name)
		return nil
	}
	fmt.Fprintf(o.app.out, "added %s %s %s\n", g.Roles, g.Name, g.Member)
	return o.copyHint(g)
}

// copyHint says how a newcomer gets the fleet when nobody can bring it over the network.
func (o *office) copyHint(g fleet.Grant) error {
	full, err := filepath.Abs(o.dir.bundle())
	if err != nil {
		return fmt.Errorf("adding %s: %w", g.Name, err)
	}
	fmt.Fprintf(o.app.err, "\na member that has no %s yet needs a copy in its state folder:\n  scp %s %s:/var/lib/streembit/%s\n", bundleName, cli.Quote(full), g.Name, bundleName)
	return nil
}

// granted is what the audit log says of a grant.
func granted(g fleet.Grant) audit.Event {
	parts := []string{g.Roles.String(), g.Name}
	for _, r := range g.Rights {
		parts = append(parts, "may "+r.String())
	}
	if g.Expires != 0 {
		parts = append(parts, "until "+day(g.Expires))
	}
	return audit.Event{Event: "grant", What: g.Member.String(), Detail: strings.Join(parts, ", ")}
}

// day shows ms since 1970 for people.
func day(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// nameFree refuses a name that another member has: selectors go by it.
func nameFree(f *fleet.Fleet, g fleet.Grant) error {
	for _, o := range f.Members() {
		if o.Name == g.Name && o.Member != g.Member {
			return cli.Try(fmt.Errorf("adding %s: that name is taken by %s", g.Name, o.Member),
				"streembit fleet grant %s --role %s --name %s", g.Member, g.Roles, g.Name+"-2")
		}
	}
	return nil
}

// enrol returns the fleet with g granted, or f itself when it already is. Nothing is written.
func enrol(f *fleet.Fleet, by fleet.Author, g fleet.Grant, now time.Time) (*fleet.Fleet, error) {
	if old, known := f.Member(g.Member); !known || !sameGrant(old, g) {
		next, err := f.Grant(by, now, g)
		if err != nil {
			return nil, err
		}
		return bootstrap(next, by, now, bootstrapWith(f.State().Hubs, g))
	}
	return bootstrap(f, by, now, bootstrapWith(f.State().Hubs, g))
}

// bootstrap brings the state's list of hubs up to date. That is the owner's to do: what an operator grants, members find through the others.
func bootstrap(f *fleet.Fleet, by fleet.Author, now time.Time, hubs []fleet.Bootstrap) (*fleet.Fleet, error) {
	if by.Key.ID() != f.State().LogWriter || sameHubs(hubs, f.State().Hubs) {
		return f, nil
	}
	amended, err := f.Amend(by.Key, now, func(s *fleet.State) { s.Hubs = hubs })
	if errors.Is(err, fleet.ErrTooLarge) { // the log names it; the others lead there
		return f, nil
	}
	return amended, err
}

// bootstrapWith returns hubs with g's entry as g says now: added while there is room, changed, or gone.
func bootstrapWith(hubs []fleet.Bootstrap, g fleet.Grant) []fleet.Bootstrap {
	out := slices.Clone(hubs)
	at := slices.IndexFunc(out, func(b fleet.Bootstrap) bool { return b.ID == g.Member })
	entry := fleet.Bootstrap{ID: g.Member, Addrs: g.Addrs, Site: g.Site}
	switch wanted := g.Roles&fleet.Hub != 0 && len(g.Addrs) > 0; {
	case at >= 0 && wanted:
		out[at] = entry
	case at >= 0:
		out = slices.Delete(out, at, at+1)
	case wanted && len(out) < maxBootstrap:
		out = append(out, entry)
	}
	return out
}

func sameHubs(a, b []fleet.Bootstrap) bool {
	return slices.EqualFunc(a, b, func(x, y fleet.Bootstrap) bool {
		return x.ID == y.ID && x.Site == y.Site && slices.Equal(x.Addrs, y.Addrs)
	})
}

// sameGrant compares what two grants say, whenever they were made.
func sameGrant(a, b fleet.Grant) bool {
	for _, g := range []*fleet.Grant{&a, &b} {
		g.Serial, g.Token = 0, fleet.TokenID{}
		g.Addrs, g.Labels = append([]string{}, g.Addrs...), append([]string{}, g.Labels...) // nil and empty are one
		g.Rights, g.Reader = append([]fleet.Right{}, g.Rights...), append([]byte{}, g.Reader...)
	}
	x, errX := journal.Encode(a)
	y, errY := journal.Encode(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// readReaderPub reads the file that streembit id wrote.
func readReaderPub(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--reader: %w", err)
	}
	key, err := parseReaderPub(data)
	if err != nil {
		return nil, fmt.Errorf("--reader %s: %w", path, err)
	}
	return key, nil
}

// roleNames lists roles for JSON.
func roleNames(r fleet.Role) []string { return strings.Split(r.String(), ",") }
