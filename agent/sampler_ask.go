// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/streembit/edge"
)

func (a *Agent) sampler(name, doing string) (*sampler, error) {
	i := slices.IndexFunc(a.samplers, func(s *sampler) bool { return s.probe.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("agent: %s %q: %w", doing, name, ErrNoSensor)
	}
	return a.samplers[i], nil
}

// Read takes one measurement out of turn, between two of the schedule. It is not published. Errors and concurrency as of Set.
func (a *Agent) Read(ctx context.Context, sensor string) (samples []edge.Sample, err error) {
	s, err := a.sampler(sensor, "reading")
	if err != nil {
		return nil, err
	}
	got := make(chan []edge.Sample, 1) // the sensor's goroutine may come when nobody waits any more
	err = s.ask(ctx, "reading", func(ctx context.Context, sensor Sensor) error {
		v, err := sensor.Read(ctx)
		if err == nil {
			err = s.validate(v)
		}
		got <- v
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-got, nil
}

// Latest returns what the sensor gave last and when; none if it has given nothing yet. The caller owns the slice. Safe for concurrent use.
func (a *Agent) Latest(sensor string) ([]edge.Sample, edge.Instant) {
	s, err := a.sampler(sensor, "reading")
	if err != nil {
		return nil, edge.Instant{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.latest), s.at
}

func (s *sampler) keep(at edge.Instant, samples []edge.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest, s.at = samples, at
}

// Interval returns a sensor's sampling interval; 0 = there is no such sensor. Safe for concurrent use.
func (a *Agent) Interval(sensor string) time.Duration {
	s, err := a.sampler(sensor, "looking at")
	if err != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probe.Every
}

// SetInterval changes a sensor's sampling interval: the next reading is one of the new ones from now. It lasts as long as the agent. Safe for concurrent use.
func (a *Agent) SetInterval(sensor string, every time.Duration) error {
	s, err := a.sampler(sensor, "setting interval of")
	if err != nil {
		return err
	}
	if every <= 0 {
		return fmt.Errorf("agent: setting interval of %s to %s: want one above zero", sensor, every)
	}
	s.mu.Lock()
	s.probe.Every = every
	if s.plan.every != 0 { // begun
		s.plan = schedule{origin: time.Now(), every: every, next: 1}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}
