// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/ota/rollout"
	"github.com/streembit/edge/ota/trust"
)

const path15 = "streembitd/1.5.0/linux-amd64"

// TestUpdateComes: what is rolled out is fetched, handed over once, and told to the fleet step by step.
func TestUpdateComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.options(t.TempDir())
		u, stop := w.run(o)
		after(time.Minute)
		if p, _ := w.told(); p.Stage != ota.Idle || p.Version != "1.4.0" || p.At != w.now.UnixMilli() {
			t.Errorf("before: told %+v", p)
		}
		w.roll(1, w.operator, nil)
		u.Poke()
		after(5 * time.Second)
		if s := u.Status(); s.Progress.Stage != ota.Fetching || s.Progress.Wanted != "1.5.0" || s.Fetching == nil || s.Fetching.Sources != 1 {
			t.Errorf("while it comes: %+v", s)
		}
		after(time.Minute)
		if got := w.taken(); !slices.Equal(got, []string{path15}) {
			t.Errorf("handed over: %v", got)
		}
		if p, _ := w.told(); p.Stage != ota.Staged || p.Wanted != "1.5.0" {
			t.Errorf("then: told %+v", p)
		}
		after(11 * time.Minute)
		if p := u.Status().Progress; !strings.Contains(p.Detail, "nothing has taken it") {
			t.Errorf("after a long time: %+v", p)
		}
		stop() // the installer starts the new one
		w.set(func() { w.slots.outcome = ota.Progress{Version: "1.5.0", Wanted: "1.5.0", Stage: ota.Trying} })
		o.Running = "1.5.0"
		_, stop = w.run(o)
		after(time.Minute)
		if p, _ := w.told(); p.Stage != ota.Trying || p.Version != "1.5.0" {
			t.Errorf("on trial: told %+v", p)
		}
		w.set(func() { w.slots.outcome.Stage = ota.Committed })
		after(time.Minute)
		if p, _ := w.told(); p.Stage != ota.Committed || p.Version != "1.5.0" || p.Wanted != "" {
			t.Errorf("healthy: told %+v", p)
		}
		stop()
		if want := []string{"update-fetch " + path15, "update-handed-over " + path15, "update-outcome 1.5.0"}; !slices.Equal(w.audit, want) {
			t.Errorf("audit: %q", w.audit)
		}
	})
}

// TestDecision is every reason for which a device does not install what is rolled out, and what it says.
func TestDecision(t *testing.T) {
	quiet, err := device.ParseQuiet("08:00-18:00")
	ok(t, err)
	other := func(w *world) { w.meta.all[1].Arch = "arm64" }
	for name, c := range map[string]struct {
		change func(*world, *device.Options)
		turn   func(*rollout.Rollout)
		stage  ota.Stage
		reason ota.Reason
		alarm  string
	}{
		"not in the wave": {nil, func(r *rollout.Rollout) { r.Waves[0].On = []string{"site=barn"} }, ota.Waiting, ota.ReasonWave, ""},
		"paused":          {nil, func(r *rollout.Rollout) { r.Paused = true }, ota.Waiting, ota.ReasonPaused, ""},
		"quiet":           {func(_ *world, o *device.Options) { o.Quiet = []device.Quiet{quiet} }, nil, ota.Waiting, ota.ReasonQuiet, ""},
		"quiet, no clock": {func(w *world, o *device.Options) { o.Quiet, w.right = []device.Quiet{quiet}, false }, nil, ota.Waiting, ota.ReasonNoClock, ""},
		"no space":        {func(w *world, _ *device.Options) { w.free = 1 << 20 }, nil, ota.Waiting, ota.ReasonSpace, device.AlarmSpace},
		"expired":         {func(w *world, _ *device.Options) { w.meta.err = trust.ErrExpired }, nil, ota.Waiting, ota.ReasonExpired, device.AlarmExpired},
		"other machine":   {func(w *world, _ *device.Options) { other(w) }, nil, ota.Refused, ota.ReasonUnfit, ""},
		"other board":     {func(w *world, _ *device.Options) { w.meta.all[1].Boards = []string{"rpi-4"} }, nil, ota.Refused, ota.ReasonUnfit, ""},
		"not published":   {nil, func(r *rollout.Rollout) { r.Release = "1.9.0" }, ota.Waiting, ota.ReasonProof, ""},
		"tried before":    {func(w *world, _ *device.Options) { w.slots.failed[w.meta.all[1].Hash] = true }, nil, ota.Refused, ota.ReasonFailed, ""},
		"went back": {func(w *world, _ *device.Options) {
			w.slots.failed[w.meta.all[1].Hash] = true
			w.slots.outcome = ota.Progress{Version: "1.4.0", Wanted: "1.5.0", Stage: ota.RolledBack, Reason: ota.ReasonSensors}
		}, nil, ota.RolledBack, ota.ReasonSensors, device.AlarmBack},
		"refused by the installer": {func(w *world, _ *device.Options) {
			w.slots.outcome = ota.Progress{Version: "1.4.0", Wanted: "1.5.0", Stage: ota.Refused, Reason: ota.ReasonFloor}
		}, nil, ota.Refused, ota.ReasonFloor, ""},
		"nothing installs here": {func(_ *world, o *device.Options) { o.Slots = nil }, nil, ota.Waiting, ota.ReasonOperator, ""},
		"no root pinned": {func(w *world, _ *device.Options) {
			f, err := w.fleet.Amend(w.owner, time.UnixMilli(1_700_000_000_009), func(s *fleet.State) { s.UpdateRoot = nil })
			ok(w.t, err)
			w.fleet = f
		}, nil, ota.Idle, "", ""},
		"built by hand": {func(_ *world, o *device.Options) { o.Running = "" }, nil, ota.Idle, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.roll(1, w.operator, c.turn)
				o := w.options(t.TempDir())
				if c.change != nil {
					c.change(w, &o)
				}
				u, stop := w.run(o)
				after(2 * time.Minute)
				stop()
				p := u.Status().Progress
				if p.Stage != c.stage || p.Reason != c.reason || len(w.taken()) > 0 {
					t.Errorf("%+v, handed over %v", p, w.taken())
				}
				if _, raised := w.raised()[c.alarm]; c.alarm != "" && !raised {
					t.Errorf("alarms: %v", w.raised())
				}
				if _, n := w.told(); n == 0 {
					t.Error("the fleet was not told")
				}
			})
		})
	}
}

// TestWaitingEnds: what was in the way goes, and the update comes by itself.
func TestWaitingEnds(t *testing.T) {
	quiet, err := device.ParseQuiet("08:00-18:00")
	ok(t, err)
	for name, c := range map[string]struct{ before, then func(*world) }{
		"quiet hours end":    {func(*world) {}, func(w *world) { w.now = w.now.Add(7 * time.Hour) }},
		"signed again":       {func(w *world) { w.now = w.now.Add(7 * time.Hour); w.meta.err = trust.ErrExpired }, func(w *world) { w.meta.err = nil }},
		"hubs answer again":  {func(w *world) { w.now = w.now.Add(7 * time.Hour); w.down = true }, func(w *world) { w.down = false }},
		"somebody has it":    {func(w *world) { w.now = w.now.Add(7 * time.Hour); w.sources = nil }, func(w *world) { w.sources = append(w.sources, peerOf(w)) }},
		"there is space":     {func(w *world) { w.now = w.now.Add(7 * time.Hour); w.free = 0 }, func(w *world) { w.free = 1 << 40 }},
		"the clock is right": {func(w *world) { w.now = w.now.Add(7 * time.Hour); w.right = false }, func(w *world) { w.right = true }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.roll(1, w.operator, nil)
				o := w.options(t.TempDir())
				o.Quiet = []device.Quiet{quiet}
				w.set(func() { c.before(w) })
				_, stop := w.run(o)
				after(5 * time.Minute)
				if got := w.taken(); len(got) > 0 {
					t.Fatalf("handed over too early: %v", got)
				}
				w.set(func() { c.then(w) })
				after(40 * time.Minute)
				stop()
				if got := w.taken(); !slices.Equal(got, []string{path15}) {
					t.Errorf("handed over: %v", got)
				}
			})
		})
	}
}

// TestUpdate_DiskFull_KeepsRunning: the disk gets full while a program comes. The loop goes on and says so, nothing is handed over, and once there is room the update
// comes. The disk is /dev/full, which refuses every write.
func TestUpdate_DiskFull_KeepsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.roll(1, w.operator, nil)
		dir := t.TempDir()
		file := filepath.Join(dir, "chunks", hex.EncodeToString(w.meta.all[1].Tree[:])+".program")
		ok(t, os.MkdirAll(filepath.Dir(file), 0o700))
		ok(t, os.Symlink("/dev/full", file))
		o := w.options(dir)
		u, stop := w.run(o)
		spoke := 0
		for range 600 {
			after(time.Second)
			if p := u.Status().Progress; p.Stage == ota.Waiting && p.Reason == ota.ReasonSpace && strings.Contains(p.Detail, "no space left") {
				spoke++
			}
		}
		if spoke < 400 || w.raised()[device.AlarmSpace] == "" || len(w.taken()) > 0 {
			t.Fatalf("said so for %d s of 600, alarms %v, handed over %v", spoke, w.raised(), w.taken())
		}
		if _, err := u.Check(t.Context()); err != nil {
			t.Errorf("the loop has ended: %v", err)
		}
		stop()
		ok(t, os.Remove(file))
		_, stop = w.run(w.options(dir))
		after(10 * time.Minute)
		stop()
		if got := w.taken(); !slices.Equal(got, []string{path15}) {
			t.Errorf("with room: handed over %v", got)
		}
	})
}

// TestRolloutsOfOthers: of two rollouts the higher number counts, whoever was first; one of somebody who may not update this device is no rollout.
func TestRolloutsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		limited := key(4)
		w.grant(fleet.Grant{Member: limited.ID(), Name: "bob", Roles: fleet.Operator, Rights: []fleet.Right{{Do: fleet.Update, On: []string{"site=barn"}, What: []string{"stable"}}}})
		w.roll(7, limited, nil)
		o := w.options(t.TempDir())
		u, _ := w.run(o)
		after(time.Minute)
		if p := u.Status().Progress; p.Stage != ota.Idle || w.raised()[device.AlarmRight] == "" {
			t.Errorf("%+v, alarms %v", p, w.raised())
		}
		w.roll(8, w.operator, func(r *rollout.Rollout) { r.Paused = true })
		_, err := u.Check(t.Context())
		ok(t, err)
		after(3 * time.Second)
		if p := u.Status().Progress; p.Reason != ota.ReasonPaused || len(w.raised()) > 0 {
			t.Errorf("%+v, alarms %v", p, w.raised())
		}
		w.set(func() { w.down = true })
		after(time.Hour)
		if p := u.Status().Progress; p.Reason != ota.ReasonPaused {
			t.Errorf("without hubs: %+v", p)
		}
	})
}

// TestProgressNumberGoesOn: a device whose folder is lost goes on after what the fleet knows of it.
func TestProgressNumberGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, stop := w.run(w.options(t.TempDir()))
		after(time.Minute)
		stop()
		_, first := w.told()
		o := w.options(t.TempDir())
		o.Running = "1.5.0"
		_, stop = w.run(o)
		after(time.Minute)
		stop()
		if p, n := w.told(); n <= first || p.Version != "1.5.0" {
			t.Errorf("told %+v, number %d after %d", p, n, first)
		}
	})
}

// TestMirror: a hub keeps every program of the metadata, whatever is rolled out, and lets go what is named no more.
func TestMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.meta.all[0].Channel = "beta"
		o := w.options(t.TempDir())
		o.Mirror, o.Slots = true, nil
		u, _ := w.run(o)
		after(2 * time.Minute)
		if s := u.Status(); s.Programs != 2 || s.Complete != 2 {
			t.Errorf("%d of %d programs are here", s.Complete, s.Programs)
		}
		gone := w.meta.all[0].Tree
		w.set(func() { w.meta.all = w.meta.all[1:] })
		after(2 * time.Minute)
		if _, known := o.Depot.Holding(gone); known {
			t.Error("what is named no more is still here")
		}
		if s := u.Status(); s.Programs != 1 || s.Complete != 1 {
			t.Errorf("%d of %d programs are here", s.Complete, s.Programs)
		}
	})
}

// TestBundle: from a USB stick comes what is newer and for this machine, whatever rollout and quiet hours say, and nothing that was not signed.
func TestBundle(t *testing.T) {
	quiet, err := device.ParseQuiet("08:00-18:00")
	ok(t, err)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sources = nil
		w.set(func() { w.down = true })
		bundle := func(spoil bool) *trust.Bundle {
			b := bundleOf(t, w, spoil)
			t.Cleanup(func() { ok(t, b.Close()) })
			return b
		}
		o := w.options(t.TempDir())
		o.Quiet = []device.Quiet{quiet}
		u, stop := w.run(o)
		if _, err := u.TakeBundle(t.Context(), bundle(true)); !errors.Is(err, trust.ErrMismatch) {
			t.Errorf("a changed program: %v", err)
		}
		a, err := u.TakeBundle(t.Context(), bundle(false))
		ok(t, err)
		after(time.Minute)
		stop()
		if got := w.taken(); a.Version != "1.5.0" || !slices.Equal(got, []string{path15}) {
			t.Errorf("took %s, handed over %v", a.Version, got)
		}
		o.Running = "1.5.0"
		u, _ = w.run(o)
		if _, err := u.TakeBundle(t.Context(), bundle(false)); !errors.Is(err, device.ErrNothing) {
			t.Errorf("the same again: %v", err)
		}
		w.set(func() { w.meta.err = trust.ErrExpired })
		if _, err := u.TakeBundle(t.Context(), bundle(false)); !errors.Is(err, trust.ErrExpired) {
			t.Errorf("expired: %v", err)
		}
	})
}

// TestQuiet reads and judges hours.
func TestQuiet(t *testing.T) {
	at := func(h, m int) time.Time { return time.Date(2027, 1, 1, h, m, 0, 0, time.Local) }
	for text, quiet := range map[string][]time.Time{"08:00-18:30": {at(8, 0), at(18, 29)}, "22:00-06:00": {at(23, 0), at(0, 0), at(5, 59)}} {
		q, err := device.ParseQuiet(text)
		ok(t, err)
		for _, h := range quiet {
			if !q.Holds(h) {
				t.Errorf("%s does not hold at %v", text, h)
			}
		}
		if q.Holds(at(7, 59)) || q.Holds(at(18, 30)) || q.String() != text {
			t.Errorf("%s became %s", text, q)
		}
	}
	for _, bad := range []string{"", "8-18", "08:00", "08:00-08:00", "24:00-01:00", "08:00-18:30 "} {
		if _, err := device.ParseQuiet(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// FuzzParseProgress: what is accepted can be shown.
func FuzzParseProgress(f *testing.F) {
	f.Add([]byte(`{"version":"1.4.0","stage":"fetching","percent":40}`))
	f.Add([]byte(`{"version":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := device.ParseProgress(body)
		if err == nil && (p.Percent < 0 || p.Percent > 100 || len(p.Version) > 64) {
			t.Fatalf("%q became %+v", body, p)
		}
	})
}
