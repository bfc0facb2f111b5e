// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

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
		Short: "Show the fleet: state, members, rights, who was revoked, claim tokens, how long hubs hold what",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			f, err := fleetDir(dir).load()
			if err != nil {
				return err
			}
			used, err := usageOf(f)
			if err != nil {
				return err
			}
			v := viewFleet(f, used, time.Now())
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
	Time     time.Time       `json:"time"` // of the newest state, by its owner's clock
	Owner    edge.ID         `json:"owner"`
	Spare    edge.ID         `json:"spare"`
	Recovery string          `json:"recovery"` // fingerprint
	Members  []memberView    `json:"members"`
	Revoked  []revokedView   `json:"revoked"`
	Policies []policyView    `json:"policies"`
	Keep     []retentionView `json:"retentions"`
	Ignored  int             `json:"ignored"` // entries that their signers had no right to make
}

type memberView struct {
	ID        edge.ID    `json:"id"`
	Name      string     `json:"name"`
	Roles     []string   `json:"roles"`
	Site      string     `json:"site,omitempty"`
	Addrs     []string   `json:"addrs,omitempty"`
	Labels    []string   `json:"labels,omitempty"`
	Bootstrap bool       `json:"bootstrap,omitempty"` // named by the fleet state
	Reader    string     `json:"reader,omitempty"`    // fingerprint of the key that opens readings
	Rights    []string   `json:"rights,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
	Expired   bool       `json:"expired,omitempty"` // by this machine's clock
	Token     string     `json:"token,omitempty"`   // under which it enrolled
}

type revokedView struct {
	ID     edge.ID   `json:"id"`
	Name   string    `json:"name,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Last   []cutView `json:"last"`
}

type cutView struct {
	Stream      string              `json:"stream"`
	Incarnation journal.Incarnation `json:"incarnation"`
	Seq         uint64              `json:"seq"`
	Hash        journal.Hash        `json:"hash"`
}

type policyView struct {
	Token    string    `json:"token"`
	Executor edge.ID   `json:"executor"`
	Roles    []string  `json:"roles"`
	Site     string    `json:"site,omitempty"`
	Labels   []string  `json:"labels,omitempty"`
	Uses     uint32    `json:"uses"`
	Used     int       `json:"used"`
	Expires  time.Time `json:"expires"`
	Expired  bool      `json:"expired,omitempty"`

	executor string
}

func viewFleet(f *fleet.Fleet, used usage, now time.Time) fleetView {
	s := f.State()
	v := fleetView{ID: f.ID(), Name: s.Name, Version: s.Version, Time: f.Floor().UTC(), Owner: s.Owners[0], Spare: s.Owners[1],
		Recovery: fingerprint(s.Recovery), Members: []memberView{}, Revoked: []revokedView{}, Policies: []policyView{},
		Keep: viewRetentions(f), Ignored: f.Ignored()}
	today := f.AsOf(now)
	for _, g := range f.Members() {
		m := viewMember(s, g)
		m.Expired = !today.IsMember(g.Member)
		v.Members = append(v.Members, m)
	}
	for _, r := range f.Revoked() {
		rv := revokedView{ID: r.Member, Reason: r.Reason, Last: []cutView{}}
		if g, _, ok := f.Former(r.Member); ok {
			rv.Name = g.Name
		}
		for _, c := range r.Last {
			rv.Last = append(rv.Last, cutView{c.Stream, c.Incarnation, c.Seq, c.Hash})
		}
		v.Revoked = append(v.Revoked, rv)
	}
	for _, p := range f.Policies() {
		v.Policies = append(v.Policies, policyView{Token: hex.EncodeToString(p.ID[:]), Executor: p.Executor, Roles: roleNames(p.Roles), Site: p.Site, Labels: p.Labels,
			Uses: p.Uses, Used: len(used[p.ID]), Expires: time.UnixMilli(p.Expires).UTC(), Expired: now.UnixMilli() > p.Expires, executor: whoIs(f, p.Executor)})
	}
	return v
}

func viewMember(s fleet.State, g fleet.Grant) memberView {
	m := memberView{ID: g.Member, Name: g.Name, Roles: roleNames(g.Roles), Site: g.Site, Addrs: g.Addrs, Labels: g.Labels,
		Bootstrap: slices.ContainsFunc(s.Hubs, func(b fleet.Bootstrap) bool { return b.ID == g.Member })}
	for _, r := range g.Rights {
		m.Rights = append(m.Rights, r.String())
	}
	if len(g.Reader) > 0 {
		m.Reader = fingerprint(g.Reader)
	}
	if g.Expires != 0 {
		end := time.UnixMilli(g.Expires).UTC()
		m.Expires = &end
	}
	if g.Token != (fleet.TokenID{}) {
		m.Token = hex.EncodeToString(g.Token[:])
	}
	return m
}

// usage is who ever enrolled by which token, the owner's own ones included, which no policy counts.
type usage map[fleet.TokenID]map[edge.ID]bool

// usageOf reads all logs, which takes a while for a large fleet: ask once.
func usageOf(f *fleet.Fleet) (usage, error) {
	lines, err := entries(f)
	if err != nil {
		return nil, err
	}
	u := usage{}
	for _, l := range lines {
		if g := l.entry.Grant; g != nil && g.Token != (fleet.TokenID{}) {
			if u[g.Token] == nil {
				u[g.Token] = map[edge.ID]bool{}
			}
			u[g.Token][g.Member] = true
		}
	}
	return u, nil
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
	if v.Ignored > 0 {
		t.Row("ignored", plural(v.Ignored, "entry that its signer may not make: see streembit fleet log"))
	}
	t.Flush()
	if len(v.Members) == 0 && len(v.Revoked) == 0 {
		fmt.Fprintf(a.err, "\nno members yet\nnext: streembit fleet grant ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321\n")
	}
	if len(v.Members) > 0 {
		fmt.Fprintln(a.out)
		t.Row("NAME", "ROLES", "SITE", "ID", "DETAILS")
		for _, m := range v.Members {
			t.Row(m.Name, strings.Join(m.Roles, ","), cmp.Or(m.Site, "-"), m.ID.String(), m.details())
		}
		t.Flush()
	}
	v.printOthers(a, t)
}

func (v fleetView) printOthers(a *app, t *cli.Table) {
	if len(v.Revoked) > 0 {
		fmt.Fprintln(a.out)
		t.Row("REVOKED", "ID", "CHAINS THAT STAY", "REASON")
		for _, r := range v.Revoked {
			t.Row(cmp.Or(r.Name, "-"), r.ID.String(), fmt.Sprint(len(r.Last)), cmp.Or(r.Reason, "-"))
		}
		t.Flush()
	}
	if len(v.Policies) > 0 {
		fmt.Fprintln(a.out)
		t.Row("TOKEN", "USED", "FOR", "BY", "UNTIL")
		for _, p := range v.Policies {
			until := p.Expires.Format(time.RFC3339)
			if p.Expired {
				until += ", expired"
			}
			t.Row(p.Token[:8], fmt.Sprintf("%d of %d", p.Used, p.Uses), strings.Join(append(p.Roles, p.Labels...), " "), p.executor, until)
		}
		t.Flush()
	}
	if len(v.Keep) > 0 {
		fmt.Fprintln(a.out)
		printRetentions(t, v.Keep)
	}
}

func (m memberView) details() string {
	var d []string
	if m.Expired {
		d = append(d, "EXPIRED")
	}
	if len(m.Addrs) > 0 {
		d = append(d, strings.Join(m.Addrs, " "))
	}
	if m.Bootstrap {
		d = append(d, "bootstrap")
	}
	d = append(d, m.Labels...)
	if m.Reader != "" {
		d = append(d, "reader key "+m.Reader)
	}
	for _, r := range m.Rights {
		d = append(d, "may "+r)
	}
	if m.Expires != nil && !m.Expired {
		d = append(d, "until "+m.Expires.Format(time.RFC3339))
	}
	if m.Token != "" {
		d = append(d, "by token "+m.Token[:8])
	}
	return cmp.Or(strings.Join(d, ", "), "-")
}
