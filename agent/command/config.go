// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/thing"
)

// The actions on the config. Each takes the right to command that name.
const (
	ConfigGet   = "config.get"   // streams the file
	ConfigCheck = "config.check" // judges a new one, and remembers it for ConfigSet
	ConfigSet   = "config.set"   // replaces the file by one that was checked, and starts the program anew; signed singly
	ConfigState = "config.state" // what became of the last one
)

// MaxConfig is how large a pushed config may be, in bytes: it fits one request.
const MaxConfig = 15_000

// maxChecked is how many checked configs are remembered, until the program ends.
const maxChecked = 4

// Hash names a config: SHA-256 in base64url. It is what a push says that it replaces, and what its signature covers.
func Hash(text []byte) string {
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Pushable is what a program lends for its config to be replaced.
type Pushable struct {
	Check   func(old, text []byte) error // of a config in place of the old one; its text is for the operator, with file and line
	Before  func() Standing              // as it is now
	Restart func()                       // in order; it does not wait
	Note    func(who edge.ID, what string)
}

// pusher does the actions.
type pusher struct {
	f *ConfigFile
	p Pushable

	mu      sync.Mutex // also: one change at a time
	checked [][]byte   // the latest last
}

// Actions returns what members can do with the config.
func (f *ConfigFile) Actions(p Pushable) map[string]Action {
	w := &pusher{f: f, p: p}
	limit, short := MaxConfig, 64
	object := func(required []string, fields map[string]thing.Schema) *thing.Schema {
		return &thing.Schema{Type: thing.Object, Properties: fields, Required: required}
	}
	hash := thing.Schema{Type: thing.String, MaxLength: &short}
	names := thing.Schema{Type: thing.String, MaxLength: &limit, Description: "sensors that may fail with it, joined by commas"}
	out := &thing.Schema{Type: thing.Object}
	return map[string]Action{
		ConfigGet: {Action: thing.Action{Title: "get the config file", Safe: true, Idempotent: true, Data: "application/toml", Output: out}, Do: w.get},
		ConfigCheck: {Action: thing.Action{Title: "check a new config file", Safe: true, Idempotent: true, Output: out,
			Input: object([]string{"text"}, map[string]thing.Schema{"text": {Type: thing.String, MaxLength: &limit}})}, Do: w.check},
		ConfigSet: {Action: thing.Action{Title: "replace the config file and start anew", Signed: true, Output: out,
			Description: "by one that was checked; the old one comes back by itself unless the device does within a minute",
			Input:       object([]string{"sha256", "replaces"}, map[string]thing.Schema{"sha256": hash, "replaces": hash, "accept": names})}, Do: w.set},
		ConfigState: {Action: thing.Action{Title: "what became of the last new config", Safe: true, Idempotent: true, Output: out}, Do: w.state},
	}
}

func (w *pusher) get(_ context.Context, o *direct.Order) (any, error) {
	text, err := os.ReadFile(w.f.path)
	if err != nil {
		return nil, fmt.Errorf("command: reading config: %w", err)
	}
	if _, err := o.Write(text); err != nil {
		return nil, err
	}
	return map[string]any{"sha256": Hash(text), "file": w.f.path}, nil
}

// check answers with what is wrong rather than refusing, since that takes more lines than a refusal has.
func (w *pusher) check(_ context.Context, o *direct.Order) (any, error) {
	text, _ := field(o, "text").(string)
	old, err := os.ReadFile(w.f.path)
	if err != nil {
		return nil, fmt.Errorf("command: reading config: %w", err)
	}
	answer := map[string]any{"sha256": Hash([]byte(text)), "replaces": Hash(old), "file": w.f.path}
	if err := errors.Join(w.p.Check(old, []byte(text)), w.f.writable()); err != nil {
		answer["wrong"] = strings.ToValidUTF8(fmt.Sprintf("%.8000s", err.Error()), "?")
		return answer, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checked = append(w.checked, []byte(text))
	w.checked = w.checked[max(0, len(w.checked)-maxChecked):]
	return answer, nil
}

func (w *pusher) set(_ context.Context, o *direct.Order) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want, _ := field(o, "sha256").(string)
	replaces, _ := field(o, "replaces").(string)
	accept, _ := field(o, "accept").(string)
	var text []byte
	for _, c := range w.checked {
		if Hash(c) == want {
			text = c
		}
	}
	if text == nil {
		return nil, &direct.Refusal{Reason: direct.BadArgument, Detail: "no config of that hash was checked since the program's last start: " + ConfigCheck + " comes first"}
	}
	old, err := os.ReadFile(w.f.path)
	if err != nil {
		return nil, fmt.Errorf("command: reading config: %w", err)
	}
	if now := Hash(old); now != replaces {
		return nil, fmt.Errorf("the config was changed meanwhile and is %s now: get it, and put the change into that", now)
	}
	if bytes.Equal(old, text) {
		return map[string]any{"state": TrialKept, "sha256": want}, nil
	}
	if err := w.p.Check(old, text); err != nil { // what it depends on may have changed since
		return nil, err
	}
	before := w.p.Before()
	for name := range strings.SplitSeq(accept, ",") {
		if name != "" {
			before.Failing = append(before.Failing, name)
		}
	}
	if err := w.f.begin(Trial{Old: string(old), OldHash: replaces, NewHash: want, By: o.Peer.String(), Before: before}, text); err != nil {
		return nil, err
	}
	w.p.Note(o.Peer, "written, on trial from the next start on: "+want)
	o.After(w.p.Restart)
	return map[string]any{"state": TrialReady, "sha256": want}, nil
}

func (w *pusher) state(context.Context, *direct.Order) (any, error) {
	t, known := w.f.Last()
	if !known {
		return map[string]any{"state": "none"}, nil
	}
	return map[string]any{"state": t.Called(), "sha256": t.NewHash, "why": fmt.Sprintf("%.2000s", t.Why), "by": t.By}, nil
}

// writable says before anything is touched what keeps this program from replacing the file.
func (f *ConfigFile) writable() error {
	dir := filepath.Dir(f.path)
	try, err := os.CreateTemp(dir, "."+filepath.Base(f.path)+".*")
	if err == nil {
		return errors.Join(try.Close(), os.Remove(try.Name()))
	}
	uid := os.Geteuid()
	abs, aerr := filepath.Abs(dir)
	if aerr != nil {
		abs = dir
	}
	return fmt.Errorf("the program may not write to the folder of its config (%w). On the device, once: sudo chown -R %d '%s', and let its service write there (systemd: ReadWritePaths=%s)",
		err, uid, abs, abs)
}

// Times of a trial.
const (
	TrialLimit  = time.Minute      // within which a program must be back with its new config …
	TrialSettle = 10 * time.Second // … and stay so long
)
