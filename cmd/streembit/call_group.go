// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/thing"
	"github.com/streembit/edge/transport"
)

// outcomeOf is what came of asking one device.
type outcomeOf struct {
	grant fleet.Grant
	value any
	unit  string
	path  string
	asked bool // a request was sent
	took  time.Duration
	err   error

	show   func(name string, done float64, text string)
	stream func(p []byte) (int, error) // where what is streamed goes at once; nil = it is kept
	kept   bytes.Buffer
}

// maxStreamed bounds what one of several devices may stream, in bytes.
const maxStreamed = 4 << 20

func (o *outcomeOf) say(done float64, text string) { o.show(o.grant.Name, done, text) }

// Write takes what the device streams.
func (o *outcomeOf) Write(p []byte) (int, error) {
	if o.stream != nil {
		return o.stream(p)
	}
	if o.kept.Len()+len(p) > maxStreamed {
		return 0, fmt.Errorf("more than %d bytes from %s: ask it alone", maxStreamed, o.grant.Name)
	}
	return o.kept.Write(p)
}

// outcomeView is the JSON of an outcome.
type outcomeView struct {
	Device edge.ID `json:"device"`
	Name   string  `json:"name"`
	OK     bool    `json:"ok"`
	Value  any     `json:"value,omitempty"`
	Unit   string  `json:"unit,omitempty"`
	Data   string  `json:"data,omitempty"` // what was streamed
	Path   string  `json:"path,omitempty"`
	Took   float64 `json:"took_ms"`
	Reason string  `json:"reason,omitempty"`
	Error  string  `json:"error,omitempty"`
}

func (o *outcomeOf) view() outcomeView {
	v := outcomeView{Device: o.grant.Member, Name: o.grant.Name, OK: o.err == nil, Value: o.value, Unit: o.unit, Data: o.kept.String(), Path: o.path,
		Took: float64(o.took.Microseconds()) / 1000, Error: errText(o.err)}
	if o.err != nil {
		v.Reason = reasonOf(o.err)
	}
	return v
}

// reasonOf is why a device did not do it, in a word or two.
func reasonOf(err error) string {
	switch r := direct.ReasonOf(err); {
	case r != 0:
		return r.String()
	case cli.Is[*thing.ArgumentError](err):
		return direct.BadArgument.String()
	case errors.Is(err, transport.ErrUnreachable):
		return "unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, direct.ErrLost):
		return "no answer"
	}
	return "failed"
}

// run asks all devices that are meant and shows what came of it.
func (c *calling) run(ctx context.Context) (err error) {
	if c.timeout <= 0 || c.timeout >= direct.MaxAhead-time.Minute || c.atOnce < 1 {
		return cli.Usagef("--timeout %s, --parallel %d: want a time up to %s, and 1 or more", c.timeout, c.atOnce, direct.MaxAhead-2*time.Minute)
	}
	r, err := c.reach(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if c.op == direct.Call && c.name == rotateAction {
		return c.rotateAll(ctx, r)
	}
	return c.askAll(ctx, r)
}

func (c *calling) askAll(ctx context.Context, r *reacher) error {
	grants, err := selectDevices(r.known(), c.selector)
	if err != nil {
		return err
	}
	all := c.all(ctx, r, grants)
	if err := c.note(ctx, r, all); err != nil {
		return err
	}
	if c.asJSON {
		views := []outcomeView{}
		for _, o := range all {
			views = append(views, o.view())
		}
		return errors.Join(cli.PrintJSON(c.app.out, views), verdict(all))
	}
	if len(all) == 1 {
		return c.printOne(all[0])
	}
	c.printAll(all)
	return verdict(all)
}

// all asks the devices, some at once.
func (c *calling) all(ctx context.Context, r *reacher, grants []fleet.Grant) []*outcomeOf {
	var mu sync.Mutex // of the progress
	p := newProgress(c.app.err)
	finished := 0
	show := func(name string, done float64, text string) {
		mu.Lock()
		defer mu.Unlock()
		share := "…"
		if done >= 0 {
			share = fmt.Sprintf("%3.0f %%", 100*done)
		}
		p.step(name, "%s  %s", share, shown(text))
	}
	all := make([]*outcomeOf, len(grants))
	places := semaphore.NewWeighted(int64(c.atOnce))
	var asking sync.WaitGroup
	for i, g := range grants {
		all[i] = &outcomeOf{grant: g, show: show}
		if len(grants) == 1 && !c.asJSON {
			all[i].stream = c.app.out.Write
		}
		if err := places.Acquire(ctx, 1); err != nil {
			all[i].err = err
			continue
		}
		asking.Go(func() {
			defer places.Release(1)
			c.do(ctx, r, all[i])
			if len(grants) > 1 {
				mu.Lock()
				defer mu.Unlock()
				finished++
				p.live("asked", "%d of %s", finished, plural(len(grants), "device"))
			}
		})
	}
	asking.Wait()
	p.clear()
	return all
}

// note writes what was asked for into the audit log. Who only looked is not noted.
func (c *calling) note(ctx context.Context, r *reacher, all []*outcomeOf) error {
	if c.op == direct.Get {
		return nil
	}
	var events []audit.Event
	for _, o := range all {
		if !o.asked {
			continue
		}
		text := strings.TrimSpace(fmt.Sprintf("%s %s %s", c.op, c.name, strings.Join(c.words, " ")))
		if o.err != nil {
			text += ": " + o.err.Error()
		}
		events = append(events, audit.Event{Event: evCall, What: o.grant.Member.String(), Detail: text})
	}
	return r.noteCalls(context.WithoutCancel(ctx), events...)
}

func (c *calling) printOne(o *outcomeOf) error {
	if o.err != nil {
		return fmt.Errorf("%s: %w", o.grant.Name, o.err)
	}
	switch v := o.value.(type) {
	case nil:
		fmt.Fprintln(c.app.err, "done")
	case map[string]any:
		t := cli.NewTable(c.app.out)
		for _, name := range sortedKeys(v) {
			t.Row(shown(name), valueText(v[name], ""))
		}
		t.Flush()
	default:
		fmt.Fprintln(c.app.out, valueText(v, o.unit))
	}
	return nil
}

func (c *calling) printAll(all []*outcomeOf) {
	for _, o := range all {
		for line := range strings.Lines(o.kept.String()) {
			fmt.Fprintf(c.app.out, "%s: %s\n", o.grant.Name, strings.TrimSuffix(line, "\n"))
		}
	}
	t := cli.NewTable(c.app.out, 2)
	t.Row("DEVICE", "RESULT", "TOOK")
	failed := map[string]int{}
	for _, o := range all {
		text := "done"
		switch {
		case o.err != nil:
			text = shown(o.err.Error())
			failed[reasonOf(o.err)]++
		case o.value != nil:
			text = valueText(o.value, o.unit)
		}
		t.Row(o.grant.Name, text, o.took.Round(time.Millisecond).String())
	}
	t.Flush()
	var why []string
	bad := 0
	for _, reason := range sortedKeys(failed) {
		why = append(why, fmt.Sprintf("%d %s", failed[reason], reason))
		bad += failed[reason]
	}
	fmt.Fprintln(c.app.err, strings.TrimSuffix(fmt.Sprintf("%d of %s: %s", len(all)-bad, plural(len(all), "device"), strings.Join(why, ", ")), ": "))
}

// valueText shows a value to a person.
func valueText(v any, unit string) string {
	switch v := v.(type) {
	case bool:
		return map[bool]string{true: "on", false: "off"}[v]
	case string:
		return shown(v)
	case float64:
		return strings.TrimSpace(fmt.Sprintf("%.10g %s", v, unit))
	case map[string]any:
		var words []string
		for _, name := range sortedKeys(v) {
			words = append(words, shown(name)+"="+valueText(v[name], ""))
		}
		return strings.Join(words, " ")
	case uint64, int64:
		return strings.TrimSpace(fmt.Sprintf("%d %s", v, unit))
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "a value that cannot be shown"
	}
	return string(text)
}

// verdict is nil if all devices did it. If all that failed did so alike, the exit code says how.
func verdict(all []*outcomeOf) error {
	failed, first, alike := 0, error(nil), true
	for _, o := range all {
		if o.err == nil {
			continue
		}
		if failed++; first == nil {
			first = o.err
		}
		alike = alike && outcome().Code(o.err) == outcome().Code(first)
	}
	switch {
	case failed == 0:
		return nil
	case alike:
		return fmt.Errorf("%d of %s failed: %w", failed, plural(len(all), "device"), first)
	}
	return cli.Try(fmt.Errorf("%d of %s failed", failed, plural(len(all), "device")), "the same command for those that failed")
}

// callKinds says how what devices answer ends the program.
func callKinds() []cli.Kind {
	is := func(reasons ...direct.Reason) func(error) bool {
		return func(err error) bool {
			for _, r := range reasons {
				if direct.ReasonOf(err) == r {
					return true
				}
			}
			return false
		}
	}
	return []cli.Kind{
		{Is: is(direct.NoRight, direct.NotSigned), Code: cli.Refused, Try: "streembit fleet show"},
		{Is: is(direct.BadArgument, direct.NotThere, direct.BadRequest), Code: cli.Misuse, Try: "streembit describe DEVICE"},
		{Is: is(direct.Unknown), Code: cli.Failure, Try: "streembit get DEVICE VALUE, then the command again if it is still wanted"},
		{Is: cli.Is[*direct.Refusal], Code: cli.Failure, Try: "the same command again"},
		{Is: cli.Wraps(direct.ErrLost, context.DeadlineExceeded), Code: cli.Unreachable, Try: "the same command again, or with a longer --timeout"},
	}
}
