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

// request is something to be done in the sensor's goroutine.
type request struct {
	ctx   context.Context //nolint:containedctx // of the caller, who waits for done
	doing string          // for messages: setting, reading
	do    func(ctx context.Context, sensor Sensor) error
	done  chan error // has room for one
}

// Set tells a sensor's chip to reach a state and returns when it has, or why not: an error that wraps ErrNoSensor, ErrNotActuator, ErrQuarantined,
// ErrStopped or the driver's own. It runs in the sensor's goroutine, between two reads and never beside one; a caller waits for the read that is under
// way. When ctx ends (or 30 s have passed) after the chip was addressed, nobody knows what it did. What it then is shows the next reading.
// Safe for concurrent use while Run runs.
func (a *Agent) Set(ctx context.Context, sensor string, v edge.Sample) error {
	s, err := a.sampler(sensor, "setting")
	if err != nil {
		return err
	}
	return s.set(ctx, v)
}

func (s *sampler) set(ctx context.Context, v edge.Sample) error {
	name := s.probe.Name
	if s.probe.CanSet == nil || !s.probe.CanSet(v.Quantity) {
		return fmt.Errorf("agent: setting %s of %s: %w", v.Name, name, ErrNotActuator)
	}
	if err := (edge.Reading{Sensor: name, Sample: v}).Validate(); err != nil {
		return fmt.Errorf("agent: setting %s: %w", name, err)
	}
	return s.ask(ctx, "setting", func(ctx context.Context, sensor Sensor) error {
		to, ok := sensor.(Actuator)
		if !ok {
			return fmt.Errorf("%w: the driver %s gave no actuator", ErrNotActuator, s.probe.Driver)
		}
		return to.Set(ctx, v)
	})
}

// ask has something done between two reads, and waits for it.
func (s *sampler) ask(ctx context.Context, doing string, do func(context.Context, Sensor) error) error {
	name := s.probe.Name
	ctx, cancel := context.WithTimeout(ctx, setLimit)
	defer cancel()
	r := request{ctx: ctx, doing: doing, do: do, done: make(chan error, 1)}
	select {
	case s.asks <- r:
	case <-s.ended:
		return fmt.Errorf("agent: %s %s: %w", doing, name, ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("agent: %s %s: nothing was done, the sensor is busy: %w", doing, name, ctx.Err())
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("agent: %s %s: it may or may not have happened: %w", doing, name, ctx.Err())
	}
}

// tell carries out a request between two reads; the end of the agent ends it too.
func (s *sampler) tell(ctx context.Context, sensor Sensor, r request) error {
	both, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if err := s.call(both, r.doing, func(ctx context.Context) error { return r.do(ctx, sensor) }); err != nil {
		return fmt.Errorf("agent: %s %s: %w", r.doing, s.probe.Name, err)
	}
	return nil
}
