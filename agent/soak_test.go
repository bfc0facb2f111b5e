// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/ads1x15"
	"github.com/streembit/edge/sensors/bme280"
	"github.com/streembit/edge/sensors/bmp280"
	"github.com/streembit/edge/sensors/gpio"
	"github.com/streembit/edge/sensors/ina219"
	"github.com/streembit/edge/sensors/lm75"
	"github.com/streembit/edge/sensors/mcp9808"
)

// soaked is a sensor of the soak test. Those without an address are on lines of their own, where nothing fails.
type soaked struct {
	name   string
	driver sensors.Driver
	at     hal.Request
	every  time.Duration
}

var soak = []soaked{
	{"bme280", bme280.Driver, hal.Request{Addr: sim.BME280Address}, 20 * time.Second},
	{"bmp280", bmp280.Driver, hal.Request{Addr: sim.BMP280Address}, 30 * time.Second},
	{"lm75", lm75.LM75, hal.Request{Addr: sim.LM75Address}, 15 * time.Second},
	{"mcp9808", mcp9808.Driver, hal.Request{Addr: sim.MCP9808Address}, 25 * time.Second},
	{"ina219", ina219.Driver, hal.Request{Addr: sim.INA219Address}, 20 * time.Second},
	{"ads1115", ads1x15.ADS1115, hal.Request{Addr: sim.ADS1115Address}, 30 * time.Second},
	{"door", gpio.Input, hal.Request{Pin: sim.DoorPin}, 10 * time.Second},
	{"meter", gpio.Pulses, hal.Request{Pin: sim.MeterPin}, 30 * time.Second},
}

// watched notes when the reads of a sensor begin, how many fail, and how many samples the others give.
type watched struct {
	agent.Sensor
	began   *[]time.Time
	failed  *uint64
	samples *int
}

func (w watched) Read(ctx context.Context) ([]edge.Sample, error) {
	*w.began = append(*w.began, time.Now())
	samples, err := w.Sensor.Read(ctx)
	if err != nil {
		*w.failed++
	}
	*w.samples += len(samples)
	return samples, err
}

func (s soaked) probe(b *hal.Board, w watched) agent.Probe {
	return agent.Probe{Name: s.name, Driver: s.driver.Name, Stream: "main", Every: s.every,
		Open: func(ctx context.Context) (agent.Sensor, error) {
			var err error
			if w.Sensor, err = s.driver.Connect(ctx, b, s.at, nil); err != nil {
				return nil, err
			}
			return w, nil
		}}
}

// report is a line of the log about a sensor.
type report struct {
	at    time.Time
	fails bool
}

// reports reads the log: for each sensor when it was told to fail and to work again.
func (w *world) reports() map[string][]report {
	line := regexp.MustCompile(`^time=(\S+) level=\w+ msg="sensor (fails|works again)[^"]*" sensor=(\S+)`)
	out := map[string][]report{}
	for _, text := range w.logs {
		if m := line.FindStringSubmatch(text); m != nil {
			at, err := time.Parse(time.RFC3339, m[1])
			check(w.t, err)
			out[m[3]] = append(out[m[3]], report{at, m[2] == "fails"})
		}
	}
	return out
}

// TestSoak lets six chips on one bus fail at random for a day: some 30 faults each, from a missing acknowledge to the whole adapter unplugged.
func TestSoak(t *testing.T) {
	const length = 24*time.Hour + 7*time.Second // no read is under way at the end
	faults := sim.Faults{Seed: 20, PerHour: 1.2, Unplugs: 0.2, Longest: 3 * time.Minute}
	dir := t.TempDir()
	wall := time.Now()
	synctest.Test(t, func(t *testing.T) {
		sw := sim.NewWorld(sim.Config{Seed: 20, Faults: faults})
		defer sw.Board.Close()
		var probes []agent.Probe
		var reads []watched
		for _, s := range soak {
			w := watched{began: new([]time.Time), failed: new(uint64), samples: new(int)}
			reads = append(reads, w)
			probes = append(probes, s.probe(sw.Board, w))
		}
		w := newWorld(t, dir, probes, agent.Stream{Name: "main", Age: time.Hour, Readings: 8000})
		begin := time.Now()
		grown := make(chan int)
		go func() {
			time.Sleep(10 * time.Minute)
			early := runtime.NumGoroutine()
			time.Sleep(length - 20*time.Minute)
			grown <- runtime.NumGoroutine() - early
		}()
		w.run(length, func(a *agent.Agent) {
			s := a.Status()
			for i, h := range s.Sensors {
				soak[i].check(t, h, reads[i])
			}
			if lost := s.Streams[0].Lost; lost != 0 {
				t.Errorf("%d readings lost after they were taken", lost)
			}
		})
		if n := <-grown; n > 5 { // a few transactions may be under way at one of the two times
			t.Errorf("%d goroutines more at the end", n)
		}
		readings, _ := w.pulled(w.reader)
		taken := 0
		for _, r := range reads {
			taken += *r.samples
		}
		if len(readings)+w.left != taken {
			t.Errorf("%d readings published and %d sealed of %d that were taken", len(readings), w.left, taken)
		}
		reports := w.reports()
		for _, s := range soak {
			checkReports(t, s, faults, begin, begin.Add(length), reports[s.name])
		}
	})
	t.Logf("24 h in %s", time.Since(wall).Round(time.Millisecond))
}

// check wants every tick accounted for and every read to begin on one; where nothing fails, every single one is read.
func (s soaked) check(t *testing.T, h agent.Health, w watched) {
	t.Helper()
	first := (*w.began)[0]
	ticks := uint64(time.Since(first)/s.every) + 1
	for i, at := range *w.began {
		if at.Sub(first)%s.every != 0 {
			t.Fatalf("%s: read %d began %s after the first", s.name, i, at.Sub(first))
		}
	}
	calls := uint64(len(*w.began))
	if open := h.Open && h.Until.IsZero(); open && calls+h.Missed+h.Paused != ticks || calls != h.Reads+*w.failed {
		t.Errorf("%s: of %d ticks %d were used, %d of these failed: %+v", s.name, ticks, calls, *w.failed, h)
	}
	if h.Jitter.Max != 0 {
		t.Errorf("%s: reads began late: %+v", s.name, h.Jitter)
	}
	switch {
	case s.at.Addr == 0 && (h.Reads != ticks || h.Errors != 0):
		t.Errorf("%s: %d reads and %d errors in %d ticks, and nothing was wrong with it", s.name, h.Reads, h.Errors, ticks)
	case s.at.Addr != 0 && (h.Errors < 10 || h.Reads < ticks*8/10):
		t.Errorf("%s: %d reads and %d errors in %d ticks", s.name, h.Reads, h.Errors, ticks)
	}
	t.Logf("%-8s %d ticks: %d read, %d failed, %d missed, %d paused, %d errors %v", s.name, ticks, h.Reads, *w.failed, h.Missed, h.Paused, h.Errors, h.Faults)
}

// checkReports holds the log against the schedule of faults: each fault that a read must notice is told of once and its end is told of once; none is made
// up.
func checkReports(t *testing.T, s soaked, faults sim.Faults, from, to time.Time, told []report) {
	t.Helper()
	for i, r := range told {
		if r.fails == (i%2 == 1) {
			t.Errorf("%s: told twice, at %s", s.name, r.at)
		}
	}
	events := faults.List(s.at.Addr, from, to)
	if s.at.Addr == 0 {
		events = nil
	} else {
		events = append(events, faults.List(0, from, to)...)
	}
	must := 0
	for _, e := range events {
		if !s.mustNotice(e, from) || e.End.After(to.Add(-10*time.Minute)) {
			continue
		}
		must++
		times := 0
		for _, p := range spans(told, to) {
			if p[0].Before(e.End) && p[1].After(e.Start) {
				times++
			}
		}
		if times != 1 {
			t.Errorf("%s: %s from %s to %s was told %d times", s.name, e.Kind, e.Start, e.End, times)
		}
	}
	for _, p := range spans(told, to) {
		caused := slices.ContainsFunc(events, func(e sim.Event) bool {
			return e.Start.Before(p[0].Add(time.Second)) && e.End.Add(30*time.Second).After(p[0])
		})
		if !caused && !bystander(faults, s, p[0]) {
			t.Errorf("%s: told of a fault at %s, when nothing was wrong", s.name, p[0])
		}
	}
	if s.at.Addr != 0 && must < 10 {
		t.Errorf("%s: only %d faults to notice in a day", s.name, must)
	}
	t.Logf("%-8s %d faults, %d of which must be noticed, told %d times", s.name, len(events), must, len(told))
}

// mustNotice reports whether a read falls into the event and cannot succeed. A flipped bit or a slow chip need not be noticed.
func (s soaked) mustNotice(e sim.Event, from time.Time) bool {
	if e.Kind == sim.Flip || e.Kind == sim.Slow {
		return false
	}
	next := from.Add((e.Start.Sub(from)/s.every + 1) * s.every)
	return next.Add(5 * time.Second).Before(e.End)
}

// bystander reports whether the sensor may have waited for a bus that another chip held.
func bystander(faults sim.Faults, s soaked, at time.Time) bool {
	return s.at.Addr != 0 && slices.ContainsFunc(soak, func(other soaked) bool {
		for back := time.Duration(0); back < 20*time.Second; back += time.Second {
			if e, ok := faults.At(other.at.Addr, at.Add(-back)); ok && (e.Kind == sim.Stuck || e.Kind == sim.Slow) {
				return true
			}
		}
		return false
	})
}

// spans pairs reports; a fault that lasts ends at to.
func spans(told []report, to time.Time) (all [][2]time.Time) {
	for i := 0; i < len(told); i += 2 {
		end := to
		if i+1 < len(told) {
			end = told[i+1].at
		}
		all = append(all, [2]time.Time{told[i].at, end})
	}
	return all
}
