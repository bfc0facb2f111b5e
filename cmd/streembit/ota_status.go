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
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/rollout"
)

func newOtaStatus(a *app) *cobra.Command {
	d := desk{app: a}
	var channel string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show of each device which version runs, which is wanted, how far it is, and why not further",
		Args:  cli.Args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return d.otaStatus(cmd.Context(), channel) },
	}
	channelFlag(cmd, &channel)
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

// rolloutView is the state of a channel in JSON.
type rolloutView struct {
	Channel string           `json:"channel"`
	Number  uint64           `json:"number,omitempty"`
	Rollout *rollout.Rollout `json:"rollout,omitempty"`
	Tally   rollout.Tally    `json:"tally"`
	Why     string           `json:"why,omitempty"` // it goes on or not
	Devices []updateView     `json:"devices"`
	Silent  int              `json:"hubs_silent"`
}

type updateView struct {
	ID       edge.ID      `json:"id"`
	Name     string       `json:"name"`
	Reached  bool         `json:"reached"` // by the rollout
	Known    bool         `json:"known"`   // it has said something
	Progress ota.Progress `json:"progress"`
}

func (d desk) otaStatus(ctx context.Context, channel string) (err error) {
	o, err := d.online(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	v, err := o.viewRollout(ctx, channel, rollout.Seen{})
	if err != nil {
		return err
	}
	if o.asJSON {
		return cli.PrintJSON(o.answers, v)
	}
	v.print(o.app)
	return nil
}

// viewRollout gathers what the hubs know of a channel.
func (o *office) viewRollout(ctx context.Context, channel string, seen rollout.Seen) (rolloutView, error) {
	v := rolloutView{Channel: channel, Devices: []updateView{}}
	r, number, err := o.channelRollout(ctx, channel)
	if err != nil && !errors.Is(err, errNoRollout) {
		return v, err
	}
	said, silent, err := o.progress(ctx)
	if err != nil {
		return v, err
	}
	now := time.Now()
	seen.Date(said, now.UnixMilli())
	all := updatable(o.known())
	v.Rollout, v.Number, v.Silent = r, number, silent
	if r != nil {
		v.Tally = r.Count(all, said, now.UnixMilli())
		_, _, v.Why = r.Advance(v.Tally, now)
	}
	for i, g := range all {
		p, known := said[g.Member]
		v.Devices = append(v.Devices, updateView{ID: g.Member, Name: g.Name, Reached: r != nil && r.Reaches(&all[i]), Known: known, Progress: p})
	}
	return v, nil
}

func (v rolloutView) print(a *app) {
	if v.Rollout == nil {
		fmt.Fprintf(a.out, "channel %s: nothing was rolled out yet\n", v.Channel)
	} else {
		fmt.Fprintf(a.out, "channel %s, rollout %d: %s\n%s\n", v.Channel, v.Number, stateOf(v.Rollout), v.summary())
	}
	if v.Silent > 0 {
		fmt.Fprintf(a.err, "%s did not answer\n", plural(v.Silent, "hub"))
	}
	t := cli.NewTable(a.out, 4)
	t.Row("NAME", "VERSION", "WANTED", "STAGE", "%", "REASON")
	for _, d := range v.Devices {
		t.Row(d.cells()...)
	}
	t.Flush()
}

// summary counts the devices.
func (v rolloutView) summary() string {
	return fmt.Sprintf("%s %d of %d healthy, %d failed: %s", bar(v.Tally.Healthy, v.Tally.Reached), v.Tally.Healthy, v.Tally.Reached, v.Tally.Failed, v.Why)
}

func (d updateView) cells() []string {
	p := d.Progress
	if !d.Known {
		return []string{d.Name, "?", "", "not heard of", "", ""}
	}
	percent := ""
	if p.Stage == ota.Fetching {
		percent = fmt.Sprint(p.Percent)
	}
	why := string(p.Reason)
	if p.Detail != "" {
		why = strings.TrimPrefix(why+": "+p.Detail, ": ")
	}
	return []string{d.Name, orDash(string(p.Version)), orDash(string(p.Wanted)), string(p.Stage), percent, printableText(why)}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return printableText(s)
}

// printableText is what a device says of itself, on a terminal.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// follow shows how a rollout goes and moves its waves on, until the last is healthy.
func (o *office) follow(ctx context.Context, channel string, every time.Duration) error {
	show := newProgress(o.app.err)
	defer show.clear()
	seen := rollout.Seen{}
	last := map[edge.ID]ota.Stage{}
	for {
		v, done, err := o.moveOn(ctx, channel, seen)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			o.log.Info("the hubs do not say how the rollout goes", "err", err)
		default:
			for _, d := range v.Devices {
				if d.Known && d.Reached && last[d.ID] != d.Progress.Stage && d.Progress.Stage != ota.Idle {
					show.step(d.Name, "%s", strings.Join(d.cells()[1:], " "))
				}
				last[d.ID] = d.Progress.Stage
			}
			show.live("rollout", "%s, %s%s", stateOf(v.Rollout), v.summary(), fetchBars(v.Devices))
		}
		if done {
			show.step("rollout", "%s: done", stateOf(v.Rollout))
			return nil
		}
		if !nap.For(ctx, every) {
			return ctx.Err()
		}
	}
}

// fetchBars shows those that fetch.
func fetchBars(all []updateView) string {
	var b strings.Builder
	for _, d := range all {
		if d.Known && d.Progress.Stage == ota.Fetching {
			fmt.Fprintf(&b, "  %s %d%%", d.Name, d.Progress.Percent)
		}
	}
	return b.String()
}

// moveOn begins the next wave of a channel if the last is healthy.
func (o *office) moveOn(ctx context.Context, channel string, seen rollout.Seen) (v rolloutView, done bool, err error) {
	if v, err = o.viewRollout(ctx, channel, seen); err != nil || v.Rollout == nil {
		return v, false, err
	}
	now := time.Now()
	next, moved, why := v.Rollout.Advance(v.Tally, now)
	if !moved {
		return v, v.Rollout.Done(v.Tally, now), nil
	}
	if err := o.putRollout(ctx, &next, v.Number+1); err != nil {
		return v, false, err
	}
	fmt.Fprintf(o.app.out, "channel %s: %s\n", channel, why)
	return v, false, o.noteRollout("wave", &next, v.Number+1)
}

// channels are those that have a rollout.
func (o *office) channels(ctx context.Context) (names []string) {
	found := map[string]bool{}
	for _, h := range o.known().Hubs() {
		limited, cancel := context.WithTimeout(ctx, hubWait)
		err := o.eachRollout(limited, h, func(channel string) { found[channel] = true })
		cancel()
		if err != nil {
			o.log.Info("a hub does not answer", "hub", h.Name, "err", err)
		}
	}
	for name := range found {
		if o.known().MaySome(o.author.Key.ID(), fleet.Update, name) {
			names = append(names, name)
		}
	}
	return names
}
