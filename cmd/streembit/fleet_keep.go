// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

func newFleetKeep(a *app) *cobra.Command {
	d := desk{app: a}
	var k typedKeep
	cmd := &cobra.Command{
		Use:   "keep [NAME --for AGE]",
		Short: "Say how long hubs hold readings, and which collectors must have them first; without NAME, list it",
		Long: `Hubs hold what devices publish until every required collector has said that it is in its sink, and at most for the age, counted from when the first
hub got it; without --required, for the age alone. Of what nothing is said they hold it for 7 days. Where several retentions speak of a stream, the longest
age counts and the required collectors of all of them; if one of them requires nobody, the age alone.

NAME is for people. The same NAME again says all of it anew: what is not repeated is gone. The same again changes nothing.`,
		Example: `  streembit fleet keep all --for 30d --required server
  streembit fleet keep lab --for 90d --on site=lab --stream main
  streembit fleet keep lab --end
  streembit fleet keep`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if len(argv) == 0 {
				if fl := cmd.Flags(); fl.Changed("for") || fl.Changed("end") || fl.Changed("on") || fl.Changed("stream") || fl.Changed("required") {
					return cli.Try(cli.Usagef("a retention needs a name"), "streembit fleet keep all --for 30d --required server")
				}
				return listKept(d)
			}
			k.name = argv[0]
			age, err := k.age()
			if err != nil {
				return cli.Try(cli.Usage(err), "streembit fleet keep %s --for 30d --required server", cli.Quote(k.name))
			}
			return keep(cmd.Context(), d, k, age)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&k.longest, "for", "", "the longest `age`: 30d, 4w, 12h; an hour to ten years")
	fl.StringSliceVar(&k.on, "on", []string{"*"}, "which devices: a name, an id or a label such as `site=lab` (may be repeated)")
	fl.StringSliceVar(&k.streams, "stream", []string{"*"}, "which `streams`; may end in * (may be repeated)")
	fl.StringSliceVar(&k.required, "required", nil, "`name` of a collector that must have it before it may go earlier (may be repeated)")
	fl.BoolVar(&k.end, "end", false, "end the retention NAME")
	d.flags(cmd)
	d.jsonFlag(cmd)
	return cmd
}

// typedKeep is a retention as it is typed.
type typedKeep struct {
	name, longest         string
	on, streams, required []string
	end                   bool
}

func (k typedKeep) age() (time.Duration, error) {
	switch {
	case k.end && k.longest != "":
		return 0, errors.New("--end goes without --for")
	case k.end:
		return 0, nil
	case k.longest == "":
		return 0, errors.New("--for is missing: say how long at most")
	}
	if n, unit, ok := days(k.longest); ok {
		return time.Duration(n*unit) * 24 * time.Hour, nil
	}
	if age, err := time.ParseDuration(k.longest); err == nil && age > 0 {
		return age, nil
	}
	return 0, fmt.Errorf("--for %q: want for example 30d, 4w or 12h", k.longest)
}

// keep says or ends a retention.
func keep(ctx context.Context, d desk, k typedKeep, age time.Duration) (err error) {
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if k.end && !slices.ContainsFunc(o.known().Retentions(), func(r fleet.Retention) bool { return r.Name == k.name }) {
		return cli.Try(cli.Usagef("fleet %s has no retention %q", o.known().State().Name, k.name), "streembit fleet keep%s", o.dirArg())
	}
	r := fleet.Retention{Name: k.name, On: k.on, Streams: k.streams, MaxAge: age.Milliseconds()}
	for _, name := range k.required {
		id, err := o.collector(name)
		if err != nil {
			return err
		}
		r.Required = append(r.Required, id)
	}
	changed, err := o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		said := r
		for _, old := range f.Retentions() {
			switch {
			case old.Name != r.Name:
			case k.end: // of what it covers, so that whoever may speak of that may end it
				said.On, said.Streams, said.Required = old.On, old.Streams, nil
			case sameRetention(old, r):
				return f, nil, nil
			}
		}
		next, err := f.Retain(o.author, now, said)
		if errors.Is(err, fleet.ErrBadGrant) {
			err = cli.Try(cli.Usage(err), "streembit fleet keep --help")
		}
		if err != nil {
			return nil, nil, err
		}
		return next, []audit.Event{{Event: "keep", What: r.Name, Detail: retentionText(next, said)}}, nil
	})
	if err != nil {
		return err
	}
	switch {
	case !changed:
		fmt.Fprintf(o.app.out, "%s already is so: nothing changed\n", k.name)
	case k.end:
		fmt.Fprintf(o.app.out, "ended %s; what nothing else speaks of is held for %s\n", k.name, ageText(fleet.DefaultMaxAge))
	default:
		fmt.Fprintf(o.app.out, "%s: %s\n", k.name, retentionText(o.known(), r))
		o.warnKept(r)
	}
	return nil
}

// collector returns the id of a collector that a person means.
func (o *office) collector(name string) (edge.ID, error) {
	g, err := o.member(name)
	if err == nil && g.Roles&fleet.Collector == 0 {
		err = cli.Try(cli.Usagef("--required %s: it is %s, no collector: nothing says what it has", name, g.Roles), "streembit fleet show%s", o.dirArg())
	}
	return g.Member, err
}

// warnKept says what a person may not have meant.
func (o *office) warnKept(r fleet.Retention) {
	devices := slices.DeleteFunc(o.known().With(fleet.Device), func(g fleet.Grant) bool { return !r.Covers(g) })
	if len(devices) == 0 {
		fmt.Fprintf(o.app.err, "no device is %s yet\n", strings.Join(r.On, ", "))
	}
	for _, id := range r.Required {
		blind := slices.ContainsFunc(devices, func(g fleet.Grant) bool {
			return slices.ContainsFunc(r.Streams, func(s string) bool { return !o.known().May(id, fleet.Read, g.Member, s) })
		})
		if blind {
			fmt.Fprintf(o.app.err, "%s may not read all of it: what it may not read is held for the whole age\n", whoIs(o.known(), id))
		}
	}
	for _, other := range o.known().Retentions() {
		both := slices.ContainsFunc(devices, other.Covers)
		if other.Name != r.Name && both && (len(other.Required) == 0) != (len(r.Required) == 0) {
			fmt.Fprintf(o.app.err, "where %s speaks of the same streams, the age alone counts: one of the two requires no collector\n", other.Name)
		}
	}
}

// listKept shows what counts.
func listKept(d desk) error {
	f, err := d.dir.load()
	if err != nil {
		return err
	}
	l := keptView{Default: fleet.DefaultMaxAge.Milliseconds(), Retentions: viewRetentions(f)}
	if d.asJSON {
		return cli.PrintJSON(d.app.out, l)
	}
	t := cli.NewTable(d.app.out)
	printRetentions(t, l.Retentions)
	what := "everything"
	if len(l.Retentions) > 0 {
		fmt.Fprintln(d.app.out)
		what = "everything else"
	}
	fmt.Fprintf(d.app.out, "%s is held for %s\n", what, ageText(fleet.DefaultMaxAge))
	return nil
}

// keptView is what fleet keep lists, in JSON.
type keptView struct {
	Retentions []retentionView `json:"retentions"`
	Default    int64           `json:"default_ms"` // age of what nothing is said of
}

type retentionView struct {
	Name     string         `json:"name"`
	On       []string       `json:"on"`
	Streams  []string       `json:"streams"`
	MaxAge   int64          `json:"max_age_ms"`
	Required []requiredView `json:"required"`
}

type requiredView struct {
	ID     edge.ID `json:"id"`
	Name   string  `json:"name"`
	Counts bool    `json:"counts"` // it is a collector now
}

func viewRetentions(f *fleet.Fleet) []retentionView {
	out := []retentionView{}
	for _, r := range f.Retentions() {
		v := retentionView{Name: r.Name, On: r.On, Streams: r.Streams, MaxAge: r.MaxAge, Required: []requiredView{}}
		for _, id := range r.Required {
			v.Required = append(v.Required, requiredView{ID: id, Name: whoIs(f, id), Counts: f.Is(id, fleet.Collector)})
		}
		out = append(out, v)
	}
	return out
}

func printRetentions(t *cli.Table, all []retentionView) {
	if len(all) == 0 {
		return
	}
	t.Row("KEEP", "FOR AT MOST", "OF", "STREAMS", "UNTIL THEY HAVE IT")
	for _, r := range all {
		var names []string
		for _, c := range r.Required {
			if !c.Counts {
				c.Name += ", which does not count"
			}
			names = append(names, c.Name)
		}
		t.Row(r.Name, ageText(time.Duration(r.MaxAge)*time.Millisecond), strings.Join(r.On, ","), strings.Join(r.Streams, ","), cmp.Or(strings.Join(names, ", "), "-"))
	}
	t.Flush()
}

// retentionText says a retention in a line.
func retentionText(f *fleet.Fleet, r fleet.Retention) string {
	of := fmt.Sprintf("stream %s of %s", strings.Join(r.Streams, ","), strings.Join(r.On, ","))
	if r.MaxAge == 0 {
		return of + ", ended"
	}
	age := ageText(time.Duration(r.MaxAge) * time.Millisecond)
	if len(r.Required) == 0 {
		return fmt.Sprintf("%s, for %s", of, age)
	}
	var names []string
	for _, id := range r.Required {
		names = append(names, whoIs(f, id))
	}
	return fmt.Sprintf("%s, until %s has it, for %s at most", of, strings.Join(names, " and "), age)
}

// ageText writes what --for reads.
func ageText(age time.Duration) string {
	if day := 24 * time.Hour; age%day == 0 {
		return fmt.Sprintf("%dd", age/day)
	}
	s := age.String()
	return strings.TrimSuffix(strings.TrimSuffix(s, "0s"), "0m")
}

// sameRetention compares what two retentions say, whenever they were made.
func sameRetention(a, b fleet.Retention) bool {
	a.Serial, b.Serial = 0, 0
	a.Required, b.Required = append([]edge.ID{}, a.Required...), append([]edge.ID{}, b.Required...) // nil and empty are one
	x, errX := journal.Encode(a)
	y, errY := journal.Encode(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
