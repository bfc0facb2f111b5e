// SPDX-License-Identifier: Apache-2.0

package gpio

import (
	"context"
	"fmt"
	"sync"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// waitTime is how long a wait for an edge may take to notice that the sensor is closed.
const waitTime = 200 * time.Millisecond

// pulses counts in a goroutine of its own, so that no edge waits for the next Read; Close ends it.
type pulses struct {
	line     hal.Line
	quantity edge.Quantity
	perPulse float64
	debounce time.Duration
	done     sync.WaitGroup

	mu     sync.Mutex
	count  uint64
	err    error // why the counting stopped
	closed bool
}

func openPulses(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	perPulse, debounce, err := parsePulseOptions(opts)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("gpio-pulses: %w", err)
	}
	edge := pgpio.FallingEdge
	if opts["edge"] == "rising" {
		edge = pgpio.RisingEdge
	}
	line, err := p.Pin.Input(pullOf(opts["pull"]), edge)
	if err != nil {
		return nil, fmt.Errorf("gpio-pulses: requesting %s: %w", p.Name, err)
	}
	s := &pulses{line: line, quantity: quantity(counts, opts["as"]), perPulse: perPulse, debounce: debounce}
	s.done.Go(s.run)
	return s, nil
}

// run counts until the line fails or the sensor is closed.
func (s *pulses) run() {
	var last time.Time
	for {
		edge, err := s.line.WaitForEdge(waitTime)
		now := time.Now()
		s.mu.Lock()
		switch {
		case err != nil:
			s.err = err
		case edge && (last.IsZero() || now.Sub(last) >= s.debounce):
			s.count++
		}
		stop := s.closed || s.err != nil
		s.mu.Unlock()
		if stop {
			return
		}
		if edge {
			last = now
		}
	}
}

// Read implements sensors.Sensor. Once the line has failed pulses may be missing, so that every later Read fails too until
// the sensor is opened again.
func (s *pulses) Read(ctx context.Context) ([]edge.Sample, error) {
	s.mu.Lock()
	count, err := s.count, s.err
	s.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("gpio-pulses: reading: %w", err)
	}
	return []edge.Sample{sensors.Of(s.quantity, float64(count)*s.perPulse)}, nil
}

// Close implements sensors.Sensor.
func (s *pulses) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.done.Wait()
	return s.line.Close()
}
