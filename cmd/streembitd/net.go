// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport/p2p"
)

// networkStatus is how this member stands in the network.
type networkStatus struct {
	p2p.NetReport
	Means []string `json:"means"` // the report in plain words
	Names []string `json:"names"` // of the hubs in the report, in its order
	Try   []string `json:"try"`   // what would make it better
}

// networkOf says how the node stands, and what to do about it.
func networkOf(r p2p.NetReport, f *fleet.Fleet) networkStatus {
	s := networkStatus{NetReport: r, Means: r.Explain(), Names: []string{}, Try: []string{}}
	quic := false
	for _, h := range r.Hubs {
		g, _ := f.Member(h.Hub)
		s.Names = append(s.Names, g.Name)
		quic = quic || h.Protocol == "QUIC"
	}
	others := len(f.Hubs())
	if r.Serves {
		others--
	}
	switch {
	case others == 0 && r.Serves:
	case others == 0:
		s.Try = append(s.Try, "enrol a hub: streembit fleet grant ID --role hub --addr ADDR")
	case len(r.Hubs) == 0:
		s.Try = append(s.Try, "look whether this machine has a network and its clock is right, whether streembitd runs on the hubs, and whether their addresses in streembit fleet show can be reached from here")
	case r.Serves:
	case len(r.Listen) == 0:
		s.Try = append(s.Try, "nothing: this member is not one that others reach")
	case len(r.Relays) == 0:
		s.Try = append(s.Try, "wait a minute: places at relays are taken after the start; then look at the hubs' versions")
	}
	if len(r.Hubs) > 0 && !quic && !r.Serves {
		s.Try = append(s.Try, "open UDP outwards here, and give hubs an address /ip4/…/udp/32321/quic-v1: most NATs let QUIC through directly, few let TCP")
	}
	if r.UDP == p2p.MappingRandom {
		s.Try = append(s.Try, "forward a UDP port to this machine and name it in listen and announce, if relayed connections are too slow")
	}
	if len(r.Hubs) == 1 && others > 1 {
		s.Try = append(s.Try, "a second hub within reach: with one alone nobody finds this member while that one restarts")
	}
	return s
}

// errNoHub: the running program has no connection to any hub.
var errNoHub = errors.New("no hub is connected")

func newNetCommand() *cobra.Command {
	c := &cobra.Command{Use: "net", Short: "See how this member stands in the network", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	c.AddCommand(newNetCheckCommand())
	return c
}

func newNetCheckCommand() *cobra.Command {
	var state string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Say whether others reach this member directly, through a relay or not at all, why, and what to do",
		Long: `Asks the running program which hubs it is connected to, under which addresses they see it, what NAT that means, and which of them relay to it. It sends nothing.

Exit code 3 when no hub is connected, although the fleet has one.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := askStatus(c.Context(), state)
			if err != nil {
				return err
			}
			var s status
			if err := json.Unmarshal(data, &s); err != nil {
				return fmt.Errorf("reading status: %w", err)
			}
			if s.Network == nil {
				return cli.Try(errors.New("this device belongs to no fleet yet"), "streembitd id")
			}
			if asJSON {
				err = cli.PrintJSON(c.OutOrStdout(), s.Network)
			} else {
				s.Network.print(c.OutOrStdout())
			}
			if len(s.Network.Hubs) == 0 && !(s.Network.Serves && s.Hubs == 1) {
				err = errors.Join(err, cli.Try(errNoHub, "%s", s.Network.Try[0]))
			}
			return err
		},
	}
	c.Flags().StringVar(&state, "state", defaultState, "state folder")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (s *networkStatus) print(out io.Writer) {
	t := cli.NewTable(out, 3)
	t.Row("HUB", "OVER", "ADDRESS", "LATENCY", "RELAYS")
	for i, h := range s.Hubs {
		latency, relays := "unknown", "no"
		if h.Latency > 0 {
			latency = h.Latency.Round(10 * time.Microsecond).String()
		}
		if h.Relays {
			relays = "yes"
		}
		t.Row(s.Names[i], h.Protocol, h.Addr, latency, relays)
	}
	if len(s.Hubs) > 0 {
		t.Flush()
	}
	var seen []string
	for _, o := range s.Observed {
		if text := fmt.Sprintf("seen as %s from %s", o.Seen, o.Own); !slices.Contains(seen, text) {
			seen = append(seen, text)
			fmt.Fprintln(out, text)
		}
	}
	fmt.Fprintf(out, "NAT: UDP %s, TCP %s; listens at %v; local network: %s\n", s.UDP, s.TCP, s.Listen, map[bool]string{true: "members find it", false: "not announced"}[s.LAN])
	for _, line := range s.Means {
		fmt.Fprintln(out, line)
	}
	for _, line := range s.Try {
		fmt.Fprintln(out, "try:", line)
	}
}

// brief is the part of streembitd status.
func (s *networkStatus) brief(out io.Writer) {
	for _, line := range s.Means {
		fmt.Fprintln(out, "network:", line)
	}
	if len(s.Try) > 0 {
		fmt.Fprintln(out, "network: streembitd net check says more")
	}
}
