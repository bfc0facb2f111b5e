// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
	"github.com/streembit/edge/systemd"
)

// What the program is at, for who watches it.
const (
	opening   int32 = iota // nothing is promised: who watches has a limit of its own for that
	unclaimed              // waits to be taken into a fleet
	atWork
)

// Times of the vitals.
const (
	beatEvery  = 5 * time.Second  // at most
	stillLimit = time.Minute      // for which no sensor's schedule may go on, beyond the shortest interval
	fresh      = time.Minute      // for which a sensor that delivered counts as delivering, beyond three intervals
	recent     = 10 * time.Minute // for which a hub that took a segment counts as reachable
	// patience is how long a trial waits for what it compares: a sensor that is read less often, or batches that are closed less often, tell it nothing.
	patience = 5 * time.Minute
)

// vitals tells the service manager, and during a trial the updater, that the program's work goes on. It looks at the work: every look takes the locks
// that the work takes, and the schedules of the sensors must have gone on.
type vitals struct {
	p     *program
	run   string
	phase atomic.Int32
	acked atomic.Pointer[time.Time] // when a hub last took a segment of this run

	beat   uint64
	ticks  uint64 // of all sensors, when they last went on …
	tickAt time.Time
	told   map[string]bool // what failed, so that it is logged once
}

func newVitals(p *program) *vitals { return &vitals{p: p, run: rand.Text(), told: map[string]bool{}} }

func (v *vitals) enter(phase int32) { v.phase.Store(phase) }

// answered notes a hub's answer to a segment.
func (v *vitals) answered(err error) {
	if now := time.Now(); err == nil {
		v.acked.Store(&now)
	}
}

// start begins to tell; stop ends that and says that the program ends in order.
func (v *vitals) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { v.tell(ctx) })
	return func() {
		cancel()
		telling.Wait()
		v.failed("stopping", systemd.Stopping())
	}
}

func (v *vitals) tell(ctx context.Context) {
	watchdog, err := systemd.Watchdog()
	v.failed("watchdog", err)
	every := beatEvery
	if watchdog > 0 {
		every = min(every, watchdog/4)
	}
	tick := time.NewTicker(min(every, time.Second)) // so that it is soon known to be ready
	defer tick.Stop()
	ready, last := false, time.Time{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		phase := v.phase.Load()
		if phase == opening || ready && time.Since(last) < every {
			continue
		}
		h := v.look(phase)
		if !ready {
			v.failed("ready", systemd.Ready())
		}
		if h.Working {
			v.failed("alive", systemd.Alive())
		}
		ready, last = true, time.Now()
		if v.onTrial() {
			v.failed("health", slots.WriteHealth(v.p.cfg.State, h))
		}
	}
}

// look takes stock. It hangs if the program's work does.
func (v *vitals) look(phase int32) slots.Health {
	v.beat++
	h := slots.Health{Run: v.run, Beat: v.beat, Version: ota.Version(strings.TrimPrefix(version, "v")), ID: v.p.key.ID().String(), Working: true, Sensors: []string{}}
	if phase != atWork {
		return h
	}
	v.p.members.get()
	v.p.node.Addrs()
	if v.p.store != nil {
		v.p.store.Stats()
	}
	if v.p.agent == nil {
		return h
	}
	s := v.p.agent.Status()
	h.Working = v.ticking(s)
	h.Hub = v.acked.Load() != nil
	for _, sensor := range s.Sensors {
		if v.p.delivers(sensor) {
			h.Sensors = append(h.Sensors, sensor.Sensor)
		}
	}
	return h
}

// ticking reports whether the schedule of any sensor has gone on lately. One that hangs in the kernel is not the program's fault, all of them are.
func (v *vitals) ticking(s agent.Status) bool {
	if len(s.Sensors) == 0 {
		return true
	}
	var ticks uint64
	shortest := time.Duration(1<<63 - 1)
	for _, sensor := range s.Sensors {
		ticks += sensor.Reads + sensor.Errors + sensor.Missed + sensor.Paused
		shortest = min(shortest, v.p.interval(sensor.Sensor))
	}
	if ticks != v.ticks || v.tickAt.IsZero() {
		v.ticks, v.tickAt = ticks, time.Now()
	}
	return time.Since(v.tickAt) < shortest+stillLimit
}

func (p *program) interval(sensor string) time.Duration {
	for _, s := range p.cfg.Sensors {
		if s.Name == sensor {
			return time.Duration(s.Interval)
		}
	}
	return 0
}

func (p *program) delivers(s agent.Health) bool {
	return !s.LastOK.IsZero() && time.Since(s.LastOK) < 3*p.interval(s.Sensor)+fresh
}

// baseline is what is healthy now, for the updater to compare the next program with. It leaves out what cannot be told within a trial.
func (p *program) baseline() slots.Baseline {
	b := slots.Baseline{ID: p.key.ID().String()}
	if p.agent == nil {
		return b
	}
	for _, s := range p.agent.Status().Sensors {
		if p.delivers(s) && p.interval(s.Sensor) <= patience {
			b.Sensors = append(b.Sensors, s.Sensor)
		}
	}
	at := p.vitals.acked.Load()
	for _, s := range p.cfg.Streams {
		b.Hub = b.Hub || at != nil && time.Since(*at) < recent && time.Duration(s.BatchAge) <= patience
	}
	return b
}

// releases is the folder of the releases, if an updater looks after this program.
func releases() string { return os.Getenv("STREEMBIT_RELEASES") }

// onTrial reports whether an updater waits to hear of this program's health. At other times nothing is written: a card wears out.
func (v *vitals) onTrial() bool {
	root := releases()
	if root == "" {
		return false
	}
	o, err := slots.ReadOutcome(root)
	v.failed("outcome", err)
	return err != nil || o.Stage == ota.Trying
}

// failed logs what cannot be told, once.
func (v *vitals) failed(what string, err error) {
	if err == nil || v.told[what] {
		return
	}
	v.told[what] = true
	v.p.logger.Error("who watches this program cannot be told how it is", "what", what, "err", err)
}
