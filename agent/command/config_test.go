// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

const oldConfig, newConfig = "log = \"info\"\n", "log = \"debug\"\n"

// machine is a computer with a config file; its programs come and go.
type machine struct {
	path string
	boot journal.BootID
	ms   int64
}

func newMachine(t *testing.T) *machine {
	m := &machine{path: filepath.Join(t.TempDir(), "d.toml"), boot: journal.BootID{1}, ms: 1000}
	ok(t, os.WriteFile(m.path, []byte(oldConfig), 0o640))
	return m
}

func (m *machine) uptime() (journal.BootID, int64) { return m.boot, m.ms }

// start is what a program does first.
func (m *machine) start() (*command.ConfigFile, error) { return command.OpenConfig(m.path, m.uptime) }

var errCut = errors.New("the power is gone")

// cutter lets so many writes pass. The next one leaves what a cut in its middle leaves, and after that there is nobody to write.
func cutter(passes int) func(string, []byte, fs.FileMode) error {
	return func(path string, text []byte, mode fs.FileMode) error {
		if passes--; passes >= 0 {
			return fleet.WriteFile(path, text, mode)
		}
		if passes == -1 {
			_ = os.WriteFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".123"), text[:len(text)/2], mode)
		}
		return errCut
	}
}

func (m *machine) text(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(m.path)
	ok(t, err)
	return string(b)
}

// does are the actions of a file whose program takes everything and notes its restarts.
func does(f *command.ConfigFile, restarts *int, check func(old, text []byte) error) map[string]command.Action {
	if check == nil {
		check = func(_, _ []byte) error { return nil }
	}
	return f.Actions(command.Pushable{Check: check, Before: func() command.Standing { return command.Standing{Hub: true} },
		Restart: func() { *restarts++ }, Note: func(edge.ID, string) {}})
}

func do(a map[string]command.Action, name string, in map[string]any) (map[string]any, error) {
	v, err := a[name].Do(context.Background(), &direct.Order{Peer: owner.ID(), Op: direct.Call, Name: name, Value: in})
	out, _ := v.(map[string]any)
	return out, err
}

// push checks and sets.
func push(f *command.ConfigFile, old, text string) (map[string]any, error) {
	restarts := 0
	a := does(f, &restarts, nil)
	if v, err := do(a, command.ConfigCheck, map[string]any{"text": text}); err != nil || v["wrong"] != nil {
		return v, fmt.Errorf("checking: %v %w", v["wrong"], err)
	}
	return do(a, command.ConfigSet, map[string]any{"sha256": command.Hash([]byte(text)), "replaces": command.Hash([]byte(old))})
}

// TestConfig_Kept: a config is on trial until it is kept, and stays.
func TestConfig_Kept(t *testing.T) {
	m := newMachine(t)
	f, err := m.start()
	ok(t, err)
	v, err := push(f, oldConfig, newConfig)
	if err != nil || v["state"] != command.TrialReady || m.text(t) != newConfig {
		t.Fatalf("%v %v %q", v, err, m.text(t))
	}
	if _, trying := f.OnTrial(); trying {
		t.Error("on trial before the program was started with it")
	}
	if _, err := push(f, newConfig, oldConfig); err == nil || !strings.Contains(err.Error(), "another config is on trial") {
		t.Errorf("a second one meanwhile: %v", err)
	}
	f, err = m.start()
	ok(t, err)
	tr, trying := f.OnTrial()
	if !trying || !tr.Before.Hub || tr.By != owner.ID().String() {
		t.Fatalf("%+v", tr)
	}
	ok(t, f.Keep())
	for range 2 {
		f, err = m.start()
		ok(t, err)
		if tr, _ := f.Last(); tr.State != command.TrialKept || m.text(t) != newConfig {
			t.Errorf("%+v %q", tr, m.text(t))
		}
	}
	if err := f.RollBack("late"); err == nil {
		t.Error("what was kept was rolled back")
	}
	before, err := os.ReadFile(f.BeforeFile())
	if info, _ := os.Stat(m.path); err != nil || string(before) != oldConfig || info.Mode().Perm() != 0o640 {
		t.Errorf("beside it %q %v, mode %s", before, err, info.Mode())
	}
}

// TestConfig_Ended: a program that is ended while its config is on trial finds the old one again, whatever ended it.
func TestConfig_Ended(t *testing.T) {
	for _, c := range []struct {
		name, why string
		by        func(*machine)
	}{
		{"kill", "the program was ended within 7s of its start", func(m *machine) { m.ms += 7000 }},
		{"power cut", "the machine was started anew", func(m *machine) { m.boot[0]++; m.ms = 500 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			f, err := m.start()
			ok(t, err)
			_, err = push(f, oldConfig, newConfig)
			ok(t, err)
			c.by(m) // before the first start with it: that is no fault of the config
			f, err = m.start()
			ok(t, err)
			if _, trying := f.OnTrial(); !trying || m.text(t) != newConfig {
				t.Fatalf("not on trial with %q", m.text(t))
			}
			c.by(m)
			f, err = m.start()
			ok(t, err)
			if tr, _ := f.Last(); tr.State != command.TrialBack || !strings.Contains(tr.Why, c.why) || m.text(t) != oldConfig || tr.Told {
				t.Errorf("%+v %q", tr, m.text(t))
			}
			ok(t, f.Told())
			f, err = m.start()
			ok(t, err)
			if tr, _ := f.Last(); tr.State != command.TrialBack || !tr.Told {
				t.Errorf("%+v", tr)
			}
		})
	}
}

// TestConfig_ByHand: what a person wrote on the device in the middle of a trial stays.
func TestConfig_ByHand(t *testing.T) {
	m := newMachine(t)
	f, err := m.start()
	ok(t, err)
	_, err = push(f, oldConfig, newConfig)
	ok(t, err)
	_, err = m.start()
	ok(t, err)
	ok(t, os.WriteFile(m.path, []byte("log = \"warn\"\n"), 0o640))
	f, err = m.start()
	ok(t, err)
	if tr, _ := f.Last(); tr.State != command.TrialByHand || m.text(t) != "log = \"warn\"\n" {
		t.Errorf("%+v %q", tr, m.text(t))
	}
}

// TestConfig_PowerCutAtEachWrite cuts the power before and in each write of a push and of the roll back, and starts programs until the file is at rest: it is always
// one of the two as a whole, no program runs with the new one twice, and in the end it is the old one.
func TestConfig_PowerCutAtEachWrite(t *testing.T) {
	cuts := 0
	for first := range 5 { // of the push
		for second := range 4 { // of the roll back
			m := newMachine(t)
			f, err := m.start()
			ok(t, err)
			f.Through(cutter(first))
			if _, err := push(f, oldConfig, newConfig); errors.Is(err, errCut) {
				cuts++
			} else {
				ok(t, err)
			}
			runs := 0 // with the new config
			for start := range 4 {
				m.boot[1]++
				f, err = m.start()
				ok(t, err)
				text := m.text(t)
				if text != oldConfig && text != newConfig {
					t.Fatalf("cut %d: the config is torn: %q", first, text)
				}
				if _, trying := f.OnTrial(); trying != (text == newConfig) {
					t.Fatalf("cut %d: on trial %t with %q", first, trying, text)
				}
				if text == newConfig {
					runs++
					f.Through(cutter(second))
					if err := f.RollBack("it does not come back"); errors.Is(err, errCut) {
						cuts++
					} else {
						ok(t, err)
					}
				}
				if start == 3 && text != oldConfig || runs > 1 {
					t.Errorf("cuts %d, %d: %q after start %d, %d runs with the new one", first, second, text, start, runs)
				}
			}
			want := command.TrialBack
			if first < 3 {
				want = command.TrialNever
			}
			if tr, known := f.Last(); known && tr.State != want || !known && first > 1 {
				t.Errorf("cuts %d, %d: %+v", first, second, tr)
			}
		}
	}
	if cuts < 15 {
		t.Errorf("only %d cuts: this test looks at less than it says", cuts)
	}
}

// TestConfig_Refused: what is not checked, not the same any more, or wrong does not get in.
func TestConfig_Refused(t *testing.T) {
	m := newMachine(t)
	f, err := m.start()
	ok(t, err)
	restarts := 0
	a := does(f, &restarts, func(_, text []byte) error {
		if strings.Contains(string(text), "bad") {
			return errors.New("d.toml:1: bad")
		}
		return nil
	})
	if !a[command.ConfigSet].Signed || a[command.ConfigSet].Safe || !a[command.ConfigGet].Safe || !a[command.ConfigCheck].Safe {
		t.Error("setting a config is what is signed singly, and the rest changes nothing")
	}
	set := func(text, replaces string) error {
		_, err := do(a, command.ConfigSet, map[string]any{"sha256": command.Hash([]byte(text)), "replaces": command.Hash([]byte(replaces))})
		return err
	}
	if err := set(newConfig, oldConfig); direct.ReasonOf(err) != direct.BadArgument {
		t.Errorf("unchecked: %v", err)
	}
	if v, err := do(a, command.ConfigCheck, map[string]any{"text": "bad"}); err != nil || v["wrong"] != "d.toml:1: bad" {
		t.Errorf("%v %v", v, err)
	}
	if err := set("bad", oldConfig); direct.ReasonOf(err) != direct.BadArgument {
		t.Errorf("a wrong one: %v", err)
	}
	_, err = do(a, command.ConfigCheck, map[string]any{"text": newConfig})
	ok(t, err)
	if err := set(newConfig, "another"); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("in place of one that is not there: %v", err)
	}
	if m.text(t) != oldConfig || restarts != 0 {
		t.Errorf("%q after %d restarts", m.text(t), restarts)
	}
	if os.Geteuid() == 0 {
		t.Log("not shown: a folder that may not be written to, since root may write everywhere")
		return
	}
	ok(t, os.Chmod(filepath.Dir(m.path), 0o500))
	defer func() { ok(t, os.Chmod(filepath.Dir(m.path), 0o700)) }()
	if v, err := do(a, command.ConfigCheck, map[string]any{"text": newConfig}); err != nil || !strings.Contains(fmt.Sprint(v["wrong"]), "sudo chown") {
		t.Errorf("%v %v", v, err)
	}
}

// FuzzOpenConfig: whatever stands in the file of the trial, the config is left alone or is the old one that the file proves by its hash, and a second start finds what
// the first one left.
func FuzzOpenConfig(f *testing.F) {
	add := func(t command.Trial) {
		raw, err := json.Marshal(t)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	add(command.Trial{State: command.TrialOpen, Old: oldConfig, OldHash: command.Hash([]byte(oldConfig)), NewHash: command.Hash([]byte(newConfig)), Started: 1})
	add(command.Trial{State: command.TrialOpen, Old: oldConfig, OldHash: command.Hash([]byte(oldConfig)), NewHash: command.Hash([]byte(newConfig))})
	add(command.Trial{State: command.TrialBack, Why: "x"})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := newMachine(t)
		ok(t, os.WriteFile(m.path, []byte(newConfig), 0o640))
		ok(t, os.WriteFile(m.path+".trial", raw, 0o600))
		var said command.Trial
		bad := json.Unmarshal(raw, &said)
		file, err := m.start()
		if (bad != nil) != (err != nil) && bad != nil {
			t.Fatalf("%q was taken: %v", raw, err)
		}
		text := m.text(t)
		if text != newConfig && (text != said.Old || command.Hash([]byte(text)) != said.OldHash || said.State != command.TrialOpen || said.Started == 0) {
			t.Fatalf("%q made the config %q", raw, text)
		}
		if _, trying := file.OnTrial(); err == nil && !trying {
			if _, err := m.start(); err != nil || m.text(t) != text {
				t.Fatalf("a second start: %v, %q", err, m.text(t))
			}
		}
	})
}
