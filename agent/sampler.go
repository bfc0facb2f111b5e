// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
)

// Sensor is one powered-up sensor, as package sensors defines it. The agent never calls it concurrently.
type Sensor interface {
	// Read takes one measurement: samples or an error, never both.
	Read(ctx context.Context) ([]edge.Sample, error)
	Close() error
}

// Probe is a configured sensor that may not be there yet.
type Probe struct {
	Name   string        // instance, for example "bme280-0"
	Driver string        // for status
	Stream string        // which stream its readings go to
	Every  time.Duration // sampling interval
	Open   func(ctx context.Context) (Sensor, error)
	CanSet func(edge.Quantity) bool // what Agent.Set may tell it, as sensors.Driver.CanSet; nil = it is no Actuator
}

const (
	// A sensor that cannot be opened, or was closed because it failed, is left alone for a pause that doubles from minPause
	// to maxPause, plus up to a quarter at random: 1 s to 5 min.
	minPause = time.Second
	maxPause = 4 * time.Minute
	// failuresToClose is after how many failed reads in a row a sensor is closed; so many good ones make the next pause short again.
	failuresToClose = 3
	// callLimit bounds one call of a sensor; the slowest chip (SCD4x, one shot) takes 5 s.
	callLimit = 15 * time.Second
	// hangGrace is how much longer than its context a call may take before it counts as hung.
	hangGrace = 5 * time.Second
)

// errHung is of a call that ignored the end of its context, as one that waits in the kernel does. It is counted when it is noticed.
var errHung = fmt.Errorf("the call does not return: %w", hal.ErrTimeout)

// sampler owns one probe: its goroutine, run, alone calls the sensor. What it reads it hands to emit.
type sampler struct {
	probe  Probe
	emit   func(samples []edge.Sample) edge.Instant // tells when it was
	logger *slog.Logger
	notice func(Notice)
	asks   chan request
	wake   chan struct{} // holds one token after the schedule has changed
	ended  chan struct{} // closed when run has returned

	mu      sync.Mutex
	health  Health
	plan    schedule // begins when the sensor is opened for the first time
	reading bool
	late    lateness
	latest  []edge.Sample // of the last good read …
	at      edge.Instant  // … which was then
	since   time.Time     // when the present fault began
}

func newSampler(p Probe, emit func([]edge.Sample) edge.Instant, l *slog.Logger) *sampler {
	return &sampler{probe: p, emit: emit, notice: func(Notice) {}, logger: l.With("sensor", p.Name, "driver", p.Driver),
		asks: make(chan request), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		health: Health{Sensor: p.Name, Driver: p.Driver, Stream: p.Stream, Faults: map[string]uint64{}}}
}

// run samples until ctx ends. A sensor that is missing, broken or hung never stops anything else.
func (s *sampler) run(ctx context.Context) {
	defer close(s.ended)
	pause := minPause
	for ctx.Err() == nil {
		sensor, err := s.open(ctx)
		switch {
		case err == nil:
			if s.sample(ctx, sensor) {
				pause = minPause
			}
			s.close(sensor)
		case ctx.Err() == nil:
			s.failed(err)
		}
		if !s.quarantine(ctx, pause+rand.N(pause/4)) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

func (s *sampler) open(ctx context.Context) (sensor Sensor, err error) {
	err = s.call(ctx, "opening", func(ctx context.Context) (err error) {
		sensor, err = s.probe.Open(ctx)
		return err
	})
	if errors.Is(err, errHung) && sensor != nil { // it came too late
		s.close(sensor)
	}
	return sensor, err
}

// sample reads at every tick until the sensor has to be closed; it reports whether it worked for a while.
func (s *sampler) sample(ctx context.Context, sensor Sensor) (worked bool) {
	s.resume()
	for good, failures := 0, 0; failures < failuresToClose; {
		if !s.wait(ctx, sensor) {
			return worked
		}
		s.began()
		samples, err := s.read(ctx, sensor)
		switch {
		case err == nil:
			good, failures = good+1, 0
			worked = worked || good >= failuresToClose
			s.succeeded()
			s.keep(s.emit(samples), samples)
		case ctx.Err() != nil:
			return worked
		default:
			good, failures = 0, failures+1
			s.failed(err)
		}
		s.missed()
		if lostPower(err) {
			return worked
		}
	}
	return worked
}

// lostPower reports whether a chip that answers again may have forgotten how it was set up, so that no further read can be trusted.
func lostPower(err error) bool {
	return errors.Is(err, hal.ErrAbsent) || errors.Is(err, hal.ErrGone) || errors.Is(err, errHung)
}

// read takes one measurement.
func (s *sampler) read(ctx context.Context, sensor Sensor) (samples []edge.Sample, err error) {
	err = s.call(ctx, "reading", func(ctx context.Context) (err error) {
		samples, err = sensor.Read(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return samples, s.validate(samples)
}

// validate judges what a driver gave. One bad value would spoil the pack that it travels in.
func (s *sampler) validate(samples []edge.Sample) error {
	if len(samples) == 0 {
		return fmt.Errorf("agent: reading %s: the driver %s returned neither samples nor an error", s.probe.Name, s.probe.Driver)
	}
	for _, v := range samples {
		if err := (edge.Reading{Sensor: s.probe.Name, Sample: v}).Validate(); err != nil {
			return fmt.Errorf("agent: reading %s: %w", s.probe.Name, err)
		}
	}
	return nil
}

// call bounds one call of the sensor by its context. One that goes on regardless is counted and logged while it hangs, because nobody
// knows whether it will ever return; its result is not used then.
func (s *sampler) call(ctx context.Context, doing string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	hung := fmt.Errorf("agent: %s %s: %w", doing, s.probe.Name, errHung)
	watch := time.AfterFunc(callLimit+hangGrace, func() { s.count(hung) })
	err := f(ctx)
	if !watch.Stop() {
		return hung
	}
	return err
}

// close leaves the chip in its lowest-power state. Of a sensor that fails already nothing else is expected than that this fails too.
func (s *sampler) close(sensor Sensor) {
	err := s.call(context.Background(), "closing", func(context.Context) error { return sensor.Close() })
	s.setClosed()
	if err != nil && s.state().Error == "" {
		s.logger.Warn("sensor not closed in order, the chip may be left switched on", "err", err)
	}
}

// wait waits for the next tick and does meanwhile what Agent.Set and Agent.Read want; false = the sensor has to be closed.
func (s *sampler) wait(ctx context.Context, sensor Sensor) bool {
	tick := time.NewTimer(time.Until(s.due()))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			return true
		case <-s.wake:
			tick.Reset(time.Until(s.due()))
		case r := <-s.asks:
			err := s.tell(ctx, sensor, r)
			r.done <- err
			if errors.Is(err, errHung) {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

// quarantine leaves the sensor alone for d; false = ctx has ended.
func (s *sampler) quarantine(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	until := time.Now().Add(d)
	s.setQuarantine(until)
	defer s.setQuarantine(time.Time{})
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return true
		case r := <-s.asks:
			r.done <- fmt.Errorf("agent: %s %s: %w until %s: %s", r.doing, s.probe.Name, ErrQuarantined, until.Format(time.TimeOnly), s.state().Error)
		case <-ctx.Done():
			return false
		}
	}
}
