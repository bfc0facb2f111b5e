// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"maps"
	"time"

	"github.com/streembit/edge/sensors"
)

// Health is what is known of one sensor. The numbers count since the start. Every tick of the sensor's schedule, which begins when it is opened
// for the first time, is in one of Reads, failed reads, Missed and Paused.
type Health struct {
	Sensor string            `json:"sensor"`
	Driver string            `json:"driver"`
	Stream string            `json:"stream"`
	Open   bool              `json:"open"`
	Reads  uint64            `json:"reads"`            // that gave samples
	Errors uint64            `json:"errors"`           // reads and attempts to open that failed
	Faults map[string]uint64 `json:"faults,omitempty"` // Errors by kind, see sensors.Fault
	Missed uint64            `json:"missed"`           // ticks that passed because the read before lasted too long
	Paused uint64            `json:"paused"`           // ticks that passed while the sensor was not open
	Jitter Jitter            `json:"jitter"`
	LastOK time.Time         `json:"last_ok,omitzero"`
	Until  time.Time         `json:"quarantined_until,omitzero"` // when it is tried again; zero = it is not in quarantine
	Error  string            `json:"error,omitempty"`            // the last one of the present fault, empty once it works again
	Fault  string            `json:"fault,omitempty"`            // its kind
}

func (s *sampler) setClosed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.Open = false
}

func (s *sampler) setQuarantine(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.Until = until
}

// resume notes that the sensor is open, and begins the schedule or goes on with it where it is now.
func (s *sampler) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.plan.every == 0 {
		s.plan = schedule{origin: now, every: s.probe.Every}
	}
	s.health.Paused += s.plan.advance(now)
	s.health.Open = true
}

// due returns when the next read begins.
func (s *sampler) due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.due()
}

// began uses up the tick that is due and notes how late that is.
func (s *sampler) began() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late.add(time.Since(s.plan.due()))
	s.plan.next++
	s.reading = true
}

// missed skips the ticks that passed during a read.
func (s *sampler) missed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.Missed += s.plan.advance(time.Now())
	s.reading = false
}

// succeeded notes a good read and tells once that a fault is over.
func (s *sampler) succeeded() {
	s.mu.Lock()
	now := time.Now()
	s.health.Reads++
	s.health.LastOK = now
	recovered, lasted := s.health.Error != "", now.Sub(s.since)
	s.health.Error, s.health.Fault = "", ""
	s.mu.Unlock()
	if recovered {
		s.logger.Info("sensor works again", "after", lasted.Round(time.Millisecond))
		s.notice(Notice{Kind: SensorRecovered, Lasted: lasted})
	}
}

// failed counts a failure, unless it was counted when it was noticed.
func (s *sampler) failed(err error) {
	if !errors.Is(err, errHung) {
		s.count(err)
	}
}

// count counts a failure and tells once that a fault began, however its message changes afterwards.
func (s *sampler) count(err error) {
	kind := sensors.Fault(err)
	s.mu.Lock()
	s.health.Errors++
	s.health.Faults[kind]++
	began := s.health.Error == ""
	if began {
		s.since = time.Now()
	}
	s.health.Error, s.health.Fault = err.Error(), kind
	s.mu.Unlock()
	if began {
		s.logger.Warn("sensor fails, the others go on", "fault", kind, "err", err)
		s.notice(Notice{Kind: SensorFault, Fault: kind, Err: err})
	}
}

func (s *sampler) state() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.health
	h.Faults = maps.Clone(h.Faults)
	h.Jitter = s.late.jitter()
	plan := s.plan // a copy, for what passes just now
	switch {
	case plan.every == 0: // not begun
	case !h.Open:
		h.Paused += plan.advance(time.Now())
	case s.reading:
		h.Missed += plan.advance(time.Now())
	}
	return h
}
