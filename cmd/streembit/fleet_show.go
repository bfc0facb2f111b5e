// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

func newFleetShow(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the fleet: state, hubs, members, readers",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			f, err := fleetDir(dir).load()
			if err != nil {
				return err
			}
			v := viewFleet(f)
			if asJSON {
				return cli.PrintJSON(a.out, v)
			}
			v.print(a)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	dirFlag(cmd, &dir)
	return cmd
}

// fleetView is what fleet show tells, and its JSON.
type fleetView struct {
	ID       journal.FleetID `json:"id"`
	Name     string          `json:"name"`
	Version  uint64          `json:"version"`
	Owner    edge.ID         `json:"owner"`
	Spare    edge.ID         `json:"spare"`
	Recovery string          `json:"recovery"` // fingerprint
	Members  []memberView    `json:"members"`
}

type memberView struct {
	ID        edge.ID  `json:"id"`
	Name      string   `json:"name"`
	Roles     []string `json:"roles"`
	Site      string   `json:"site,omitempty"`
	Addrs     []string `json:"addrs,omitempty"`
	Bootstrap bool     `json:"bootstrap,omitempty"` // named by the fleet state
	Reader    string   `json:"reader,omitempty"`    // fingerprint of the key that opens readings
	Rights    []string `json:"rights,omitempty"`
}

func viewFleet(f *fleet.Fleet) fleetView {
	s := f.State()
	v := fleetView{ID: f.ID(), Name: s.Name, Version: s.Version, Owner: s.Owners[0], Spare: s.Owners[1],
		Recovery: fingerprint(s.Recovery), Members: []memberView{}}
	for _, g := range f.Members() {
		m := memberView{ID: g.Member, Name: g.Name, Roles: roleNames(g.Roles), Site: g.Site, Addrs: g.Addrs,
			Bootstrap: slices.ContainsFunc(s.Hubs, func(b fleet.Bootstrap) bool { return b.ID == g.Member })}
		for _, r := range g.Rights {
			m.Rights = append(m.Rights, r.String())
		}
		if len(g.Reader) > 0 {
			m.Reader = fingerprint(g.Reader)
		}
		v.Members = append(v.Members, m)
	}
	return v
}

// fingerprint is enough of a key's SHA-256 to compare two by eye.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

func (v fleetView) print(a *app) {
	t := cli.NewTable(a.out)
	t.Row("fleet", v.Name+"  "+v.ID.String())
	t.Row("version", fmt.Sprint(v.Version))
	t.Row("owner", v.Owner.String())
	t.Row("spare", v.Spare.String())
	t.Row("recovery", v.Recovery)
	t.Flush()
	if len(v.Members) == 0 {
		fmt.Fprintf(a.err, "\nno members yet\nnext: streembit fleet add ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321\n")
		return
	}
	fmt.Fprintln(a.out)
	t.Row("NAME", "ROLES", "SITE", "ID", "DETAILS")
	for _, m := range v.Members {
		t.Row(m.Name, strings.Join(m.Roles, ","), cmp.Or(m.Site, "-"), m.ID.String(), m.details())
	}
	t.Flush()
}

func (m memberView) details() string {
	var d []string
	if len(m.Addrs) > 0 {
		d = append(d, strings.Join(m.Addrs, " "))
	}
	if m.Bootstrap {
		d = append(d, "bootstrap")
	}
	if m.Reader != "" {
		d = append(d, "reader key "+m.Reader)
	}
	for _, r := range m.Rights {
		d = append(d, "may "+r)
	}
	return cmp.Or(strings.Join(d, ", "), "-")
}
