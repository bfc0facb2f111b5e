// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/rules"
	"github.com/streembit/edge/cmd/streembitd/doctor"
	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/transport/p2p"
)

// status is the JSON document on the status socket.
type status struct {
	ID      string         `json:"id"`
	Fleet   string         `json:"fleet"`
	Roles   []string       `json:"roles"`
	Version string         `json:"version"`
	Addrs   []string       `json:"addrs"`
	Peers   []p2p.PeerInfo `json:"peers"`
	Hubs    int            `json:"enrolled_hubs"`
	Network *networkStatus `json:"network,omitempty"` // of a member
	Device  *agent.Status  `json:"device,omitempty"`
	Buses   []busStatus    `json:"buses,omitempty"` // of a device's board
	Rules   []rules.Status `json:"rules,omitempty"`
	Config  *configStatus  `json:"config,omitempty"` // that was pushed last
	Update  *device.Status `json:"update,omitempty"`
	Store   *storeStatus   `json:"store,omitempty"`
	Repair  *repairStatus  `json:"repair,omitempty"` // of a hub

	Standing     string       `json:"standing"` // unclaimed, member, revoked, expired, stranger: what the fleet proves, or while no hub accepts it, what they say
	FleetID      string       `json:"fleet_id,omitempty"`
	FleetVersion uint64       `json:"fleet_version,omitempty"`
	Members      int          `json:"members,omitempty"`
	HubsSay      string       `json:"hubs_say,omitempty"` // of this member, while none accepts it: no proof
	Time         timeStatus   `json:"time"`
	Alarms       []alarm      `json:"alarms"`
	Enrolment    *enrolStatus `json:"enrolment,omitempty"` // while unclaimed
	Queue        *queueStatus `json:"queue,omitempty"`     // of a hub

	Machine []doctor.Finding `json:"machine"` // what the program itself sees of it; streembitd doctor sees more
}

type storeStatus struct {
	Chains   int               `json:"chains"`
	Segments int               `json:"segments"`
	Revoked  int               `json:"revoked"` // of the segments: a revocation took them from their chains
	Bytes    int64             `json:"bytes"`
	Quota    int64             `json:"quota"`
	Puts     uint64            `json:"puts"`
	Refused  map[string]uint64 `json:"refused"`
	Forks    int               `json:"forks"`
	Damaged  uint64            `json:"damaged"`
	Skipped  uint64            `json:"skipped"`
	MeanSync time.Duration     `json:"mean_sync_ns"`
	LetGo    map[string]uint64 `json:"let_go"`          // segments since start, by why
	Oldest   time.Time         `json:"oldest,omitzero"` // receipt of what is held
	Undated  int               `json:"undated"`         // segments of which it is not known
	Freed    uint64            `json:"freed"`           // bytes given back since start
	Moved    uint64            `json:"moved"`           // bytes copied for that
	Waits    []waitStatus      `json:"waits,omitempty"` // of each required collector
}

// waitStatus is what a required collector has not said to have.
type waitStatus struct {
	Collector string    `json:"collector"`
	Name      string    `json:"name"`
	Chains    int       `json:"chains"`
	Segments  int       `json:"segments"`
	Oldest    time.Time `json:"oldest,omitzero"` // receipt of the first of them
}

func (p *program) status() status {
	f := p.members.get()
	s := status{ID: p.key.ID().String(), Fleet: f.State().Name, Roles: p.roles, Version: version,
		Addrs: p.node.Addrs(), Peers: p.node.Peers(), Hubs: len(f.Hubs())}
	network := networkOf(p.node.NetReport(), f)
	s.Network = &network
	p.fleetStatus(&s)
	s.Config = p.configStatus()
	s.Machine = seen(&p.cfg)
	if p.agent != nil {
		a := p.agent.Status()
		s.Device, s.Buses = &a, busesOf(p.board)
	}
	if p.rules != nil {
		s.Rules = p.rules.Status()
	}
	if p.store != nil {
		s.Store = storeStatusOf(p.store, f)
	}
	if p.repair != nil {
		s.Repair = repairStatusOf(p.repair.Stats(), f)
	}
	if u := p.updater.Load(); u != nil {
		update := u.Status()
		s.Update = &update
	}
	return s
}

// print shows the status to a person.
func (s status) print(out io.Writer) {
	if s.Enrolment != nil {
		s.printEnrolment(out)
		s.printFleet(out)
		printMachine(out, s.Machine)
		return
	}
	fmt.Fprintf(out, "%s  fleet %s  roles %v  version %s\n", s.ID, s.Fleet, s.Roles, s.Version)
	fmt.Fprintf(out, "network: %d connected, %d hubs enrolled, reachable at %v\n", len(s.Peers), s.Hubs, s.Addrs)
	if s.Network != nil {
		s.Network.brief(out)
	}
	s.printFleet(out)
	printMachine(out, s.Machine)
	printConfig(out, s.Config)
	if s.Update != nil {
		writeUpdate(out, *s.Update)
	}
	if s.Device != nil {
		printDevice(out, s.Device)
		printBuses(out, s.Buses)
		printRules(out, s.Rules)
	}
	if s.Store != nil {
		printStore(out, s.Store)
	}
	if s.Repair != nil {
		printRepair(out, s.Repair)
	}
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(100*time.Millisecond).String() + " ago"
}

func printStore(out io.Writer, s *storeStatus) {
	fmt.Fprintf(out, "store: %d segments of %d chains, %s of %s, fsync %s\n", s.Segments, s.Chains, bytesText(s.Bytes), bytesText(s.Quota), s.MeanSync.Round(10*time.Microsecond))
	if held := s.retention(); held != "" {
		fmt.Fprintln(out, "store:", held)
	}
	for _, w := range s.Waits {
		if w.Segments > 0 {
			fmt.Fprintf(out, "store: collector %s holds back %d segments of %d chains, the first received %s\n", w.Name, w.Segments, w.Chains, receivedText(w.Oldest))
		}
	}
	if s.Revoked > 0 {
		fmt.Fprintf(out, "store: %d segments count no more: a revocation took them from their chains\n", s.Revoked)
	}
	reasons := make([]string, 0, len(s.Refused))
	for reason, n := range s.Refused {
		reasons = append(reasons, fmt.Sprintf("refused: %d × %s", n, reason))
	}
	slices.Sort(reasons)
	for _, line := range reasons {
		fmt.Fprintln(out, line)
	}
	if s.Forks > 0 || s.Damaged > 0 {
		fmt.Fprintf(out, "ALARM: %d forked chains (a cloned device?), %d damaged segments\n", s.Forks, s.Damaged)
	}
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
