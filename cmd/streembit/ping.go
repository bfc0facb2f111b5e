// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport/p2p"
)

// pinging is what ping was asked for.
type pinging struct {
	desk
	count int
	wait  time.Duration // for a hole
}

func newPing(a *app) *cobra.Command {
	p := pinging{desk: desk{app: a}}
	cmd := &cobra.Command{
		Use:   "ping DEVICE",
		Short: "Reach a device, say how that went and why, and measure round trips",
		Long: `Reaches a device as all commands to devices do, and shows each way that was tried: addresses that are known, the local network, addresses that the hubs know, the
relays of hubs. A relayed connection becomes a direct one when both sides can punch a hole through their NATs; ping waits for that, and says why not if it does not
happen. Then it measures round trips.

DEVICE is a name, an id, or the beginning or end of an id.`,
		Example: "  streembit ping pi-1\n  streembit ping pi-1 -n 20 --json",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.count < 1 || p.count > 1000 || p.wait < 0 || p.wait > time.Minute {
				return cli.Usagef("-n %d, --wait %s: want 1 to 1000 round trips, and up to 1m", p.count, p.wait)
			}
			return p.withOne(cmd.Context(), args[0], p.run)
		},
	}
	p.directFlags(cmd)
	cmd.Flags().IntVarP(&p.count, "count", "n", 5, "round trips to measure")
	cmd.Flags().DurationVar(&p.wait, "wait", 5*time.Second, "how long to wait for a direct connection when the first one is relayed")
	return cmd
}

// pingView is the JSON of a ping.
type pingView struct {
	Device edge.ID    `json:"device"`
	Name   string     `json:"name"`
	How    string     `json:"how"` // direct, relayed, impossible
	Addr   string     `json:"addr,omitempty"`
	Steps  []stepView `json:"steps"`
	Hole   *holeView  `json:"hole,omitempty"` // where the first connection was relayed
	RTT    []float64  `json:"rtt_ms"`
	Min    float64    `json:"min_ms,omitempty"`
	Avg    float64    `json:"avg_ms,omitempty"`
	Max    float64    `json:"max_ms,omitempty"`
	Error  string     `json:"error,omitempty"`
}

type stepView struct {
	Way   string   `json:"way"`
	Tried []string `json:"tried,omitempty"`
	Took  float64  `json:"took_ms"`
	OK    bool     `json:"ok"`
	Why   string   `json:"why,omitempty"` // it led nowhere
}

type holeView struct {
	OK   bool    `json:"ok"`
	Took float64 `json:"took_ms"`
	Why  string  `json:"why,omitempty"` // there is none
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (p pinging) run(ctx context.Context, r *reacher, g fleet.Grant) (err error) {
	v := pingView{Device: g.Member, Name: g.Name, Steps: []stepView{}, RTT: []float64{}}
	failed := p.measure(ctx, r.hubs.node, g, &v)
	v.Error = errText(failed)
	if p.asJSON {
		err = cli.PrintJSON(p.app.out, v)
	} else {
		v.print(p.app)
	}
	return errors.Join(err, failed)
}

// measure reaches the device and fills in what it finds.
func (p pinging) measure(ctx context.Context, node *p2p.Node, g fleet.Grant, v *pingView) error {
	route, err := node.Reach(ctx, g.Member)
	for _, s := range route.Steps {
		v.Steps = append(v.Steps, stepView{Way: s.Way, Tried: s.Tried, Took: ms(s.Took), OK: s.Err == nil, Why: s.Why()})
	}
	if err != nil {
		v.How = "impossible"
		return fmt.Errorf("%s cannot be reached: %w", g.Name, err)
	}
	if !route.Direct && p.wait > 0 {
		route = p.upgrade(ctx, node, g.Member, route, v)
	}
	v.How, v.Addr = "relayed", route.Addr
	if route.Direct {
		v.How = "direct"
	}
	return p.trips(ctx, node, g.Member, v)
}

// upgrade waits for a hole.
func (p pinging) upgrade(ctx context.Context, node *p2p.Node, device edge.ID, relayed p2p.Route, v *pingView) p2p.Route {
	began := time.Now()
	wait, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	better, ok := node.Upgrade(wait, device)
	v.Hole = &holeView{OK: ok, Took: ms(time.Since(began))}
	if ok {
		return better
	}
	v.Hole.Why = node.NetReport().NoHole()
	return relayed
}

// trips measures round trips, a pause apart; the first of a stream is not counted, because it is opened meanwhile.
func (p pinging) trips(ctx context.Context, node *p2p.Node, device edge.ID, v *pingView) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.count)*pingEvery+showLimit)
	defer cancel()
	opened := false
	err := node.Ping(ctx, device, func(rtt time.Duration) bool {
		if !opened {
			opened = true
			return true
		}
		v.RTT = append(v.RTT, ms(rtt))
		if len(v.RTT) == p.count {
			return false
		}
		t := time.NewTimer(pingEvery)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		return true
	})
	for i, rtt := range v.RTT {
		if i == 0 || rtt < v.Min {
			v.Min = rtt
		}
		v.Max = max(v.Max, rtt)
		v.Avg += rtt / float64(len(v.RTT))
	}
	return err
}

// pingEvery is the pause between two round trips.
const pingEvery = 200 * time.Millisecond

func (v pingView) print(a *app) {
	t := cli.NewTable(a.out)
	for _, s := range v.Steps {
		outcome := "reached"
		if !s.OK {
			outcome = shown(s.Why)
		}
		t.Row(s.Way, fmt.Sprintf("%.0f ms", s.Took), outcome)
	}
	t.Flush()
	switch h := v.Hole; {
	case h != nil && h.OK:
		fmt.Fprintf(a.out, "a hole was punched after %.0f ms\n", h.Took)
	case h != nil:
		fmt.Fprintf(a.out, "no hole was punched: %s\n", h.Why)
	}
	switch v.How {
	case "impossible":
		fmt.Fprintf(a.out, "%s: impossible: every way failed; it is off, or cut off from the hubs too\n", v.Name)
		return
	case "relayed":
		fmt.Fprintf(a.out, "%s: relayed by %s\n", v.Name, v.Addr)
	default:
		fmt.Fprintf(a.out, "%s: direct to %s\n", v.Name, v.Addr)
	}
	if len(v.RTT) > 0 {
		fmt.Fprintf(a.out, "%d round trips: min %.2f, avg %.2f, max %.2f ms\n", len(v.RTT), v.Min, v.Avg, v.Max)
	}
}
