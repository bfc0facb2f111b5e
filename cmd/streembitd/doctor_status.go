// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/streembitd/doctor"
)

// Ages from which on something that waits is worth a word.
const (
	longPending = time.Hour
	oldState    = 180 * 24 * time.Hour
)

// examine finds what is wrong in what the running program says of itself.
func (s status) examine(now time.Time) []doctor.Finding {
	all := []doctor.Finding{{Check: "service", Level: doctor.OK, What: "streembitd " + s.Version + " runs"}}
	all = append(all, s.examineFleet(now)...)
	if s.Network != nil {
		all = append(all, s.examineNetwork()...)
	}
	if s.Device != nil {
		all = append(all, examineSensors(s.Device.Sensors)...)
		all = append(all, examineOutbox(s.Device)...)
	}
	if s.Store != nil {
		all = append(all, s.Store.examine()...)
	}
	for _, a := range s.Alarms {
		all = append(all, doctor.Finding{Check: "alarm", Level: doctor.Fault, What: fmt.Sprintf("%s, %d times: %s", a.Kind, a.Count, a.Text), Fix: "streembitd audit --event alarm; docs/operations.md"})
	}
	return all
}

func (s status) examineFleet(now time.Time) []doctor.Finding {
	if e := s.Enrolment; e != nil {
		f := doctor.Finding{Check: "fleet", Level: doctor.Warning, What: "this device belongs to no fleet yet", Fix: "streembitd id --qr, then on an operator's machine: streembit enroll approve CODE"}
		switch {
		case e.Fault != "":
			f.Level, f.What, f.Fix = doctor.Fault, "the claim token cannot be used: "+e.Fault, "streembit enroll token --out enroll.toml, and copy it to the boot partition again"
		case e.Token != nil && e.Token.Expired:
			f.Level, f.What, f.Fix = doctor.Fault, "the claim token has ended", "streembit enroll token --out enroll.toml, and copy it to the boot partition again"
		case e.Token != nil:
			f.What, f.Fix = "it claims membership by a token, and nobody has granted it yet", "on an operator's machine: streembit enroll grant --all"
		}
		return []doctor.Finding{f}
	}
	if s.Standing != standingMember {
		return []doctor.Finding{{Check: "fleet", Level: doctor.Fault, What: fmt.Sprintf("the fleet does not take it: %s. %s", s.Standing, s.HubsSay),
			Fix: "on the owner's machine: streembit fleet show; to give it to another fleet: streembitd reset --i-am-here"}}
	}
	age := now.Sub(s.Time.Floor)
	text := fmt.Sprintf("member of %s, state %d of %s", s.Fleet, s.FleetVersion, s.Time.Floor.Format(time.DateOnly))
	switch {
	case age < -time.Hour:
		return []doctor.Finding{{Check: "clock", Level: doctor.Fault, What: fmt.Sprintf("the clock is %s behind the time that the owner has signed", (-age).Round(time.Second)),
			Fix: "timedatectl set-ntp true, or date --set"}}
	case age > oldState:
		return []doctor.Finding{{Check: "fleet", Level: doctor.Note, What: fmt.Sprintf("%s: the owner has signed nothing newer for %d days", text, int(age.Hours()/24)), Fix: ""}}
	}
	return []doctor.Finding{{Check: "fleet", Level: doctor.OK, What: text}}
}

func (s status) examineNetwork() []doctor.Finding {
	n, others := s.Network, s.Hubs
	if n.Serves {
		others--
	}
	fix := "streembitd net check"
	if len(n.Try) > 0 {
		fix = n.Try[0]
	}
	var all []doctor.Finding
	switch {
	case others > 0 && len(n.Hubs) == 0:
		all = append(all, doctor.Finding{Check: "hubs", Level: doctor.Fault, What: fmt.Sprintf("none of %d hubs is connected: nothing is published", others), Fix: fix})
	case others == 0 && !n.Serves:
		all = append(all, doctor.Finding{Check: "hubs", Level: doctor.Fault, What: "the fleet has no hub: nothing is published", Fix: fix})
	case s.Hubs < 3:
		all = append(all, doctor.Finding{Check: "hubs", Level: doctor.Warning, What: fmt.Sprintf("the fleet has %d hubs: with fewer than three no reading survives the loss of one for sure", s.Hubs),
			Fix: "streembit fleet grant ID --role hub --name NAME --addr ADDR"})
	default:
		all = append(all, doctor.Finding{Check: "hubs", Level: doctor.OK, What: fmt.Sprintf("%d of %d connected", len(n.Hubs), others)})
	}
	for _, line := range n.Means {
		all = append(all, doctor.Finding{Check: "network", Level: doctor.Note, What: line})
	}
	return all
}

func examineSensors(sensors []agent.Health) (all []doctor.Finding) {
	fixes := map[string]string{
		"absent":  "check wiring, supply and addr; streembitd sensors scan shows what answers",
		"timeout": "a chip holds the bus: take its supply away, and check the pull-ups",
		"gone":    "plug the adapter in again; a supply that is too weak makes USB devices vanish",
		"crc":     "a shorter cable, stronger pull-ups, a slower bus",
		"config":  "streembitd sensors scan shows the buses and lines that there are",
	}
	for _, h := range sensors {
		if h.Error == "" {
			continue
		}
		fix := fixes[h.Fault]
		if fix == "" {
			fix = "streembitd sensors read " + h.Sensor
		}
		all = append(all, doctor.Finding{Check: "chips", Level: doctor.Fault, What: fmt.Sprintf("%s (%s): %s; the last value came %s", h.Sensor, h.Driver, h.Error, ago(h.LastOK)), Fix: fix})
	}
	if len(all) == 0 && len(sensors) > 0 {
		return []doctor.Finding{{Check: "chips", Level: doctor.OK, What: fmt.Sprintf("all %d sensors give values", len(sensors))}}
	}
	return all
}

func examineOutbox(d *agent.Status) (all []doctor.Finding) {
	o := d.Outbox
	add := func(l doctor.Level, fix, format string, args ...any) {
		all = append(all, doctor.Finding{Check: "outbox", Level: l, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	if o.Error != "" {
		add(doctor.Fault, "df -h, journalctl -k; then a new card", "it cannot write: %s", o.Error)
	}
	if o.GivenUp > 0 {
		add(doctor.Fault, "mend the uplink (streembitd net check), or a larger [outbox] quota", "%d segments with %d readings were given up unpublished, because the quota is spent", o.GivenUp, o.LostReadings)
	}
	if o.Quota > 0 && o.Bytes > o.Quota/10*8 {
		add(doctor.Warning, "mend the uplink (streembitd net check), or a larger [outbox] quota", "%s of %s are used; beyond that the oldest readings go", bytesText(o.Bytes), bytesText(o.Quota))
	}
	for _, st := range d.Streams {
		if w := st.OldestPending; w != nil && w.Age != nil && time.Duration(*w.Age)*time.Millisecond > longPending {
			add(doctor.Warning, "streembitd net check; streembitd status names hubs that refuse", "stream %s: %d segments wait, the oldest for %s", st.Stream, st.Pending.Segments,
				(time.Duration(*w.Age) * time.Millisecond).Round(time.Minute))
		}
		if st.Error != "" {
			add(doctor.Fault, "df -h, journalctl -k; then a new card", "stream %s: readings are not safe: %s", st.Stream, st.Error)
		}
	}
	if len(all) == 0 {
		add(doctor.OK, "", "%d segments wait", o.Pending)
	}
	return all
}

func (s *storeStatus) examine() []doctor.Finding {
	if s.Quota > 0 && s.Bytes > s.Quota/10*9 {
		return []doctor.Finding{{Check: "store", Level: doctor.Warning, What: fmt.Sprintf("%s of %s are used: a full hub refuses what devices publish", bytesText(s.Bytes), bytesText(s.Quota)),
			Fix: "a larger [store] quota, or streembit fleet keep"}}
	}
	if s.Damaged > 0 {
		return []doctor.Finding{{Check: "store", Level: doctor.Fault, What: fmt.Sprintf("%d segments are damaged on this disk; other hubs fill them in", s.Damaged), Fix: "journalctl -k; then a new disk"}}
	}
	return []doctor.Finding{{Check: "store", Level: doctor.OK, What: fmt.Sprintf("%s of %s", bytesText(s.Bytes), bytesText(s.Quota))}}
}
