// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// The pauses before a watch that was lost is tried again: each twice the last, and from half to one and a half times that, so that the watchers of a hub that starts
// anew do not all come at once.
const (
	watchAgain = 500 * time.Millisecond
	watchRest  = 30 * time.Second
	watchReach = 20 * time.Second // for one try
)

// watching is what streembit watch was asked for.
type watching struct {
	desk
	selector string
	value    string // only this one; with events only this event
	events   bool   // not readings
	span     time.Duration
	lines    bool // JSON lines, not a table
}

// shower shows what is watched. Its methods are called concurrently.
type shower interface {
	readings(g fleet.Grant, via string, all []shownReading)
	say(g fleet.Grant, format string, args ...any)
	state(g fleet.Grant, state string) // how its connection is
	close()
}

// shownReading is a reading as it is shown; seq and id of one that came from the hubs.
type shownReading struct {
	edge.Reading
	boot journal.BootID // that its Mono counts from
	seq  *uint64
	id   string
}

// Where a reading came from.
const (
	viaLive   = "live"   // as it was taken
	viaDevice = "device" // it was taken while nobody was connected, and the device still had it
	viaHubs   = "hubs"   // the same, and the device had it no more
)

func newWatch(a *app) *cobra.Command {
	w := watching{desk: desk{app: a, looks: true}}
	cmd := &cobra.Command{
		Use:   "watch DEVICE...",
		Short: "Follow readings as they are taken, before they are stored anywhere",
		Long: `Follows devices' readings as they are taken, over a stream to each device: a table on a terminal, a JSON object for each reading in a pipe. A connection that is
lost is made again, and what was taken meanwhile comes from the device, or where that has let it go from the hubs, if this folder has a reader key with the right to
read. What is missing all the same is said on standard error. Ctrl-C ends it.

With --events it follows what happens on the devices instead, as streembit describe lists it: alarms, sensors that fail and work again, readings that are lost, outputs
that go back, rules that act. What happens while there is no connection is not told later: it stands in the device's status and audit.

The readings come over a channel that proves the device. For readings with the device's own signature: streembit pull.

` + selectorHelp,
		Example: "  streembit watch pi-1\n  streembit watch site=lab --value bme280/temperature | jq .v",
		Args:    cli.Args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			w.selector = strings.Join(args, ",")
			if event, err := cmd.Flags().GetString("event"); err == nil && event != "" {
				if w.value != "" {
					return cli.Usagef("--value goes with readings, --event with events: want one of the two")
				}
				w.events, w.value = true, event
			} else if w.events && w.value != "" {
				return cli.Try(cli.Usagef("--value goes with readings, not with --events"), "streembit watch %s --event NAME", cli.Quote(w.selector))
			}
			if w.span < 0 || cmd.Flags().Changed("for") && w.span == 0 {
				return cli.Usagef("--for %s: want a time above 0", w.span)
			}
			return w.run(cmd.Context())
		},
	}
	w.directFlags(cmd)
	cmd.Flags().StringVar(&w.value, "value", "", "only this value, as `SENSOR/QUANTITY`")
	cmd.Flags().BoolVar(&w.events, "events", false, "follow what happens, not readings")
	cmd.Flags().String("event", "", "only this event, as `NAME`")
	cmd.Flags().DurationVar(&w.span, "for", 0, "end after so long")
	return cmd
}

// run watches until ctx ends, the time is over, or no device is left that could be watched.
func (w *watching) run(ctx context.Context) (err error) {
	w.lines = w.asJSON || !isTerminal(w.app.out) || os.Getenv("TERM") == "dumb"
	r, err := w.reach(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	grants, err := selectDevices(r.known(), w.selector)
	if err != nil {
		return err
	}
	var show shower = newLiveLines(w.app)
	switch {
	case w.events:
		show = &eventLines{newLiveLines(w.app), w.lines}
	case !w.lines:
		show = newScreen(w.app, grants)
	}
	if w.span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.span)
		defer cancel()
	}
	all := make([]*watched, len(grants))
	var watches sync.WaitGroup
	for i, g := range grants {
		all[i] = &watched{w: w, r: r, g: g, show: show, many: len(grants) > 1}
		watches.Go(func() { all[i].follow(ctx) })
	}
	watches.Wait()
	show.close()
	outcomes := make([]*outcomeOf, len(all))
	for i, one := range all {
		outcomes[i] = &outcomeOf{grant: one.g, err: one.err}
	}
	if len(outcomes) == 1 {
		return outcomes[0].err
	}
	return verdict(outcomes)
}

// watched is one device that is watched. Its follow and what the session tells are never at work at the same time.
type watched struct {
	w    *watching
	r    *reacher
	g    fleet.Grant
	show shower
	many bool // there are others

	ctx   context.Context //nolint:containedctx // of the watch under way, for what fills gaps
	fills sync.WaitGroup
	err   error // why it was never watched, or is no more; nil = the watcher has ended it
	why   error // of the last try

	began bool // once, at least
	next  *direct.Place
	seen  lastSeen
	late  int // readings that the device had kept, in this turn
	lost  time.Time
}

// follow watches until ctx ends or the device refuses for good.
func (d *watched) follow(ctx context.Context) {
	d.ctx = ctx
	defer d.fills.Wait()
	pause := watchAgain
	for {
		d.show.state(d.g, "connecting")
		at := time.Now()
		d.g = d.r.present(d.g)
		err := d.once(ctx)
		if ctx.Err() != nil {
			if !d.began && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				d.err = cmp.Or(d.why, err)
			}
			return
		}
		d.why = err
		if final(err) {
			d.err = err
			d.show.state(d.g, "refused")
			if d.many {
				d.show.say(d.g, "is not watched: %v", err)
			}
			return
		}
		if time.Since(at) > watchRest {
			pause = watchAgain
		}
		if d.lost.IsZero() {
			d.lost = time.Now()
			d.r.log.Info("not watched", "device", d.g.Name, "err", err)
			d.show.say(d.g, "is not connected, it is tried again: %s", lossOf(err))
		}
		d.show.state(d.g, "lost")
		t := time.NewTimer(jittered(pause))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		pause = min(2*pause, watchRest)
	}
}

// present returns the grant of the key that a device has now: another one, if it has changed its key meanwhile.
func (r *reacher) present(g fleet.Grant) fleet.Grant {
	f := r.known()
	if _, is := f.Member(g.Member); is {
		return g
	}
	if found := f.Find(g.Name); len(found) == 1 && found[0].Name == g.Name && found[0].Roles&fleet.Device != 0 {
		return found[0]
	}
	return g
}

// final reports whether trying again is of no use.
func final(err error) bool {
	return direct.ReasonOf(err) != 0 && !direct.Resumable(err) || errors.Is(err, fleet.ErrNotMember) || errors.Is(err, fleet.ErrRevoked)
}

// lossOf says in a few words why a watch was lost; the log has the rest.
func lossOf(err error) string {
	switch {
	case errors.Is(err, direct.ErrLost):
		return "the connection was lost"
	case errors.Is(err, transport.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return "the device is not reached (--log info says why)"
	}
	return err.Error()
}

// jittered returns from half to one and a half times d.
func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // not a secret
}

// once watches in one session.
func (d *watched) once(ctx context.Context) (err error) {
	reach, cancel := context.WithTimeout(ctx, watchReach)
	defer cancel()
	l, err := d.r.open(reach, d.g.Member)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if show, ok := d.show.(*eventLines); ok {
		return d.hear(ctx, l, show)
	}
	d.late = 0
	return l.Watch(ctx, d.w.value, d.next, func(word direct.Live) { d.take(l, word) })
}

// take shows what the device tells, and has gaps filled.
func (d *watched) take(l *line, word direct.Live) {
	if !d.began {
		d.show.say(d.g, "watched, %s", l.path)
	}
	anew := d.next != nil && d.next.Run != word.Next.Run
	d.began = true
	d.next = &word.Next
	if anew {
		d.seen.anew = true
	}
	if word.Lost > 0 || d.seen.anew && len(word.Readings) > 0 {
		d.gap(word)
		d.seen.anew = false
	}
	via := viaLive
	if word.Late {
		via = viaDevice
		d.late += len(word.Readings)
	} else {
		d.show.state(d.g, viaLive)
		d.back()
	}
	all := make([]shownReading, len(word.Readings))
	for i, r := range word.Readings {
		all[i].Reading, all[i].boot = r, word.Boot
	}
	d.show.readings(d.g, via, all)
	d.seen.note(word)
}

// back says, once, that a lost connection is there again, and how it was bridged.
func (d *watched) back() {
	if d.lost.IsZero() {
		return
	}
	text := fmt.Sprintf("is back after %s", time.Since(d.lost).Round(100*time.Millisecond))
	if d.late > 0 {
		text += fmt.Sprintf("; the device had kept %s of that time", plural(d.late, "reading"))
	}
	d.show.say(d.g, "%s", text)
	d.lost = time.Time{}
}
