// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/streembit/edge/fleet"
)

// The states of a trial.
const (
	TrialOpen   = "on trial"
	TrialReady  = "written" // how an open one is called before the program was started with it
	TrialKept   = "kept"
	TrialBack   = "rolled back"
	TrialNever  = "not taken"       // the program ended before the new file was in place
	TrialByHand = "changed by hand" // on the device, in the middle of it: nobody undoes what a person wrote
)

// Trial is a new config that must prove itself, or the last one that did. It lies beside the config (".trial"), where it survives whatever the new config breaks.
type Trial struct {
	State   string   `json:"state"`
	By      string   `json:"by"` // id
	OldHash string   `json:"old_sha256"`
	NewHash string   `json:"new_sha256"`
	Why     string   `json:"why,omitempty"`
	Old     string   `json:"old,omitempty"`        // the file that comes back; while the trial is open
	Before  Standing `json:"before,omitzero"`      // what must be so again
	Started int64    `json:"started_ms,omitempty"` // ms since the boot at which the program began to run with it; 0 = it never did
	Boot    string   `json:"boot,omitempty"`       // of Started
	Told    bool     `json:"told,omitempty"`       // the outcome is in the audit
}

// Standing is what works.
type Standing struct {
	Hub     bool     `json:"hub"`               // one is connected
	Failing []string `json:"failing,omitempty"` // sensors that do not work, or may fail to
}

// ConfigFile is a program's config file, which is replaced from afar and comes back unless that goes well. Safe for concurrent use.
//
// What decides stands on the disk before it counts: a trial is written before the new file, and that a program began to run with it before it does. A program
// that finds so at its start was ended before it was back: by a crash, a kill or a power cut. It puts the old file back.
type ConfigFile struct {
	path   string
	uptime Uptime
	write  func(path string, text []byte, mode fs.FileMode) error

	mu   sync.Mutex
	last *Trial
}

// OpenConfig opens a config file at the start of a program, before it reads it, and decides what a trial of the run before comes to. The error is of the trial;
// the file can be used all the same.
func OpenConfig(path string, uptime Uptime) (*ConfigFile, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link stays one
	}
	f := &ConfigFile{path: path, uptime: uptime, write: fleet.WriteFile}
	return f, f.resume()
}

func (f *ConfigFile) trialFile() string { return f.path + ".trial" }

// BeforeFile is where the config stays that the last push replaced.
func (f *ConfigFile) BeforeFile() string { return f.path + ".before" }

func (f *ConfigFile) resume() error {
	raw, err := os.ReadFile(f.trialFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var t Trial
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err == nil && t.State == TrialOpen && Hash([]byte(t.Old)) != t.OldHash {
		err = errors.New("the old config in it is not what its hash says")
	}
	if err != nil {
		return fmt.Errorf("command: reading %s: %w", f.trialFile(), err)
	}
	f.last = &t
	if t.State != TrialOpen {
		return nil
	}
	now, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("command: reading config: %w", err)
	}
	boot, ms := f.uptime()
	switch is := Hash(now); {
	case err == nil && is == t.OldHash && t.Started == 0:
		return f.settle(TrialNever, "the program ended before the new file was in place")
	case err == nil && is == t.OldHash:
		return f.settle(TrialBack, "the program ended while it was on trial")
	case err == nil && is != t.NewHash:
		return f.settle(TrialByHand, "somebody changed the file on the device while it was on trial")
	case t.Started == 0:
		f.last.Started, f.last.Boot = max(1, ms), boot.String()
		return f.save()
	case t.Boot != boot.String():
		return f.RollBack("the machine was started anew while it was on trial: a power cut, or it does not run with this config")
	}
	return f.RollBack(fmt.Sprintf("the program was ended within %s of its start, before it was back", (time.Duration(ms-t.Started) * time.Millisecond).Round(time.Second)))
}

// Called is the state as people see it.
func (t Trial) Called() string {
	if t.State == TrialOpen && t.Started == 0 {
		return TrialReady
	}
	return t.State
}

// begin replaces the file, in an order in which every cut leaves the old file, or the new one on trial.
func (f *ConfigFile) begin(t Trial, text []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil && f.last.State == TrialOpen {
		return fmt.Errorf("another config is on trial, since %s pushed it: come again in a minute", f.last.By)
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("command: replacing config: %w", err)
	}
	if err := f.write(f.BeforeFile(), []byte(t.Old), info.Mode().Perm()); err != nil {
		return err
	}
	before := f.last
	t.State = TrialOpen
	f.last = &t
	if err = f.saveLocked(); err == nil {
		if err = f.write(f.path, text, info.Mode().Perm()); err == nil {
			return nil
		}
		err = errors.Join(err, f.settleLocked(TrialNever, err.Error()))
	}
	if f.last.State == TrialOpen { // nothing on the disk says so
		f.last = before
	}
	return err
}

// OnTrial returns the trial under way, if there is one that this program has begun to run with.
func (f *ConfigFile) OnTrial() (Trial, bool) {
	t, known := f.Last()
	return t, known && t.State == TrialOpen && t.Started > 0
}

// Last returns the last trial, if there was one.
func (f *ConfigFile) Last() (Trial, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		return Trial{}, false
	}
	return *f.last, true
}

var errNoTrial = errors.New("command: no config is on trial")

// Keep ends the trial: the new config stays.
func (f *ConfigFile) Keep() error { return f.settle(TrialKept, "") }

// RollBack ends the trial: the old config comes back. Then the program has to start anew.
func (f *ConfigFile) RollBack(why string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || f.last.State != TrialOpen {
		return errNoTrial
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(f.path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := f.write(f.path, []byte(f.last.Old), mode); err != nil {
		return err
	}
	return f.settleLocked(TrialBack, why)
}

// Told notes that the outcome is in the audit.
func (f *ConfigFile) Told() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last.Told = true
	return f.saveLocked()
}

func (f *ConfigFile) settle(state, why string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || f.last.State != TrialOpen {
		return errNoTrial
	}
	return f.settleLocked(state, why)
}

func (f *ConfigFile) settleLocked(state, why string) error {
	done := *f.last
	done.State, done.Why, done.Old, done.Before, done.Told = state, why, "", Standing{}, false
	f.last = &done
	return f.saveLocked()
}

func (f *ConfigFile) save() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.saveLocked()
}

func (f *ConfigFile) saveLocked() error {
	raw, err := json.MarshalIndent(f.last, "", "  ")
	if err == nil {
		err = f.write(f.trialFile(), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("command: noting trial of config: %w", err)
	}
	return nil
}
