// SPDX-License-Identifier: Apache-2.0

package main

import (
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
)

// maxBootstrap is how many hubs the fleet state names at most; members learn the rest from the fleet log.
const maxBootstrap = 5

func newFleetAdd(a *app) *cobra.Command {
	var dir string
	var m typedGrant
	cmd := &cobra.Command{
		Use:   "add ID --role ROLES --name NAME",
		Short: "Grant a member its roles; the same again changes nothing",
		Example: `  streembit fleet add 12D3KooW… --role hub --name hub-1 --site cellar --addr /ip4/192.0.2.7/tcp/32321
  streembit fleet add 12D3KooW… --role device --name pi-1
  streembit fleet add 12D3KooW… --role collector --name server --reader reader.pub`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if err := need(cmd, argv[0]+" --role device --name pi-1", "role", "name"); err != nil {
				return err
			}
			m.id = argv[0]
			g, err := m.grant()
			if err != nil {
				return cli.Try(cli.Usage(err), "streembit fleet add --help")
			}
			return addMember(a, fleetDir(dir), g)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&m.roles, "role", "", "`roles`: device, hub, collector, operator, joined by commas")
	fl.StringVar(&m.name, "name", "", "`name` for people and selectors")
	fl.StringVar(&m.site, "site", "", "where it stands; a quorum spans two `site`s where there are two")
	fl.StringSliceVar(&m.addrs, "addr", nil, "`multiaddr` at which a hub is reached, for example /ip4/192.0.2.7/tcp/32321 (may be repeated)")
	fl.StringVar(&m.reader, "reader", "", "a collector's reader.pub `file` (streembit id writes it)")
	fl.StringSliceVar(&m.streams, "stream", nil, "`stream` that a collector may read; default all (may be repeated)")
	dirFlag(cmd, &dir)
	return cmd
}

// typedGrant is a grant as it is typed.
type typedGrant struct {
	id, roles, name, site, reader string
	addrs, streams                []string
}

func (m typedGrant) grant() (fleet.Grant, error) {
	id, err := edge.ParseID(m.id)
	if err != nil {
		return fleet.Grant{}, err
	}
	g := fleet.Grant{Member: id, Name: m.name, Site: m.site}
	if g.Roles, err = fleet.ParseRoles(m.roles); err != nil {
		return g, err
	}
	if len(m.addrs) > 0 && g.Roles&fleet.Hub == 0 {
		return g, errors.New("--addr is for hubs: nobody connects to other members")
	}
	for _, addr := range m.addrs {
		clean, err := checkAddr(addr, id)
		if err != nil {
			return g, err
		}
		g.Addrs = append(g.Addrs, clean)
	}
	switch collector := g.Roles&fleet.Collector != 0; {
	case collector && m.reader == "":
		return g, errors.New("a collector needs --reader: run streembit id there and bring reader.pub")
	case !collector && (m.reader != "" || len(m.streams) > 0):
		return g, errors.New("--reader and --stream are for collectors")
	case collector:
		streams := m.streams
		if len(streams) == 0 {
			streams = []string{"*"}
		}
		g.Rights = []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: streams}}
		g.Reader, err = readReaderPub(m.reader)
	}
	return g, err
}

// addMember grants g, puts a hub with an address into the state's bootstrap list, and saves both at once.
func addMember(a *app, dir fleetDir, g fleet.Grant) error {
	f, err := dir.load()
	if err != nil {
		return err
	}
	for _, o := range f.Members() {
		if o.Name == g.Name && o.Member != g.Member {
			return cli.Try(fmt.Errorf("adding %s: that name is taken by %s", g.Name, o.Member),
				"streembit fleet add %s --role %s --name %s", g.Member, g.Roles, g.Name+"-2")
		}
	}
	next, err := enrol(f, dir, g, time.Now())
	if err != nil {
		return err
	}
	if next == f {
		fmt.Fprintf(a.out, "%s already is %s %s: nothing changed\n", g.Member, g.Roles, g.Name)
		return nil
	}
	if err := next.Save(dir.bundle()); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "added %s %s %s\n", g.Roles, g.Name, g.Member)
	full, err := filepath.Abs(dir.bundle())
	if err != nil {
		return fmt.Errorf("adding %s: %w", g.Name, err)
	}
	fmt.Fprintf(a.err, "\nnext, copy %s to each member, into its state folder:\n  scp %s %s:/var/lib/streembit/%s\n", bundleName, cli.Quote(full), g.Name, bundleName)
	return nil
}

// enrol returns the fleet with g granted, or f itself when it already is. Nothing is written.
func enrol(f *fleet.Fleet, dir fleetDir, g fleet.Grant, now time.Time) (*fleet.Fleet, error) {
	old, known := f.Member(g.Member)
	hubs := bootstrapWith(f.State().Hubs, g)
	same, sameHubs := known && sameGrant(old, g), sameHubs(hubs, f.State().Hubs)
	if same && sameHubs {
		return f, nil
	}
	owner, err := fleet.LoadKey(dir.owner())
	if err != nil {
		return nil, cli.Try(err, "cp BACKUP/owner.key %s", cli.Quote(dir.owner()))
	}
	if !same {
		if f, err = f.Grant(fleet.Author{Key: owner}, now, g); err != nil {
			return nil, err
		}
	}
	if sameHubs {
		return f, nil
	}
	amended, err := f.Amend(owner, now, func(s *fleet.State) { s.Hubs = hubs })
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

func sameGrant(a, b fleet.Grant) bool {
	return a.Member == b.Member && a.Name == b.Name && a.Roles == b.Roles && a.Site == b.Site &&
		slices.Equal(a.Addrs, b.Addrs) && slices.EqualFunc(a.Rights, b.Rights, func(x, y fleet.Right) bool { return x.String() == y.String() }) && slices.Equal(a.Reader, b.Reader)
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
