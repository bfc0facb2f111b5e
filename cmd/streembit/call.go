// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/thing"
	"github.com/streembit/edge/transport"
)

// calling is what call, get and set were asked for.
type calling struct {
	desk
	selector string
	op       direct.Op
	name     string
	words    []string // of a call: key=value; of a set: the value
	hold     time.Duration
	timeout  time.Duration
	atOnce   int
	yes      bool
}

func (c *calling) flags(cmd *cobra.Command) {
	c.directFlags(cmd)
	cmd.Flags().DurationVar(&c.timeout, "timeout", direct.DefaultDeadline, "how long each device may take")
	cmd.Flags().IntVar(&c.atOnce, "parallel", 16, "how many devices at once")
}

func newGet(a *app) *cobra.Command {
	c := calling{desk: desk{app: a}, op: direct.Get}
	cmd := &cobra.Command{
		Use:     "get DEVICE VALUE",
		Short:   "Read a value of devices",
		Long:    "Reads a value as streembit describe lists them: the last reading of a sensor, an output as it is now, a setting.\n\n" + selectorHelp,
		Example: "  streembit get pi-1 bme280/temperature\n  streembit get site=lab relay/switch --json",
		Args:    cli.Args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.selector, c.name = args[0], args[1]
			return c.run(cmd.Context())
		},
	}
	c.flags(cmd)
	return cmd
}

func newSet(a *app) *cobra.Command {
	c := calling{desk: desk{app: a}, op: direct.Set}
	cmd := &cobra.Command{
		Use:   "set DEVICE VALUE NEW",
		Short: "Set an output or a setting of devices",
		Long: `Sets an output, for good or with --for for a time: then the device puts it back to what it was, whether or not anybody is connected, also after a restart.
Or sets a sampling interval (SENSOR/interval) or the device's labels, which stay over restarts.

` + selectorHelp,
		Example: "  streembit set pi-1 relay/switch on --for 5s\n  streembit set site=lab bme280/interval 30s",
		Args:    cli.Args(cobra.ExactArgs(3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.selector, c.name, c.words = args[0], args[1], args[2:]
			if c.hold < 0 || cmd.Flags().Changed("for") && c.hold == 0 {
				return cli.Usagef("--for %s: want a time above 0", c.hold)
			}
			if c.hold > 0 {
				c.op, c.words = direct.Call, []string{"value=" + args[2], "for=" + c.hold.String()}
			}
			return c.run(cmd.Context())
		},
	}
	c.flags(cmd)
	cmd.Flags().DurationVar(&c.hold, "for", 0, "hold an output so long, then back to what it was")
	return cmd
}

func newCall(a *app) *cobra.Command {
	c := calling{desk: desk{app: a}, op: direct.Call}
	cmd := &cobra.Command{
		Use:   "call DEVICE ACTION [KEY=VALUE]...",
		Short: "Have devices do something",
		Long: `Invokes an action as streembit describe lists them. Arguments are checked by the device's own description, here and on the device. A request that is
lost on the way is asked for once more with the same id, and done once.

` + selectorHelp,
		Example: "  streembit call pi-1 identify for=10s\n  streembit call site=lab self-test\n  streembit call pi-1 logs lines=50",
		Args:    cli.Args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.selector, c.name, c.words = args[0], args[1], args[2:]
			return c.run(cmd.Context())
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do what is destructive without being asked once more")
	return cmd
}

// request makes the request that a device's description allows, or says why there is none.
func (c *calling) request(d *thing.Description) (direct.Request, error) {
	r := direct.Request{Op: c.op, Name: c.name}
	hint := func(err error) error { return cli.Try(cli.Usage(err), "streembit describe %s", cli.Quote(d.Title)) }
	if c.op == direct.Call {
		a, ok := d.Actions[c.name]
		if !ok {
			return r, hint(fmt.Errorf("%s has no action %q", d.Title, c.name))
		}
		args, err := a.Input.Arguments(c.words)
		if err != nil {
			return r, hint(fmt.Errorf("%s: %w", c.name, err))
		}
		if len(args) > 0 {
			r.Value = args
		}
		r.Sign = a.Signed
		if a.Signed && !c.yes {
			return r, cli.Try(cli.Usagef("%s is destructive: it wants --yes", c.name), "streembit call %s %s --yes", cli.Quote(c.selector), cli.Quote(c.name))
		}
		return r, nil
	}
	p, ok := d.Properties[c.name]
	switch {
	case !ok:
		return r, hint(fmt.Errorf("%s has no value %q", d.Title, c.name))
	case c.op == direct.Get:
		return r, nil
	case p.ReadOnly:
		return r, hint(fmt.Errorf("%s of %s can be read and not set", c.name, d.Title))
	}
	v, err := p.Value(c.name, c.words[0])
	if err != nil {
		return r, hint(err)
	}
	r.Value = v
	return r, nil
}

// reachLimit is how long a device is looked for that has not answered once: it may just start anew.
const reachLimit = 6 * time.Second

// do asks one device, in as many sessions as it takes within its time: with one id, so that it is done once.
func (c *calling) do(ctx context.Context, r *reacher, out *outcomeOf) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	began, id, told := time.Now(), direct.NewID(), false
	defer func() { out.took = time.Since(began) }()
	for {
		out.err = c.once(ctx, r, id, out)
		lost := errors.Is(out.err, direct.ErrLost) || errors.Is(out.err, transport.ErrUnreachable) || direct.ReasonOf(out.err) == direct.Stopping
		if !lost || ctx.Err() != nil || !out.asked && time.Since(began) > reachLimit {
			return
		}
		if !told {
			out.say(-1, "it is tried again: "+out.err.Error())
			told = true
		}
		t := time.NewTimer(again)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (c *calling) once(ctx context.Context, r *reacher, id direct.RequestID, out *outcomeOf) (err error) {
	l, err := r.open(ctx, out.grant.Member)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	out.path = l.path.String()
	d, err := l.describe(ctx)
	if err != nil {
		return err
	}
	q, err := c.request(d)
	if err != nil {
		return err
	}
	out.unit = d.Properties[c.name].Unit
	q.ID, q.Progress, q.Data = id, out.say, out
	out.asked = true
	out.value, err = l.Do(ctx, q)
	return err
}
