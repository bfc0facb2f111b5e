// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
)

// TestUpdate_BadReleases_RollBackByThemselves tries each way in which a release can be bad, as a real program in a real process. Nobody helps: the good
// program runs again, the reason is told, and the bad program is not taken a second time. What works is committed.
func TestUpdate_BadReleases_RollBackByThemselves(t *testing.T) {
	for _, c := range []struct {
		kind   string
		stage  ota.Stage
		reason ota.Reason
		limits func(*slots.Limits)
	}{
		{"good", ota.Committed, "", nil},
		{"crash", ota.RolledBack, ota.ReasonCrashed, nil},
		{"hang", ota.RolledBack, ota.ReasonHung, func(l *slots.Limits) { l.Watchdog = time.Second }},
		{"stuck", ota.RolledBack, ota.ReasonHung, func(l *slots.Limits) { l.Start = time.Second }},
		{"memory", ota.RolledBack, ota.ReasonMemory, func(l *slots.Limits) { l.Memory = 256 << 20 }},
		{"config", ota.RolledBack, ota.ReasonConfig, nil},
		{"identity", ota.RolledBack, ota.ReasonConfig, nil},
		{"dies", ota.RolledBack, ota.ReasonCrashed, nil},
		{"hub", ota.RolledBack, ota.ReasonHub, nil},
		{"sensors", ota.RolledBack, ota.ReasonSensors, nil},
		{"silent", ota.RolledBack, ota.ReasonTimeout, nil},
		{"stranger", ota.RolledBack, ota.ReasonTimeout, nil},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			f := newFarm(t, c.limits)
			program := agentOf(t, c.kind, "2.0.0")
			f.w.handOver(artifact("2.0.0", program), program)
			p := f.await(c.stage)
			if p.Reason != c.reason {
				t.Errorf("the reason is %q (%s), want %q", p.Reason, p.Detail, c.reason)
			}
			t.Logf("%s: %s", p.Reason, p.Detail)
			runs := ota.Version("1.0.0")
			if c.stage == ota.Committed {
				runs = "2.0.0"
			}
			if p.Version != runs || p.Wanted != "2.0.0" {
				t.Errorf("it is told that %s runs and %s was wanted", p.Version, p.Wanted)
			}
			f.awaitRun(runs)
			if c.stage == ota.RolledBack {
				f.w.handOver(artifact("2.0.0", program), program)
				if p := f.await(ota.Refused); p.Reason != ota.ReasonFailed {
					t.Errorf("the second time it was refused for %s, want %s", p.Reason, ota.ReasonFailed)
				}
			}
		})
	}
}

// TestUpdate_CrashLoop_RollsBack wants the third unclean end to be the last: no watcher is there, only who starts the agent. Ends in order count
// nothing, and a committed program may crash as often as it likes.
func TestUpdate_CrashLoop_RollsBack(t *testing.T) {
	w := newWorld(t)
	old, fresh := programOf("1.0.0", 1), programOf("2.0.0", 2)
	w.try("2.0.0", fresh)
	for range 20 { // restarts in order, as after a change of the config
		w.wantRuns("on trial", fresh)
		check(t, w.slots.Ended(true, "", ""))
	}
	w.wantRuns("on trial", fresh)
	check(t, w.slots.Ended(false, ota.ReasonMemory, "killed")) // one
	w.wantRuns("after one death", fresh)
	w.open()
	w.wantRuns("after a power cut", fresh) // two: nobody saw the end
	check(t, w.slots.Ended(false, ota.ReasonCrashed, "exit 1"))
	w.wantRuns("after the third unclean end", old)
	w.wantOutcome(ota.RolledBack, ota.ReasonCrashed)
	for range 10 {
		w.wantRuns("the good program, power cycled", old)
	}
	next := programOf("3.0.0", 3)
	check(t, w.slots.Commit(w.try("3.0.0", next)))
	for range 10 {
		w.wantRuns("a committed program that crashes", next)
		check(t, w.slots.Ended(false, ota.ReasonCrashed, "exit 1"))
	}
}

// farm is a supervised agent.
type farm struct {
	t     *testing.T
	w     *world
	first []byte
}

func newFarm(t *testing.T, limits func(*slots.Limits)) *farm {
	t.Helper()
	dir := t.TempDir() // programs are not run from /dev/shm, which may be mounted noexec
	f := &farm{t: t, w: &world{t: t, root: filepath.Join(dir, "opt"), state: filepath.Join(dir, "state")}, first: agentOf(t, "good", "1.0.0")}
	check(t, os.Mkdir(f.w.state, 0o700))
	f.w.open()
	f.w.install("1.0.0", f.first)
	l := slots.Limits{Start: time.Minute, Watchdog: time.Minute, Stop: time.Second, Pause: 10 * time.Millisecond, Longest: 20 * time.Millisecond}
	if limits != nil {
		limits(&l)
	}
	s := &slots.Supervisor{Slots: f.w.slots, State: f.w.state, Args: []string{f.w.state}, Limits: l,
		Times:  slots.Times{Window: 2 * time.Second, Deadline: 6 * time.Second, Every: 20 * time.Millisecond, Silence: time.Minute},
		Logger: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	f.awaitRun("1.0.0")
	return f
}

// await waits until an update is over.
func (f *farm) await(stage ota.Stage) (p ota.Progress) {
	f.t.Helper()
	waitFor(f.t, "the update to be over", func() (err error) {
		p, err = f.w.slots.Outcome()
		if err == nil && p.Stage != stage {
			err = fmt.Errorf("it is at %s %s %s", p.Stage, p.Reason, p.Detail)
		}
		return err
	})
	return p
}

// awaitRun waits until an agent of a version has started.
func (f *farm) awaitRun(v ota.Version) {
	f.t.Helper()
	ran := filepath.Join(f.w.state, "ran")
	waitFor(f.t, "agent "+string(v)+" to run", func() error {
		text, err := os.ReadFile(ran)
		if err == nil && string(text) != string(v) {
			err = fmt.Errorf("it is %q", text)
		}
		return err
	})
}

func waitFor(t testing.TB, what string, is func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	t.Fatalf("waiting for %s: %v", what, err)
}

// agentOf builds testdata/agent.
func agentOf(t *testing.T, kind, version string) []byte {
	t.Helper()
	at := filepath.Join(t.TempDir(), "agent")
	out, err := exec.Command("go", "build", "-ldflags", "-s -w -X main.kind="+kind+" -X main.version="+version, "-o", at, "./testdata/agent").CombinedOutput()
	check(t, errors.Join(err, errorOf(out)))
	return read(t, at)
}

func errorOf(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	return errors.New(string(out))
}
