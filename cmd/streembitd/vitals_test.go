// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/agent"
)

// TestVitals_FollowTheWork feeds the watchdog while any sensor's schedule goes on, also that of one that fails, and not when all stand still.
func TestVitals_FollowTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &program{cfg: config{Sensors: []sensorConfig{{Name: "fast", Interval: duration(time.Second)}, {Name: "slow", Interval: duration(time.Hour)}}}}
		v := newVitals(p)
		var fast agent.Health
		ticking := func() bool {
			fast.Sensor = "fast"
			return v.ticking(agent.Status{Sensors: []agent.Health{fast, {Sensor: "slow"}}})
		}
		for range 300 {
			time.Sleep(time.Second)
			if fast.Reads++; !ticking() {
				t.Fatal("it stands still while a sensor is read")
			}
		}
		for range 300 {
			time.Sleep(time.Second)
			if fast.Errors++; !ticking() {
				t.Fatal("it stands still while a sensor fails")
			}
		}
		time.Sleep(30 * time.Second)
		if !ticking() {
			t.Error("it stands still after half a minute already")
		}
		time.Sleep(45 * time.Second)
		if ticking() {
			t.Error("nothing was read for 75 s, and the watchdog is fed")
		}
		if !v.ticking(agent.Status{}) {
			t.Error("a device without sensors stands still")
		}
	})
}

// TestBaseline_Delivers wants a sensor that misses a reading to deliver all the same, and one that went silent not.
func TestBaseline_Delivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &program{cfg: config{Sensors: []sensorConfig{{Name: "s", Interval: duration(10 * time.Second)}}}}
		if p.delivers(agent.Health{Sensor: "s"}) {
			t.Error("it delivers before its first reading")
		}
		h := agent.Health{Sensor: "s", LastOK: time.Now(), Error: "one failed read"}
		time.Sleep(time.Minute)
		if !p.delivers(h) {
			t.Error("one failure, and it does not deliver")
		}
		time.Sleep(time.Minute)
		if p.delivers(h) {
			t.Error("it delivers, two minutes after its last reading")
		}
	})
}
