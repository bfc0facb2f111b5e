// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// scripted is an actuator that does what the test says, notes when its reads begin, and fails the test if two calls overlap.
type scripted struct {
	t     *testing.T
	read  func(n int) error // nil error: a sample
	set   func(edge.Sample) error
	busy  atomic.Bool
	mu    sync.Mutex
	began []time.Time
	state float64
	opens []time.Time
}

func (s *scripted) alone() func() {
	if !s.busy.CompareAndSwap(false, true) {
		s.t.Error("two calls of one sensor at once")
	}
	return func() { s.busy.Store(false) }
}

func (s *scripted) Read(context.Context) ([]edge.Sample, error) {
	defer s.alone()()
	s.mu.Lock()
	s.began = append(s.began, time.Now())
	n := len(s.began)
	s.mu.Unlock()
	if s.read != nil {
		if err := s.read(n); err != nil {
			return nil, err
		}
	}
	return []edge.Sample{{Quantity: sensors.SwitchOn, Value: s.state}}, nil
}

func (s *scripted) Set(_ context.Context, v edge.Sample) error {
	defer s.alone()()
	if s.set != nil {
		if err := s.set(v); err != nil {
			return err
		}
	}
	s.state = v.Value
	return nil
}

func (s *scripted) Close() error { defer s.alone()(); return nil }

func (s *scripted) probe(name string, every time.Duration) agent.Probe {
	return agent.Probe{Name: name, Driver: "scripted", Stream: "main", Every: every,
		CanSet: func(q edge.Quantity) bool { return q == sensors.SwitchOn },
		Open: func(context.Context) (agent.Sensor, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.opens = append(s.opens, time.Now())
			return s, nil
		}}
}

// health returns the first sensor's health.
func health(t *testing.T, a *agent.Agent) agent.Health {
	t.Helper()
	return a.Status().Sensors[0]
}

// A read that lasts too long takes whole ticks away: every read begins on one, and the lost ones are counted.
func TestSlowReadsKeepPhase(t *testing.T) {
	const every = 100 * time.Millisecond
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{t: t, read: func(n int) error {
			if n%4 == 0 {
				time.Sleep(250 * time.Millisecond)
			}
			return nil
		}}
		w := newWorld(t, dir, []agent.Probe{s.probe("slow", every)})
		w.run(time.Hour, func(a *agent.Agent) {
			h := health(t, a)
			if h.Jitter.Max != 0 {
				t.Errorf("reads began late: %+v", h.Jitter)
			}
			// three quick reads and one of two and a half periods fill six ticks
			if h.Missed != 12_000 || h.Reads < 24_000 || h.Reads > 24_001 || h.Paused != 0 {
				t.Errorf("in 36 000 ticks: %d reads, %d missed, %d paused", h.Reads, h.Missed, h.Paused)
			}
		})
		for i, at := range s.began {
			if at.Sub(s.began[0])%every != 0 {
				t.Fatalf("read %d began %s after the first", i, at.Sub(s.began[0]))
			}
		}
	})
}

// Why there is no time.Ticker: after a slow receiver it hands out the tick that it kept, between two ticks.
func TestTickerLosesPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		time.Sleep(250 * time.Millisecond)
		<-tick.C
		if off := time.Since(begin) % (100 * time.Millisecond); off == 0 {
			t.Error("a ticker keeps its phase now: the agent's own schedule can go")
		}
	})
}

// Commands run between reads, in the sensor's own goroutine; one that keeps a read waiting shows in its jitter.
func TestSetAndJitter(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{t: t}
		s.read = func(int) error { time.Sleep(40 * time.Millisecond); return nil }
		s.set = func(edge.Sample) error { time.Sleep(120 * time.Millisecond); return nil }
		w := newWorld(t, dir, []agent.Probe{s.probe("lamp", time.Second)})
		w.run(time.Minute, func(a *agent.Agent) {
			var all sync.WaitGroup
			for range 50 { // from many goroutines, at every part of the period
				all.Go(func() { check(t, a.Set(t.Context(), "lamp", sensors.On(sensors.SwitchOn, true))) })
				time.Sleep(1093 * time.Millisecond)
			}
			all.Wait()
			h := health(t, a)
			if h.Jitter.Max <= 0 || h.Jitter.Max > 120*time.Millisecond || h.Jitter.P99 > h.Jitter.Max || h.Jitter.Mean <= 0 || h.Jitter.Mean > h.Jitter.P99 {
				t.Errorf("jitter %+v with commands of 120 ms", h.Jitter)
			}
			if h.Missed != 0 || h.Errors != 0 {
				t.Errorf("%d missed, %d errors", h.Missed, h.Errors)
			}
		})
		if s.state != 1 {
			t.Error("the lamp is off")
		}
	})
}

// The 99th percentile says what the slowest hundredth suffers, not the mean and not the one worst read.
func TestJitterPercentile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{t: t}
		late := make(chan time.Duration, 1)
		s.set = func(edge.Sample) error { time.Sleep(<-late); return nil }
		w := newWorld(t, dir, []agent.Probe{s.probe("lamp", time.Second)})
		w.run(0, func(a *agent.Agent) {
			s.mu.Lock()
			first := s.began[0]
			s.mu.Unlock()
			for i := range 1000 { // half a second into each period a command begins that ends so much after the next tick
				time.Sleep(time.Until(first.Add(time.Duration(i)*time.Second + 500*time.Millisecond)))
				d := 10 * time.Millisecond
				if i == 700 {
					d = 400 * time.Millisecond
				}
				late <- 500*time.Millisecond + d
				check(t, a.Set(t.Context(), "lamp", sensors.On(sensors.SwitchOn, true)))
			}
			synctest.Wait()
			j := health(t, a).Jitter
			if j.Max != 400*time.Millisecond || j.P99 < 10*time.Millisecond || j.P99 > 12500*time.Microsecond || j.Mean < 10*time.Millisecond || j.Mean > 11*time.Millisecond {
				t.Errorf("1000 reads late by 10 ms and one by 400 ms: %+v", j)
			}
		})
	})
}

func TestSetRefuses(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("coil burnt")
		s := &scripted{t: t, set: func(v edge.Sample) error {
			if v.Value != 0 {
				return broken
			}
			return nil
		}}
		away := s.probe("away", time.Second)
		away.Open = func(context.Context) (agent.Sensor, error) { return nil, fmt.Errorf("away: %w", hal.ErrAbsent) }
		plain := probe("plain", time.Second, &steady{})
		liar := probe("liar", time.Second, &steady{})
		liar.CanSet = away.CanSet
		w := newWorld(t, dir, []agent.Probe{s.probe("lamp", time.Second), away, plain, liar})
		on := sensors.On(sensors.SwitchOn, true)
		w.run(time.Minute, func(a *agent.Agent) {
			for name, c := range map[string]struct {
				sensor string
				v      edge.Sample
				want   error
			}{
				"unknown":      {"lantern", on, agent.ErrNoSensor},
				"no actuator":  {"plain", on, agent.ErrNotActuator},
				"not this":     {"lamp", sensors.On(sensors.Contact, true), agent.ErrNotActuator},
				"no such type": {"liar", on, agent.ErrNotActuator},
				"quarantined":  {"away", on, agent.ErrQuarantined},
				"driver":       {"lamp", on, broken},
			} {
				if err := a.Set(t.Context(), c.sensor, c.v); !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", name, err, c.want)
				}
			}
			bad := on
			bad.Value = 7
			if err := a.Set(t.Context(), "lamp", bad); err == nil {
				t.Error("a state of 7 was taken")
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := a.Set(ctx, "lamp", sensors.On(sensors.SwitchOn, false)); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			t.Cleanup(func() {
				if err := a.Set(context.Background(), "lamp", on); !errors.Is(err, agent.ErrStopped) {
					t.Errorf("after the stop: %v", err)
				}
			})
		})
	})
}

// Errors are counted by kind; a chip that vanished is opened anew before it is believed again, with pauses from 1 s to 5 min.
func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		s := &scripted{t: t}
		s.read = func(n int) error {
			switch {
			case gone.Load():
				return fmt.Errorf("chip: %w", hal.ErrAbsent)
			case n == 5:
				return fmt.Errorf("chip: %w", sensors.ErrCRC)
			}
			return nil
		}
		w := newWorld(t, dir, []agent.Probe{s.probe("chip", time.Second)})
		begin := time.Now()
		w.run(time.Minute+500*time.Millisecond, func(a *agent.Agent) {
			if h := health(t, a); h.Faults["crc"] != 1 || h.Errors != 1 || h.Error != "" || h.Reads != 60 || !h.Open || !h.Until.IsZero() {
				t.Errorf("after one bad checksum: %+v", h)
			}
			gone.Store(true)
			time.Sleep(time.Second)
			h := health(t, a)
			if h.Open || h.Fault != "absent" || h.Until.Before(time.Now()) || time.Until(h.Until) > 1250*time.Millisecond {
				t.Errorf("just after it vanished: %+v", h)
			}
			time.Sleep(time.Hour)
			h = health(t, a)
			if h.Faults["absent"] != h.Errors-1 || h.Missed != 0 || h.Paused < 3500 || h.Paused > 3601 {
				t.Errorf("after an hour: %+v", h)
			}
			gone.Store(false)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			h = health(t, a)
			if h.Error != "" || h.Fault != "" || !h.Until.IsZero() || h.Jitter.Max != 0 {
				t.Errorf("after it came back: %+v", h)
			}
			// the schedule went on all the time, from half a second before the pause began
			if ticks := uint64(time.Since(begin)/time.Second) + 1; h.Reads+h.Errors+h.Missed+h.Paused != ticks {
				t.Errorf("of %d ticks: %+v", ticks, h)
			}
		})
		if n := len(s.opens); n < 12 || n > 30 {
			t.Errorf("opened %d times in an hour", n)
		}
		for i := 2; i < len(s.opens); i++ {
			if gap := s.opens[i].Sub(s.opens[i-1]); gap < time.Second || gap > 5*time.Minute+time.Second {
				t.Errorf("opened again after %s", gap)
			}
		}
		if fails, works := w.told("sensor fails"), w.told("sensor works again"); fails != 2 || works != 2 {
			t.Errorf("two faults: told %d times of a fault and %d times of its end", fails, works)
		}
		var told []string
		for _, n := range w.notices {
			told = append(told, fmt.Sprintf("%d %s %s %s %t %t %t", n.Kind, n.Sensor, n.Stream, n.Fault, n.Err != nil, n.Lasted > 0, n.At.Mono > 0))
		}
		over := "2 chip main  false true true"
		if want := []string{"1 chip main crc true false true", over, "1 chip main absent true false true", over}; !slices.Equal(told, want) {
			t.Errorf("notices %q, want %q", told, want)
		}
	})
}

// told counts the log lines that say so.
func (w *world) told(what string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.logs {
		if strings.Contains(line, what) {
			n++
		}
	}
	return n
}

// A read that ignores its context is told of once, stops neither the other sensor nor the agent, and comes back when it returns.
func TestHungRead(t *testing.T) {
	for name, returns := range map[string]bool{"returns": true, "stays": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var stopped time.Time
				release := make(chan struct{})
				s := &scripted{t: t}
				s.read = func(n int) error {
					if n == 10 {
						<-release
					}
					return nil
				}
				w := newWorld(t, dir, []agent.Probe{s.probe("stuck", time.Second), probe("well", time.Second, &steady{})})
				w.run(10*time.Minute, func(a *agent.Agent) {
					if h := health(t, a); h.Reads != 9 || h.Errors != 1 || h.Faults["timeout"] != 1 || h.Missed != 590 || !strings.Contains(h.Error, "does not return") {
						t.Errorf("while it hangs: %+v", h)
					}
					if err := a.Set(t.Context(), "stuck", sensors.On(sensors.SwitchOn, true)); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("a command to it: %v", err)
					}
					if returns {
						close(release)
						time.Sleep(time.Minute)
						synctest.Wait()
						if len(s.opens) != 2 {
							t.Errorf("opened %d times: a sensor that hung is opened anew", len(s.opens))
						}
						if h := health(t, a); h.Error != "" || h.Reads < 60 || h.Errors != 1 || h.Missed < 580 {
							t.Errorf("after it returned: %+v", h)
						}
					}
					stopped = time.Now()
				})
				if took := time.Since(stopped); took > 15*time.Second {
					t.Errorf("the stop took %s", took)
				}
				readings, _ := w.pulled(w.reader)
				if n := len(readings) + w.left; n < 609 {
					t.Errorf("%d readings were sealed", n)
				}
				if n := w.told("sensor fails"); n != 1 {
					t.Errorf("told %d times", n)
				}
				if !returns {
					if n := w.told("sensor hangs and is not closed"); n != 1 {
						t.Errorf("told %d times that it is not closed", n)
					}
					close(release)
				}
			})
		})
	}
}
