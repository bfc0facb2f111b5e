// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/thing"
)

func newDevices(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List the fleet's devices, show one",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newDevicesList(a), newDevicesShow(a))
	return cmd
}

// selectorHelp explains the first word of all commands to devices.
const selectorHelp = `DEVICE is a name, an id, the beginning or end of an id, a label such as site=lab, or all; several are joined by commas.`

// selectDevices returns the devices that a person means, by name.
func selectDevices(f *fleet.Fleet, selector string) ([]fleet.Grant, error) {
	found := map[edge.ID]fleet.Grant{}
	for one := range strings.SplitSeq(selector, ",") {
		match := selectOne(f, one)
		switch {
		case len(match) == 0:
			return nil, cli.Try(cli.Usagef("no device of the fleet is called %q", one), "streembit devices list")
		case len(match) > 1 && one != "all" && !strings.Contains(one, "="):
			return nil, cli.Try(cli.Usagef("%q means %s and %s: name one by its id", one, match[0].Member, match[1].Member), "streembit devices list")
		}
		for _, g := range match {
			found[g.Member] = g
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b fleet.Grant) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Member.Compare(b.Member)
	}), nil
}

func selectOne(f *fleet.Fleet, selector string) (out []fleet.Grant) {
	all := f.With(fleet.Device)
	site, isSite := strings.CutPrefix(selector, "site=")
	switch {
	case selector == "all":
		return all
	case strings.Contains(selector, "="):
		return slices.DeleteFunc(all, func(g fleet.Grant) bool {
			return !slices.Contains(g.Labels, selector) && !(isSite && site != "" && g.Site == site)
		})
	}
	return slices.DeleteFunc(f.Find(selector), func(g fleet.Grant) bool { return g.Roles&fleet.Device == 0 })
}

func newDevicesList(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [DEVICE]",
		Short:   "List the devices that this folder's fleet knows",
		Long:    "Lists the devices that this folder's fleet knows, without asking anybody.\n\n" + selectorHelp,
		Example: "  streembit devices list site=lab",
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := fleetDir(dir).load()
			if err != nil {
				return err
			}
			all := f.With(fleet.Device)
			if len(args) == 1 {
				if all, err = selectDevices(f, args[0]); err != nil {
					return err
				}
			}
			return listDevices(a, f, all, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	dirFlag(cmd, &dir)
	return cmd
}

func listDevices(a *app, f *fleet.Fleet, all []fleet.Grant, asJSON bool) error {
	views := []memberView{}
	t := cli.NewTable(a.out)
	t.Row("NAME", "ID", "SITE", "LABELS", "EXPIRES")
	today := f.AsOf(time.Now())
	for _, g := range all {
		v := viewMember(f.State(), g)
		v.Expired = !today.IsMember(g.Member)
		views = append(views, v)
		ends := ""
		if v.Expires != nil {
			ends = v.Expires.Format(time.DateOnly)
		}
		if v.Expired {
			ends += " expired"
		}
		t.Row(g.Name, g.Member.String(), g.Site, strings.Join(g.Labels, " "), ends)
	}
	if asJSON {
		return cli.PrintJSON(a.out, views)
	}
	t.Flush()
	return nil
}

// deviceView is what devices show tells.
type deviceView struct {
	memberView
	Thing     *thingView `json:"thing,omitempty"`
	Reachable bool       `json:"reachable"`
	Path      string     `json:"path,omitempty"`
	RTT       float64    `json:"rtt_ms,omitempty"`
	Error     string     `json:"error,omitempty"` // why it is not reached
}

// thingView is a description in short.
type thingView struct {
	Version uint64 `json:"version"`
	Program string `json:"program,omitempty"`
	Board   string `json:"board,omitempty"`
	Labels  string `json:"labels,omitempty"` // what it calls itself
	Values  int    `json:"properties"`
	Actions int    `json:"actions"`
}

func newDevicesShow(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:     "show DEVICE",
		Short:   "Show one device: what the fleet and the device itself say of it, and whether it answers",
		Example: "  streembit devices show pi-1",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.withOne(cmd.Context(), args[0], d.showDevice)
		},
	}
	d.directFlags(cmd)
	return cmd
}

// showLimit is how long a device may take to answer when it is looked at.
const showLimit = 10 * time.Second

func (d desk) showDevice(ctx context.Context, r *reacher, g fleet.Grant) error {
	v := deviceView{memberView: viewMember(r.known().State(), g)}
	ctx, cancel := context.WithTimeout(ctx, showLimit)
	defer cancel()
	line, err := r.open(ctx, g.Member)
	var td *thing.Description
	if err == nil {
		began := time.Now()
		td, err = line.describe(ctx)
		v.RTT, v.Path, v.Reachable = float64(time.Since(began).Microseconds())/1000, line.path.String(), err == nil
		err = errors.Join(err, line.close())
	}
	if err != nil {
		v.Error = err.Error()
		td, _ = r.stored(ctx, g.Member) // the device is off: what it said last
	}
	if td != nil {
		v.Thing = &thingView{Version: td.Version.Number(), Program: td.Version.Model, Board: td.Description, Labels: td.Labels, Values: len(td.Properties), Actions: len(td.Actions)}
	}
	if d.asJSON {
		return cli.PrintJSON(d.app.out, v)
	}
	v.print(d.app)
	return nil
}

func (v deviceView) print(a *app) {
	t := cli.NewTable(a.out)
	t.Row("name", v.Name)
	t.Row("id", v.ID.String())
	t.Row("roles", strings.Join(v.Roles, ", "))
	if v.Site != "" {
		t.Row("site", v.Site)
	}
	if len(v.Labels) > 0 {
		t.Row("labels", strings.Join(v.Labels, " "))
	}
	if th := v.Thing; th != nil {
		t.Row("board", th.Board)
		t.Row("program", th.Program)
		if th.Labels != "" {
			t.Row("says of itself", th.Labels)
		}
		t.Row("description", fmt.Sprintf("version %d: %s, %s", th.Version, plural(th.Values, "value"), plural(th.Actions, "action")))
	}
	if v.Reachable {
		t.Row("answers", v.Path)
	} else {
		t.Row("does not answer", shown(v.Error))
	}
	t.Flush()
}
