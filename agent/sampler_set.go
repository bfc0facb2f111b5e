// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge"
)

// Actuator is a Sensor that can also be told something, as package sensors defines it.
type Actuator interface {
	Sensor
	// Set makes the chip reach the state, or returns an error.
	Set(ctx context.Context, s edge.Sample) error
}

// Why Agent.Set did not do what it was told, beside the driver's own errors.
var (
	ErrNoSensor    = errors.New("this device has no such sensor")
	ErrNotActuator = errors.New("the sensor cannot be told this")
	ErrQuarantined = errors.New("the sensor failed and is left alone")
	ErrStopped     = errors.New("the agent has stopped")
)

// setLimit bounds Agent.Set whatever its caller's context says: a sensor may hang.
const setLimit = 30 * time.Second

// setRequest travels to the sensor's goroutine.
type setRequest struct {
	ctx    context.Context
	sample edge.Sample
	done   chan error // has room for one
}

// Set tells a sensor's chip to reach a state and returns when it has, or why not: an error that wraps ErrNoSensor, ErrNotActuator, ErrQuarantined,
// ErrStopped or the driver's own. It runs in the sensor's goroutine, between two reads and never beside one; a caller waits for the read that is under
// way. When ctx ends (or 30 s have passed) after the chip was addressed, nobody knows what it did. What it then is shows the next reading.
// Safe for concurrent use while Run runs.
func (a *Agent) Set(ctx context.Context, sensor string, v edge.Sample) error {
	for _, s := range a.samplers {
		if s.probe.Name == sensor {
			return s.set(ctx, v)
		}
	}
	return fmt.Errorf("agent: setting %q: %w", sensor, ErrNoSensor)
}

func (s *sampler) set(ctx context.Context, v edge.Sample) error {
	name := s.probe.Name
	if s.probe.CanSet == nil || !s.probe.CanSet(v.Quantity) {
		return fmt.Errorf("agent: setting %s of %s: %w", v.Name, name, ErrNotActuator)
	}
	if err := (edge.Reading{Sensor: name, Sample: v}).Validate(); err != nil {
		return fmt.Errorf("agent: setting %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, setLimit)
	defer cancel()
	r := setRequest{ctx: ctx, sample: v, done: make(chan error, 1)}
	select {
	case s.sets <- r:
	case <-s.ended:
		return fmt.Errorf("agent: setting %s: %w", name, ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("agent: setting %s: nothing was done, the sensor is busy: %w", name, ctx.Err())
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("agent: setting %s: it may or may not have happened: %w", name, ctx.Err())
	}
}

// tell carries out a request between two reads; the end of the agent ends it too.
func (s *sampler) tell(ctx context.Context, sensor Sensor, r setRequest) error {
	to, ok := sensor.(Actuator)
	if !ok {
		return fmt.Errorf("agent: setting %s: %w: the driver %s gave no actuator", s.probe.Name, ErrNotActuator, s.probe.Driver)
	}
	both, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if err := s.call(both, "setting", func(ctx context.Context) error { return to.Set(ctx, r.sample) }); err != nil {
		return fmt.Errorf("agent: setting %s: %w", s.probe.Name, err)
	}
	return nil
}
