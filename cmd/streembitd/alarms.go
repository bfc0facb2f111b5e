// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge/transport/p2p"
)

// Kinds of alarms beside those of p2p.
const (
	alarmOwner   = string(p2p.AlarmOwner) // somebody else's fleet was offered to a claimed member
	alarmIgnored = "ignored"              // the fleet logs hold entries that their signers had no right to make
	alarmErase   = "not-erased"           // a secret of the enrolment is still there
	alarmSave    = "not-saved"            // a change of the fleet could not be saved and was not taken
	alarmNextKey = "no-new-key"           // the fleet granted a new key that cannot be taken
	alarmDirect  = "no-commands"          // what the device was told cannot be read
)

// alarm is something that a person must look at.
type alarm struct {
	Kind  string    `json:"kind"`
	About string    `json:"about,omitempty"` // an id as a rule
	Text  string    `json:"text"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Count int       `json:"count"`
}

// maxAlarms is how many different ones are kept; the one that was silent for longest goes.
const maxAlarms = 32

// alarms collects them. Safe for concurrent use. Each kind of thing is logged and audited once.
type alarms struct {
	record *record
	logger *slog.Logger
	told   func(kind, about, text string) // may be nil; must not wait

	mu  sync.Mutex
	all []alarm
}

// raise notes an alarm; those of one kind about one member are one.
func (a *alarms) raise(kind, about, text string) {
	now := time.Now()
	a.mu.Lock()
	at := slices.IndexFunc(a.all, func(o alarm) bool { return o.Kind == kind && o.About == about })
	if at >= 0 {
		a.all[at].Last, a.all[at].Text = now, text
		a.all[at].Count++
		a.mu.Unlock()
		return
	}
	if len(a.all) >= maxAlarms {
		oldest := 0
		for i := range a.all {
			if a.all[i].Last.Before(a.all[oldest].Last) {
				oldest = i
			}
		}
		a.all = slices.Delete(a.all, oldest, oldest+1)
	}
	a.all = append(a.all, alarm{Kind: kind, About: about, Text: text, First: now, Last: now, Count: 1})
	if a.told != nil {
		a.told(kind, about, text)
	}
	a.mu.Unlock()
	a.logger.Error("ALARM", "kind", kind, "about", about, "what", text)
	a.record.decided(evAlarm, about, kind, text)
}

// clear takes back what is over.
func (a *alarms) clear(kind string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = slices.DeleteFunc(a.all, func(o alarm) bool { return o.Kind == kind })
}

// hear has those told that are there, and each one that begins.
func (a *alarms) hear(told func(kind, about, text string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = told
	for _, o := range a.all {
		told(o.Kind, o.About, o.Text)
	}
}

func (a *alarms) list() []alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// network takes the alarms of the transport, which must not wait: the disk is slower than it likes, but alarms are few.
func (a *alarms) network(n p2p.Alarm) {
	switch n.Kind {
	case p2p.AlarmClone:
		a.raise(string(n.Kind), n.Member.String(), fmt.Sprintf("two machines with one key are alive: the one at %s stays, the one at %s was refused: "+
			"if nobody moved the key there, revoke it", n.Addrs[0], n.Addrs[1]))
	case p2p.AlarmFork:
		a.raise(string(n.Kind), n.Member.String(), fmt.Sprintf("from %s: %v", n.Addrs[1], n.Err))
	case p2p.AlarmOwner:
		a.record.refused(evBadOwner, n.Member.String(), n.Addrs[1], n.Err)
		a.raise(alarmOwner, "", fmt.Sprintf("%s at %s: %v", n.Member, n.Addrs[1], n.Err))
	default:
		a.raise(string(n.Kind), n.Member.String(), fmt.Sprintf("at %s: %v", n.Addrs[1], n.Err))
	}
}
