// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/agent"
)

// A reading out of turn is taken in between and is not published; the interval changes from one tick to the next, and the ticks after it keep the new phase.
func TestReadAndInterval(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{t: t}
		w := newWorld(t, dir, []agent.Probe{s.probe("s", time.Hour)})
		w.run(3*time.Hour+time.Minute, func(a *agent.Agent) {
			time.Sleep(10 * time.Minute) // between two ticks
			before := health(t, a).Reads
			got, err := a.Read(t.Context(), "s")
			if err != nil || len(got) == 0 {
				t.Errorf("read: %v %v", got, err)
			}
			if latest, at := a.Latest("s"); len(latest) == 0 || at.Mono == 0 {
				t.Errorf("latest: %v %v", latest, at)
			}
			if n := health(t, a).Reads; n != before {
				t.Errorf("%d reads of the schedule, %d before", n, before)
			}
			if _, err := a.Read(t.Context(), "none"); !errors.Is(err, agent.ErrNoSensor) {
				t.Errorf("no sensor: %v", err)
			}
			if err := errors.Join(a.SetInterval("s", time.Minute)); err != nil || a.Interval("s") != time.Minute || a.Interval("none") != 0 {
				t.Errorf("%v, interval %s", err, a.Interval("s"))
			}
			at, n := time.Now(), health(t, a).Reads
			time.Sleep(10*time.Minute + time.Second)
			if got := health(t, a).Reads - n; got != 10 {
				t.Errorf("%d reads in 10 minutes", got)
			}
			s.mu.Lock()
			last := s.began[len(s.began)-1]
			s.mu.Unlock()
			if last.Sub(at)%time.Minute != 0 {
				t.Errorf("read %s after the change", last.Sub(at))
			}
			if a.SetInterval("s", 0) == nil || a.SetInterval("none", time.Second) == nil {
				t.Error("taken")
			}
		})
	})
}
