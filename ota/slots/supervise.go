// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/ota"
)

// Supervisor runs the agent as a child process and its updates, where no service manager does: in containers and tests. What it lacks beside systemd
// with the updater's units: it is the agent's own user, so that an agent that was broken into can change the releases.
type Supervisor struct {
	Slots  *Slots
	State  string // the agent's state folder
	Args   []string
	Stdout io.Writer
	Stderr io.Writer
	Times  Times
	Limits Limits
	Logger *slog.Logger
	Hangup <-chan os.Signal // what comes is handed on to the agent; may be nil
}

// Limits of the agent.
type Limits struct {
	Start    time.Duration // until it says that it is ready
	Watchdog time.Duration // between two words that its work goes on
	Stop     time.Duration // to end when told to
	Memory   int64         // resident bytes; 0 = no limit
	Pause    time.Duration // before it is started again after an unclean end; doubled up to LastPause while it does not last that long
	Longest  time.Duration
}

// UsualLimits are those of the unit files.
func UsualLimits() Limits {
	return Limits{Start: 90 * time.Second, Watchdog: time.Minute, Stop: 90 * time.Second, Pause: time.Second, Longest: 30 * time.Second}
}

// Run works until ctx ends and the agent has ended, or until there is no program to run.
func (v *Supervisor) Run(ctx context.Context) error {
	again := make(chan struct{}, 1)
	inner, stop := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { v.update(inner, again) })
	err := v.keep(ctx, again)
	stop()
	tasks.Wait()
	return err
}

// update carries out requests as they come.
func (v *Supervisor) update(ctx context.Context, again chan<- struct{}) {
	a := Applier{Slots: v.Slots, State: v.State, Times: v.Times, Restart: func(context.Context) error {
		select {
		case again <- struct{}{}:
		default: // it is told already
		}
		return nil
	}}
	for {
		if _, err := a.Apply(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, os.ErrNotExist) {
			v.Logger.Error("update", "err", err)
		}
		if !nap.For(ctx, v.Times.Every) {
			return
		}
	}
}

// keep starts the agent again and again.
func (v *Supervisor) keep(ctx context.Context, again <-chan struct{}) error {
	for pause := v.Limits.Pause; ; {
		program, err := v.Slots.Boot()
		if err != nil {
			return err
		}
		began := time.Now()
		e := v.once(ctx, program, again)
		if err := v.Slots.Ended(e.clean, e.why, e.detail); err != nil {
			v.Logger.Error("the agent's end could not be noted", "err", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if e.clean {
			v.Logger.Info("the agent ended and is started again")
			pause = v.Limits.Pause
		} else {
			v.Logger.Error("the agent ended", "reason", e.why, "detail", e.detail)
			if time.Since(began) > v.Limits.Longest {
				pause = v.Limits.Pause
			}
		}
		if !nap.For(ctx, pause) {
			return nil
		}
		pause = min(2*pause, v.Limits.Longest)
	}
}

// memoryEvery is the time between two looks at the memory of the agent.
const memoryEvery = 250 * time.Millisecond

// end is how a run of the agent ended.
type end struct {
	clean  bool
	why    ota.Reason
	detail string
}

// once runs the agent until it ends, is told to, or has to be killed.
func (v *Supervisor) once(ctx context.Context, program string, again <-chan struct{}) end {
	words, err := listen()
	if err != nil {
		return end{why: ota.ReasonDisk, detail: err.Error()}
	}
	defer words.close()
	cmd := exec.Command(program, v.Args...)
	cmd.Stdout, cmd.Stderr = v.Stdout, v.Stderr
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+words.path, "WATCHDOG_USEC="+strconv.FormatInt(v.Limits.Watchdog.Microseconds(), 10))
	// A panic ends with a signal then, and not with the exit code 2 of a wrong config.
	cmd.Env = append(cmd.Env, "STREEMBIT_RELEASES="+v.Slots.o.Root, "GOTRACEBACK=crash")
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return end{why: ota.ReasonCrashed, detail: err.Error()}
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // ProcessState tells how
	forced := v.mind(ctx, cmd.Process, words, ended, again)
	<-ended
	if forced != nil {
		return *forced
	}
	return endOf(cmd.ProcessState)
}

// mind looks after a running agent until it has ended. It returns how it ended if it was told to or killed from here.
func (v *Supervisor) mind(ctx context.Context, p *os.Process, words *words, ended <-chan struct{}, again <-chan struct{}) *end {
	limit := time.NewTimer(v.Limits.Start)
	defer limit.Stop()
	look := time.NewTicker(memoryEvery)
	defer look.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return v.stop(p, ended)
		case <-again:
			return v.stop(p, ended)
		case s := <-v.Hangup:
			_ = p.Signal(s) // it may have ended just now
		case w := <-words.heard:
			if w.ready || w.alive {
				limit.Reset(v.Limits.Watchdog)
			}
		case <-limit.C:
			return kill(p, ended, ota.ReasonHung, "it did not say in time that its work goes on")
		case <-look.C:
			if used := resident(p.Pid); v.Limits.Memory > 0 && used > v.Limits.Memory {
				return kill(p, ended, ota.ReasonMemory, fmt.Sprintf("it used %d MB of memory, %d MB are allowed", used/1e6, v.Limits.Memory/1e6))
			}
		}
	}
}

// stop tells the agent to end, and sees to it.
func (v *Supervisor) stop(p *os.Process, ended <-chan struct{}) *end {
	_ = p.Signal(syscall.SIGTERM) // it may have ended just now
	t := time.NewTimer(v.Limits.Stop)
	defer t.Stop()
	select {
	case <-ended:
		return &end{clean: true}
	case <-t.C:
		return kill(p, ended, ota.ReasonHung, "it did not end when it was told to")
	}
}

func kill(p *os.Process, ended <-chan struct{}, why ota.Reason, detail string) *end {
	_ = p.Kill() // it may have ended just now
	<-ended
	return &end{why: why, detail: detail}
}

// endOf tells an end as systemd would.
func endOf(s *os.ProcessState) end {
	var e end
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		code := map[bool]string{true: "KILL", false: w.Signal().String()}[w.Signal() == syscall.SIGKILL]
		e.clean, e.why, e.detail = EndOf("signal", "killed", code)
		return e
	}
	result := "exit-code"
	if s.Success() {
		result = "success"
	}
	e.clean, e.why, e.detail = EndOf(result, "exited", strconv.Itoa(s.ExitCode()))
	return e
}
