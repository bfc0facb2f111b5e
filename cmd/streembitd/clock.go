// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync/atomic"
	"time"
)

// wallClock is the machine's clock as far as it may be believed: only while synced says so. Nothing of it is kept over a restart, so
// that a wrong time that somebody tells this machine is over when the right one comes.
type wallClock struct {
	now    func() time.Time
	synced func() bool
	ever   atomic.Bool // since the start
}

// read returns the time; ok is false when nobody vouches for it.
func (c *wallClock) read() (now time.Time, ok bool) {
	if !c.synced() {
		return time.Time{}, false
	}
	c.ever.Store(true)
	return c.now(), true
}

// since returns the time, and the floor if the clock is not to be believed or runs behind it.
func (c *wallClock) since(floor time.Time) time.Time {
	if now, ok := c.read(); ok && now.After(floor) {
		return now
	}
	return floor
}

// timeStatus says by which time expiry is judged.
type timeStatus struct {
	Synced bool      `json:"synced"`
	Ever   bool      `json:"synced_since_start"`
	Floor  time.Time `json:"floor,omitzero"` // signed by an owner; nothing else moves it
}

func (c *wallClock) status(floor time.Time) timeStatus {
	_, ok := c.read()
	return timeStatus{Synced: ok, Ever: c.ever.Load(), Floor: floor.UTC()}
}

func (t timeStatus) String() string {
	text := "unsynced since boot"
	switch {
	case t.Synced:
		text = "synced"
	case t.Ever:
		text = "unsynced now"
	}
	if !t.Floor.IsZero() {
		text += ", not before " + t.Floor.Format(time.DateTime) + " UTC as the owner signed"
	}
	if !t.Synced {
		text += "; grants expire by that time alone"
	}
	return text
}
