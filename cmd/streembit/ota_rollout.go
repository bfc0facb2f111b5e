// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/rollout"
)

// What a wave is if it does not say.
const (
	usualHealthy = 90
	usualSoak    = time.Hour
)

// rolling is what streembit ota rollout was asked for.
type rolling struct {
	channel, to, previous, note string
	labels, waves               []string
	percent                     int
	follow                      bool
	every                       time.Duration
}

func newOtaRollout(a *app) *cobra.Command {
	d := desk{app: a}
	var r rolling
	cmd := &cobra.Command{
		Use:   "rollout --to VERSION",
		Short: "Have devices install a version that was published",
		Long: `Devices install it by themselves. Without --wave it is for all of them at once, or for those that --label and --percent name.

With --wave it goes in steps: WHO [PERCENT%] [healthy PERCENT%] [soak TIME]. WHO is labels, names or ids with commas between, or * for everybody. The next wave
begins when so many percent of all devices reached so far run the version (90 %) and have for so long (1h); streembit ota keep moves the waves on, or --follow here.
Devices that come later belong to the wave that has been reached.`,
		Example: `  streembit ota rollout --to 1.5.0 --label site=lab
  streembit ota rollout --to 1.5.0 --wave "site=lab soak 2h" --wave "* 10% healthy 95% soak 24h" --wave "*" --follow`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "--to 1.5.0", "to"); err != nil {
				return err
			}
			return d.rollout(cmd.Context(), r)
		},
	}
	fl := cmd.Flags()
	channelFlag(cmd, &r.channel)
	fl.StringVar(&r.to, "to", "", "`version` that devices are to run")
	fl.StringVar(&r.previous, "previous", "", "`version` to go back to with streembit ota rollback; default the one that was rolled out before")
	fl.StringVar(&r.note, "note", "", "`text` for people")
	fl.StringSliceVar(&r.labels, "label", nil, "only devices with this `label`, name or id (may be repeated)")
	fl.IntVar(&r.percent, "percent", 100, "only so many of them, always the same ones")
	fl.StringArrayVar(&r.waves, "wave", nil, "a `step`, see above (may be repeated)")
	fl.BoolVar(&r.follow, "follow", false, "show how it goes and move the waves on, until the last is healthy")
	fl.DurationVar(&r.every, "every", 5*time.Second, "with --follow: between two looks")
	d.flags(cmd)
	return cmd
}

func channelFlag(cmd *cobra.Command, channel *string) {
	cmd.Flags().StringVar(channel, "channel", "stable", "`channel` of the release")
}

// parseWave reads "site=lab 10% healthy 95% soak 24h".
func parseWave(s string) (w rollout.Wave, err error) {
	words := strings.Fields(s)
	wrong := cli.Try(cli.Usagef("--wave %q: want WHO [PERCENT%%] [healthy PERCENT%%] [soak TIME]", s), "--wave \"site=lab 10%% healthy 95%% soak 24h\"")
	if len(words) == 0 {
		return w, wrong
	}
	w = rollout.Wave{On: strings.Split(words[0], ","), Percent: 100, Healthy: usualHealthy, Soak: usualSoak.Milliseconds()}
	percent := func(s string) (int, bool) {
		n, ok := strings.CutSuffix(s, "%")
		v, err := strconv.Atoi(n)
		return v, ok && err == nil && v >= 1 && v <= 100
	}
	for i := 1; i < len(words); i++ {
		ok := false
		switch next := words[min(i+1, len(words)-1)]; words[i] {
		case "healthy":
			w.Healthy, ok = percent(next)
			i++
		case "soak":
			var d time.Duration
			if n, unit, days := days(next); days {
				d, ok = time.Duration(n*unit)*24*time.Hour, true
			} else if d, err = time.ParseDuration(next); err == nil && d >= 0 {
				ok = true
			}
			w.Soak = d.Milliseconds()
			i++
		default:
			w.Percent, ok = percent(words[i])
		}
		if !ok || i >= len(words) {
			return w, wrong
		}
	}
	return w, nil
}

func (r *rolling) steps() (waves []rollout.Wave, err error) {
	if len(r.waves) > 0 && (len(r.labels) > 0 || r.percent != 100) {
		return nil, cli.Usagef("--wave goes without --label and --percent: name them in the wave")
	}
	for _, s := range r.waves {
		w, err := parseWave(s)
		if err != nil {
			return nil, err
		}
		waves = append(waves, w)
	}
	if len(waves) == 0 {
		on := r.labels
		if len(on) == 0 {
			on = []string{"*"}
		}
		waves = []rollout.Wave{{On: on, Percent: r.percent, Healthy: usualHealthy}}
	}
	return waves, nil
}

func (d desk) rollout(ctx context.Context, r rolling) (err error) {
	to, err := ota.ParseVersion(r.to)
	if err != nil {
		return cli.Try(cli.Usage(err), "streembit ota rollout --to 1.5.0")
	}
	waves, err := r.steps()
	if err != nil {
		return err
	}
	o, err := d.online(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	next := &rollout.Rollout{Channel: r.channel, Release: to, Previous: ota.Version(r.previous), Waves: waves, Since: time.Now().UnixMilli(), Note: r.note}
	rand.Read(next.Salt[:])
	number, err := o.succeed(ctx, next)
	if err != nil {
		return err
	}
	if err := o.checkPublished(ctx, next); err != nil {
		return err
	}
	if err := o.putRollout(ctx, next, number); err != nil {
		return explainRollout(err)
	}
	if err := o.noteRollout("rollout", next, number); err != nil {
		return err
	}
	o.sayRollout(next, number)
	if r.follow {
		return o.follow(ctx, r.channel, r.every)
	}
	return nil
}

// succeed fills in what follows from the rollout before.
func (o *office) succeed(ctx context.Context, next *rollout.Rollout) (number uint64, err error) {
	last, number, err := o.channelRollout(ctx, next.Channel)
	switch {
	case errors.Is(err, errNoRollout):
		return 1, nil
	case err != nil:
		return 0, err
	case last.Release == next.Release:
		next.Salt = last.Salt // the same devices are the first
		if next.Previous == "" {
			next.Previous = last.Previous
		}
	case next.Previous == "" && last.Back:
		next.Previous = last.Previous
	case next.Previous == "":
		next.Previous = last.Release
	}
	return number + 1, nil
}

// checkPublished refuses a version that no device could prove.
func (o *office) checkPublished(ctx context.Context, r *rollout.Rollout) error {
	all, err := o.published(ctx, time.Now())
	if err != nil {
		return err
	}
	has := func(v ota.Version) bool {
		return slices.ContainsFunc(all, func(a ota.Artifact) bool { return a.Channel == r.Channel && a.Version == v })
	}
	if !has(r.Release) {
		var there []string
		for _, a := range all {
			if text := string(a.Version); a.Channel == r.Channel && !slices.Contains(there, text) {
				there = append(there, text)
			}
		}
		return cli.Try(cli.Usagef("version %s is not published in channel %s (there: %s)", r.Release, r.Channel, strings.Join(there, ", ")), "streembit ota publish%s", o.dirArg())
	}
	if r.Previous != "" && !has(r.Previous) {
		fmt.Fprintf(o.app.err, "version %s is not published any more: there is no way back to it by streembit ota rollback (devices go back by themselves if the new one fails)\n", r.Previous)
	}
	return nil
}

func explainRollout(err error) error {
	switch {
	case errors.Is(err, rollout.ErrBadRollout):
		return cli.Try(cli.Usage(err), "streembit ota rollout --help")
	case errors.Is(err, errNotNewer):
		return cli.Try(err, "streembit ota status, and the same command again if it is still meant")
	}
	return err
}

func (o *office) noteRollout(event string, r *rollout.Rollout, number uint64) error {
	return o.note(audit.Event{Event: event, What: r.Channel, Detail: fmt.Sprintf("number %d: %s, wave %d of %d", number, r.Release, r.Reached+1, len(r.Waves))})
}

// sayRollout tells a person whom it concerns.
func (o *office) sayRollout(r *rollout.Rollout, number uint64) {
	all := updatable(o.known())
	fmt.Fprintf(o.app.out, "rollout %d of channel %s: %s\n", number, r.Channel, r.Release)
	for i, w := range r.Waves {
		n := 0
		for j := range all {
			if at, in := r.Wave(&all[j]); in && at <= i {
				n++
			}
		}
		state := "later"
		if i <= r.Reached {
			state = "now"
		}
		fmt.Fprintf(o.app.out, "  wave %d, %s: %s %d%%, then healthy %d%% for %v: %d of %s\n", i+1, state, strings.Join(w.On, ","), w.Percent, w.Healthy,
			time.Duration(w.Soak)*time.Millisecond, n, plural(len(all), "member"))
	}
	if r.Reached < len(r.Waves)-1 {
		fmt.Fprintf(o.app.err, "the next wave begins when somebody runs: streembit ota keep%s\n", o.dirArg())
	}
}

func newOtaTurn(a *app, name, short string, turn func(*rollout.Rollout) error) *cobra.Command {
	d := desk{app: a}
	var channel string
	cmd := &cobra.Command{Use: name, Short: short, Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.turn(cmd.Context(), name, channel, turn) }}
	channelFlag(cmd, &channel)
	d.flags(cmd)
	return cmd
}

// turn changes the rollout of a channel.
func (d desk) turn(ctx context.Context, name, channel string, turn func(*rollout.Rollout) error) (err error) {
	o, err := d.online(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	r, number, err := o.channelRollout(ctx, channel)
	if err != nil {
		return err
	}
	if err := turn(r); err != nil {
		return err
	}
	if err := o.putRollout(ctx, r, number+1); err != nil {
		return explainRollout(err)
	}
	if err := o.noteRollout(name, r, number+1); err != nil {
		return err
	}
	fmt.Fprintf(o.app.out, "rollout %d of channel %s: %s\n", number+1, channel, stateOf(r))
	return nil
}

// stateOf is a rollout in a few words.
func stateOf(r *rollout.Rollout) string {
	text := fmt.Sprintf("%s, wave %d of %d", r.Release, r.Reached+1, len(r.Waves))
	switch {
	case r.Back:
		text = fmt.Sprintf("back from %s to %s", r.Release, r.Previous)
	case r.Paused:
		text += ", paused"
	}
	return text
}

func pauseRollout(r *rollout.Rollout) error {
	if r.Paused {
		return cli.Try(cli.Usagef("it is paused already"), "streembit ota resume")
	}
	r.Paused = true
	return nil
}

func resumeRollout(r *rollout.Rollout) error {
	if !r.Paused {
		return cli.Try(cli.Usagef("it is not paused"), "streembit ota status")
	}
	r.Paused, r.Since = false, time.Now().UnixMilli()
	return nil
}

func backRollout(r *rollout.Rollout) error {
	switch {
	case r.Back:
		return cli.Try(cli.Usagef("devices go back already"), "streembit ota status")
	case r.Previous == "":
		return cli.Try(cli.Usagef("it names no version to go back to"), "streembit ota rollout --to VERSION")
	}
	r.Back = true
	return nil
}
