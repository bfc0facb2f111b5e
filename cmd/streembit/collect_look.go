// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
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
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// looking is what the commands that look into the sinks have in common. They do not use the network.
type looking struct {
	config string
	sink   string // "" = all
	asJSON bool
}

func (l *looking) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.config, "config", "", "config `file`")
	cmd.Flags().StringVar(&l.sink, "sink", "", "only the sink of this `name`")
	cmd.Flags().BoolVar(&l.asJSON, "json", false, "write JSON")
}

// load reads the config and the fleet as this folder knows it, if it does.
func (l *looking) load(cmd *cobra.Command) (collectConfig, *fleet.Fleet, error) {
	if err := need(cmd, "--config collect.toml", "config"); err != nil {
		return collectConfig{}, nil, err
	}
	c, err := loadCollectConfig(l.config)
	if err != nil {
		return c, nil, err
	}
	if l.sink != "" {
		named := slices.DeleteFunc(slices.Clone(c.Sinks), func(s sinkTable) bool { return s.Name != l.sink })
		if len(named) == 0 {
			return c, nil, cli.Try(cli.Usagef("config %s has no sink %q, but %s", l.config, l.sink, strings.Join(sinkNames(&c), ", ")),
				"%s --config %s --sink %s", cmd.CommandPath(), cli.Quote(l.config), cli.Quote(c.Sinks[0].Name))
		}
		c.Sinks = named
	}
	f, err := fleet.Load(stateDir(c.State).bundle(), journal.FleetID{})
	if err != nil {
		f = nil // names are for people only
	}
	return c, f, nil
}

func sinkNames(c *collectConfig) (names []string) {
	for _, s := range c.Sinks {
		names = append(names, s.Name)
	}
	return names
}

// standing is where one chain stands in one sink.
type standing struct {
	sink  string
	chain journal.Chain
	name  string // the device's
	mark  collector.Mark
}

// standings opens each sink and returns what it has, in order.
func standings(ctx context.Context, c *collectConfig, f *fleet.Fleet) (out []standing, err error) {
	for i := range c.Sinks {
		s := &c.Sinks[i]
		marks, err := marksOf(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", s.Name, err)
		}
		for chain, m := range marks {
			out = append(out, standing{s.Name, chain, deviceName(f, chain.Device), m})
		}
	}
	slices.SortStableFunc(out, func(a, b standing) int {
		return cmp.Or(slices.Index(sinkNames(c), a.sink)-slices.Index(sinkNames(c), b.sink), cmp.Compare(a.name, b.name), cmp.Compare(a.chain.String(), b.chain.String()))
	})
	return out, nil
}

func marksOf(ctx context.Context, s *sinkTable) (marks map[journal.Chain]collector.Mark, err error) {
	sink, err := openSink(ctx, s.sinkConfig)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	return sink.Marks(ctx)
}

func deviceName(f *fleet.Fleet, device edge.ID) string {
	if f == nil {
		return ""
	}
	if g, ok := f.Member(device); ok {
		return g.Name
	}
	g, _, _ := f.Former(device)
	return g.Name
}

func (s *standing) device() string { return cmp.Or(s.name, s.chain.Device.Short()) }

// gapView is the JSON of one gap.
type gapView struct {
	Sink   string `json:"sink"`
	Device string `json:"device"`
	Name   string `json:"device_name,omitempty"`
	Chain  string `json:"chain"`
	gapSpan
	Segments uint64 `json:"segments"`
	Found    string `json:"found"`
}

func newCollectGaps(a *app) *cobra.Command {
	var l looking
	cmd := &cobra.Command{
		Use:   "gaps --config FILE",
		Short: "What is missing in the sinks, and why",
		Long: `Lists the segments that exist and are not in a sink, from the sink alone: with the collector's reason and, where there is one, with what the
device says about it. Readings that a sink refused are no gap: they are in its dead-letter file. Ends with 5 when something is missing.`,
		Example: "  streembit collect gaps --config collect.toml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, f, err := l.load(cmd)
			if err != nil {
				return err
			}
			all, err := standings(cmd.Context(), &c, f)
			if err != nil {
				return err
			}
			return a.showGaps(all, l)
		},
	}
	l.flags(cmd)
	return cmd
}

func (a *app) showGaps(all []standing, l looking) error {
	views := []gapView{}
	var missing uint64
	tab := cli.NewTable(a.out, 3)
	tab.Row("SINK", "DEVICE", "STREAM", "SEGMENTS", "SEQ", "SINCE", "REASON")
	for _, s := range all {
		for _, g := range s.mark.Gaps {
			missing += g.Segments()
			views = append(views, gapView{s.sink, s.chain.Device.String(), s.name, s.chain.String(), gapSpan{g.First, g.Last, g.Reason, g.Explained},
				g.Segments(), g.Found.UTC().Format(time.RFC3339)})
			seq, why, _ := strings.Cut(g.String(), " ")
			tab.Row(s.sink, s.device(), s.chain.Stream, fmt.Sprint(g.Segments()), seq, g.Found.Local().Format(time.DateTime), strings.Trim(why, "()"))
		}
	}
	switch {
	case l.asJSON:
		if err := cli.PrintJSON(a.out, views); err != nil {
			return err
		}
	case missing == 0:
		fmt.Fprintf(a.out, "nothing is missing: %s in %s\n", plural(len(all), "chain"), plural(sinksOf(all), "sink"))
	default:
		tab.Flush()
	}
	if missing > 0 {
		return cli.Try(fmt.Errorf("%s missing: %w", plural(missing, "segment"), errUnverified), "streembit collect run --config %s --once", cli.Quote(l.config))
	}
	return nil
}

func sinksOf(all []standing) int {
	seen := map[string]bool{}
	for _, s := range all {
		seen[s.sink] = true
	}
	return len(seen)
}

// checkpointView is the JSON of one checkpoint.
type checkpointView struct {
	Sink    string  `json:"sink"`
	Device  string  `json:"device"`
	Name    string  `json:"device_name,omitempty"`
	Chain   string  `json:"chain"`
	Seq     *uint64 `json:"seq"` // null: nothing yet
	Hash    string  `json:"hash,omitempty"`
	Missing uint64  `json:"missing"` // segments before it or after it that are known to be
}

func newCollectCheckpoint(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Where each chain stands in the sinks",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newCheckpointShow(a), newCheckpointReset(a))
	return cmd
}

func newCheckpointShow(a *app) *cobra.Command {
	var l looking
	cmd := &cobra.Command{
		Use:     "show --config FILE",
		Short:   "Up to which segment each sink has each chain",
		Example: "  streembit collect checkpoint show --config collect.toml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, f, err := l.load(cmd)
			if err != nil {
				return err
			}
			all, err := standings(cmd.Context(), &c, f)
			if err != nil {
				return err
			}
			return a.showCheckpoints(all, l.asJSON)
		},
	}
	l.flags(cmd)
	return cmd
}

func (a *app) showCheckpoints(all []standing, asJSON bool) error {
	views := []checkpointView{}
	tab := cli.NewTable(a.out, 4, 5)
	tab.Row("SINK", "DEVICE", "STREAM", "LIFE", "SEQ", "MISSING")
	for _, s := range all {
		v := checkpointView{Sink: s.sink, Device: s.chain.Device.String(), Name: s.name, Chain: s.chain.String()}
		seq := "nothing yet"
		if link := s.mark.Link; link != nil {
			v.Seq, v.Hash, seq = &link.Seq, link.Hash.String(), fmt.Sprint(link.Seq)
		}
		for _, g := range s.mark.Gaps {
			v.Missing += g.Segments()
		}
		views = append(views, v)
		tab.Row(s.sink, s.device(), s.chain.Stream, s.chain.Incarnation.String()[:8], seq, fmt.Sprint(v.Missing))
	}
	if asJSON {
		return cli.PrintJSON(a.out, views)
	}
	tab.Flush()
	return nil
}

func newCheckpointReset(a *app) *cobra.Command {
	var l looking
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset --config FILE --sink NAME DEVICE|all",
		Short: "Pull a device's chains again from their beginning",
		Long: `Takes back how far a sink has got with a device, for when rows were deleted or changed by hand. Stop the collector first. The next run pulls
everything that the hubs still hold: a database gets only the readings that it lacks; brokers, files and webhooks get all of them again.
What the hubs have let go meanwhile stays in the sink as it is, and is listed as a gap.`,
		Example: "  streembit collect checkpoint reset --config collect.toml --sink sqlite pi-1 --yes",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, devices []string) error {
			if err := need(cmd, "--config collect.toml --sink sqlite", "sink"); err != nil {
				return err
			}
			c, f, err := l.load(cmd)
			if err != nil {
				return err
			}
			if !yes {
				return cli.Try(cli.Usagef("the readings of %s are pulled again into sink %s: say --yes if that is meant", devices[0], l.sink),
					"%s --config %s --sink %s %s --yes", cmd.CommandPath(), cli.Quote(l.config), cli.Quote(l.sink), cli.Quote(devices[0]))
			}
			return a.reset(cmd.Context(), &c.Sinks[0], f, devices[0])
		},
	}
	l.flags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// reset takes back the checkpoints of a device in one sink.
func (a *app) reset(ctx context.Context, s *sinkTable, f *fleet.Fleet, device string) (err error) {
	sink, err := openSink(ctx, s.sinkConfig)
	if err != nil {
		return fmt.Errorf("sink %s: %w", s.Name, err)
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	r, ok := collector.As[collector.Resetter](sink)
	if !ok {
		return cli.Usagef("sink %s of kind %s keeps no checkpoints that can be taken back", s.Name, s.Kind)
	}
	marks, err := sink.Marks(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, chain := range slices.SortedFunc(maps.Keys(marks), func(a, b journal.Chain) int { return cmp.Compare(a.String(), b.String()) }) {
		id := chain.Device.String()
		if device != "all" && device != id && device != deviceName(f, chain.Device) && (len(device) < 6 || !strings.HasSuffix(id, device)) {
			continue
		}
		if err := r.Reset(ctx, chain); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return cli.Try(cli.Usagef("sink %s has nothing of a device %q", s.Name, device), "streembit collect checkpoint show --config FILE")
	}
	fmt.Fprintf(a.out, "%s of sink %s begin anew\n", plural(n, "chain"), s.Name)
	return nil
}
