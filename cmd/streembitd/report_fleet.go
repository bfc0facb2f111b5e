// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// enrolStatus is how far a device without a fleet is.
type enrolStatus struct {
	MDNS  bool              `json:"mdns"`
	Token *tokenStatus      `json:"token,omitempty"`
	Fault string            `json:"fault,omitempty"` // why a token file cannot be used
	Hubs  map[string]string `json:"hubs"`            // how each answered
}

type tokenStatus struct {
	File    string    `json:"file"`
	Fleet   string    `json:"fleet"`
	Expires time.Time `json:"expires"`
	Expired bool      `json:"expired"` // by a clock that is right
}

// queueStatus is a hub's part in the enrolment of others.
type queueStatus struct {
	Claims int `json:"claims"` // that wait for an operator or for another hub's policy
}

// unclaimedStatus is the status of a device that waits for a fleet. The code's secret is not in it.
func (p *program) unclaimedStatus(n *newcomer) status {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := &enrolStatus{MDNS: p.cfg.MDNS, Fault: n.fault, Hubs: map[string]string{}}
	if n.token != nil {
		e.Token = &tokenStatus{File: n.path, Fleet: n.token.Fleet.String(), Expires: n.token.Expires, Expired: n.tokenExpired()}
	}
	for id, a := range n.hubs {
		e.Hubs[id.String()] = a.answer
	}
	return status{ID: p.key.ID().String(), Roles: []string{}, Version: version, Addrs: n.node.Addrs(), Standing: "unclaimed",
		Time: p.clock.status(time.Time{}), Alarms: p.alarms.list(), Enrolment: e, Machine: seen(&p.cfg)}
}

// printFleet shows who this member is to the fleet.
func (s status) printFleet(out io.Writer) {
	if s.Standing != standingMember && s.Enrolment == nil {
		fmt.Fprintf(out, "STANDING: %s: nothing is published and nobody serves it; the outbox is kept; ask an operator, or streembitd reset --i-am-here\n", s.Standing)
		if s.HubsSay != "" {
			fmt.Fprintf(out, "%s\n", s.HubsSay)
		}
	}
	fmt.Fprintf(out, "time: %s\n", s.Time)
	if s.Queue != nil && s.Queue.Claims > 0 {
		fmt.Fprintf(out, "enrolment: %d claims wait: streembit enroll list\n", s.Queue.Claims)
	}
	for _, a := range s.Alarms {
		fmt.Fprintf(out, "ALARM: %s, %s, %d times: %s\n", a.Kind, ago(a.Last), a.Count, a.Text)
	}
}

// printEnrolment shows how a device without a fleet gets on.
func (s status) printEnrolment(out io.Writer) {
	fmt.Fprintf(out, "%s  belongs to no fleet  version %s\n", s.ID, s.Version)
	fmt.Fprintf(out, "waits at %v, announced on the LAN: %t; streembitd id shows the code for streembit enroll approve\n", s.Addrs, s.Enrolment.MDNS)
	if t := s.Enrolment.Token; t != nil {
		state := "until"
		if t.Expired {
			state = "EXPIRED since"
		}
		fmt.Fprintf(out, "claim token %s of fleet %s, %s %s\n", t.File, t.Fleet, state, t.Expires.UTC().Format(time.DateTime))
	}
	if s.Enrolment.Fault != "" {
		fmt.Fprintf(out, "claim token not used: %s\n", s.Enrolment.Fault)
	}
	var hubs []string
	for id, answer := range s.Enrolment.Hubs {
		hubs = append(hubs, fmt.Sprintf("hub …%s: %s", id[max(0, len(id)-8):], strings.Map(printableOnly, answer)))
	}
	slices.Sort(hubs)
	for _, line := range hubs {
		fmt.Fprintln(out, line)
	}
}

// printableOnly keeps what a hub wrote from moving a terminal's cursor.
func printableOnly(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return '?'
	}
	return r
}

// fleetStatus adds what concerns the fleet.
func (p *program) fleetStatus(s *status) {
	f := p.members.get()
	s.FleetID, s.FleetVersion, s.Members = f.ID().String(), f.State().Version, len(f.Members())
	s.Standing, s.Time, s.Alarms = p.members.standing(), p.clock.status(f.Floor()), p.alarms.list()
	said, text := p.said.say()
	if s.HubsSay = text; s.Standing == standingMember && said != "" {
		s.Standing = said
	}
	if p.desk != nil {
		waiting, _ := p.desk.Claims(p.key.ID())
		s.Queue = &queueStatus{Claims: len(waiting)}
	}
}
