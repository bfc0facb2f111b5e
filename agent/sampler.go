// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/streembit/edge"
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
}

// A sensor that cannot be opened is tried again after a pause that doubles up to maxReopen; after failures in a row it is
// closed and opened anew.
const (
	minReopen      = time.Second
	maxReopen      = 5 * time.Minute
	failuresToOpen = 3
)

// Health is what is known of one sensor. Reads and Errors count since the start; an attempt to open counts as an error
// when it fails.
type Health struct {
	Sensor string    `json:"sensor"`
	Driver string    `json:"driver"`
	Stream string    `json:"stream"`
	Open   bool      `json:"open"`
	Reads  uint64    `json:"reads"`
	Errors uint64    `json:"errors"`
	LastOK time.Time `json:"last_ok,omitzero"`
	Error  string    `json:"error,omitempty"` // of the last failure, empty once it works again
}

// sampler runs one probe on its own ticker and hands every measurement to emit.
type sampler struct {
	probe Probe
	emit  func(samples []edge.Sample)
	event func(h Health, err error) // told when the sensor's state changes

	mu     sync.Mutex
	health Health
}

func newSampler(p Probe, emit func([]edge.Sample), event func(Health, error)) *sampler {
	return &sampler{probe: p, emit: emit, event: event, health: Health{Sensor: p.Name, Driver: p.Driver, Stream: p.Stream}}
}

// run samples until ctx ends. A sensor that is missing or broken never stops anything else.
func (s *sampler) run(ctx context.Context) {
	pause := minReopen
	for ctx.Err() == nil {
		sensor, err := s.probe.Open(ctx)
		if err != nil {
			s.failed(err)
		} else {
			s.setOpen(true)
			if s.sample(ctx, sensor) {
				pause = minReopen
			}
			err := sensor.Close()
			s.setOpen(false)
			if err != nil && ctx.Err() == nil {
				s.failed(fmt.Errorf("agent: closing %s: %w", s.probe.Name, err))
			}
		}
		if !sleep(ctx, pause+rand.N(pause/4)) {
			return
		}
		pause = min(2*pause, maxReopen)
	}
}

// sample reads on every tick until the sensor has failed several times in a row; it reports whether any read succeeded.
func (s *sampler) sample(ctx context.Context, sensor Sensor) (worked bool) {
	tick := time.NewTicker(s.probe.Every)
	defer tick.Stop()
	for failures := 0; failures < failuresToOpen; {
		samples, err := s.read(ctx, sensor)
		switch {
		case ctx.Err() != nil:
			return worked
		case err != nil:
			failures++
			s.failed(err)
		default:
			failures, worked = 0, true
			s.succeeded()
			s.emit(samples)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return worked
		}
	}
	return worked
}

// read bounds one measurement: a stuck bus must not hold the sampler for ever.
func (s *sampler) read(ctx context.Context, sensor Sensor) ([]edge.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, max(s.probe.Every, 5*time.Second))
	defer cancel()
	samples, err := sensor.Read(ctx)
	if err == nil && len(samples) == 0 {
		err = fmt.Errorf("agent: reading %s: the driver %s returned neither samples nor an error", s.probe.Name, s.probe.Driver)
	}
	if err != nil {
		return nil, err
	}
	for _, v := range samples { // one bad value would spoil the pack that it travels in
		if err := (edge.Reading{Sensor: s.probe.Name, Sample: v}).Validate(); err != nil {
			return nil, fmt.Errorf("agent: reading %s: %w", s.probe.Name, err)
		}
	}
	return samples, nil
}

func (s *sampler) setOpen(open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.Open = open
}

func (s *sampler) succeeded() {
	s.mu.Lock()
	s.health.Reads++
	s.health.LastOK = time.Now()
	recovered := s.health.Error != ""
	s.health.Error = ""
	h := s.health
	s.mu.Unlock()
	if recovered {
		s.event(h, nil)
	}
}

// failed counts a failure and tells of it once, until the message changes or the sensor works again.
func (s *sampler) failed(err error) {
	s.mu.Lock()
	s.health.Errors++
	changed := s.health.Error != err.Error()
	s.health.Error = err.Error()
	h := s.health
	s.mu.Unlock()
	if changed {
		s.event(h, err)
	}
}

func (s *sampler) state() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
