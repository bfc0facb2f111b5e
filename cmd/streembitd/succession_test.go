// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// turner is a device's folder between two starts.
type turner struct {
	t     *testing.T
	state string
	fleet *fleet.Fleet
}

func newTurner(t *testing.T) *turner {
	t.Helper()
	w := &turner{t: t, state: t.TempDir()}
	key, err := fleet.LoadOrCreateKey(filepath.Join(w.state, fleet.KeyFile))
	ok(t, err)
	w.fleet = newFleet(t, "lab", fleet.Grant{Member: key.ID(), Name: "dev", Roles: fleet.Device, Labels: []string{"room=cellar"}})
	return w
}

// start opens the folder as a start of the program does, as far as its keys go. The end of the test may be a power cut as well as any other.
func (w *turner) start() (*program, error) {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	p := &program{cfg: config{State: w.state}, clock: (&machine{signed, true}).clock(), logger: log, directing: directing{again: make(chan struct{}, 1)}}
	r, err := openRecord(w.state, p.clock.synced, log)
	ok(w.t, err)
	w.t.Cleanup(func() { _ = r.Close() })
	p.record, p.alarms = r, &alarms{record: r, logger: log}
	p.key, p.origin, err = openKey(w.state, "")
	ok(w.t, err)
	err = p.openFormer(w.fleet)
	if err == nil {
		p.members, err = newMembership(w.fleet, &membership{state: w.state, self: p.key.ID(), clock: p.clock, record: r, alarms: p.alarms, logger: log, taken: p.lookForNextKey})
	}
	ok(w.t, errors.Join(r.Close()))
	return p, err
}

// ask calls the action and proves what it says.
func (w *turner) ask(p *program) fleet.Succession {
	w.t.Helper()
	v, err := p.rotateKey(w.t.Context(), nil)
	ok(w.t, err)
	raw, err := base64.StdEncoding.DecodeString(v.(map[string]any)["proof"].(string))
	ok(w.t, err)
	s, err := fleet.OpenSuccession(w.fleet.ID(), raw)
	ok(w.t, err)
	return s
}

func (w *turner) grant(s fleet.Succession) {
	w.t.Helper()
	var err error
	w.fleet, err = w.fleet.Succeed(owner, signed, s)
	ok(w.t, err)
}

// copied is the folder as a power cut would leave it.
func (w *turner) copied() *turner {
	w.t.Helper()
	to := &turner{t: w.t, state: w.t.TempDir(), fleet: w.fleet}
	ok(w.t, os.CopyFS(to.state, os.DirFS(w.state)))
	keys, err := filepath.Glob(filepath.Join(to.state, "*.pem"))
	ok(w.t, err)
	for _, path := range keys { // CopyFS lets others read
		ok(w.t, os.Chmod(path, 0o600))
	}
	return to
}

// TestSuccession_PowerCutAtEachStep: whenever the power goes, the next start has the old key or the new one, knows what keys it had, and comes to the new one once it
// is granted; the key that it had is never among those that it has given up.
func TestSuccession_PowerCutAtEachStep(t *testing.T) {
	w := newTurner(t)
	p, err := w.start()
	ok(t, err)
	s := w.ask(p)
	if again := w.ask(p); again != s || s.Old != p.key.ID() {
		t.Fatalf("the proofs %+v and %+v", s, again)
	}
	proposed := w.copied()
	if p, err = proposed.start(); err != nil || p.key.ID() != s.Old || proposed.ask(p) != s || len(p.formerKeys()) != 0 {
		t.Fatalf("before it is granted: %s, %v, had %v", p.key.ID(), err, p.formerKeys())
	}
	w.grant(s)
	granted := w.copied()
	next, err := keySource(granted.state, "").OpenNext(fleet.FromFile)
	ok(t, err)
	noted := &program{cfg: config{State: granted.state}, key: p.key}
	ok(t, noted.noteFormer(s, next)) // and there the power goes
	cut := granted.copied()
	q, err := granted.start()
	if err != nil || q.key.ID() != s.New || !slices.Equal(q.formerKeys(), []edge.ID{s.Old}) || len(q.former) != 1 {
		t.Fatalf("after a cut between the note and the key: %s, %v, had %v", q.key.ID(), err, q.former)
	}
	ok(t, keySource(cut.state, "").AdoptNext(fleet.FromFile)) // and there, before the audit was written
	if q, err = cut.start(); err != nil || q.key.ID() != s.New || !slices.Equal(q.formerKeys(), []edge.ID{s.Old}) {
		t.Fatalf("after a cut behind the key: %s, %v, had %v", q.key.ID(), err, q.former)
	}
	if q, err = cut.start(); err != nil || q.key.ID() != s.New || len(q.former) != 1 {
		t.Fatalf("started again: %s, %v, had %v", q.key.ID(), err, q.former)
	}
}

// TestSuccession_StartsAnewWhenGranted: the running device goes on with its key until the fleet has granted the next one, in the old one's place and no other.
func TestSuccession_StartsAnewWhenGranted(t *testing.T) {
	w := newTurner(t)
	p, err := w.start()
	ok(t, err)
	s := w.ask(p)
	other, err := w.fleet.Grant(owner, signed, fleet.Grant{Member: s.New, Name: "elsewhere", Roles: fleet.Device})
	ok(t, err)
	p.lookForNextKey(other)
	p.lookForNextKey(w.fleet)
	if len(p.again) != 0 {
		t.Fatal("it starts anew, though nobody gave the next key its place")
	}
	w.grant(s)
	_, err = p.members.merge(w.fleet.Delta(fleet.Digest{}))
	ok(t, err)
	if len(p.again) != 1 {
		t.Fatal("it goes on with the old key")
	}
}

// TestSuccession_OldProofChangesNothing: after a device has its new key and the old one is out, the proof of before is of no use to anybody, and a call begins anew.
func TestSuccession_OldProofChangesNothing(t *testing.T) {
	w := newTurner(t)
	p, err := w.start()
	ok(t, err)
	s := w.ask(p)
	w.grant(s)
	p, err = w.start()
	ok(t, err)
	w.fleet, err = w.fleet.Revoke(owner, signed, s.Old, nil, "rotated")
	ok(t, err)
	_, err = p.members.merge(w.fleet.Delta(fleet.Digest{}))
	ok(t, err)
	if _, err := w.fleet.Succeed(owner, signed, s); !errors.Is(err, fleet.ErrNotMember) {
		t.Errorf("the old proof once more: %v", err)
	}
	if next := w.ask(p); next.Old != s.New || next.New == s.Old {
		t.Errorf("called again: %+v", next)
	}
	if len(p.again) != 0 {
		t.Error("it starts anew")
	}
}

// TestSuccession_DamagedFiles: a next key that cannot be read is no reason not to go on with the present one; not to know whose the outbox is, is one to stop.
func TestSuccession_DamagedFiles(t *testing.T) {
	w := newTurner(t)
	next := filepath.Join(w.state, fleet.NextKeyFile)
	ok(t, os.WriteFile(next, []byte("torn"), 0o600))
	p, err := w.start()
	if ok(t, err); !strings.Contains(p.alarms.list()[0].Text, "remove") {
		t.Errorf("alarms %v", p.alarms.list())
	}
	if _, err := p.rotateKey(t.Context(), nil); err == nil {
		t.Error("a key that cannot be read was offered")
	}
	ok(t, os.Remove(next))
	p, err = w.start()
	ok(t, err)
	w.grant(w.ask(p))
	_, err = w.start()
	ok(t, err)
	path := filepath.Join(w.state, formerName)
	text, err := os.ReadFile(path)
	ok(t, err)
	for _, bad := range [][]byte{nil, text[:len(text)-1], append(text[:20:20], make([]byte, len(text)-20)...)} {
		ok(t, os.WriteFile(path, bad, 0o644))
		if _, err := w.start(); err == nil || !strings.Contains(err.Error(), formerName) {
			t.Errorf("%d bytes in %s: %v", len(bad), formerName, err)
		}
	}
}

// TestSuccession_OnlyForDevices: a hub's key decides where data lies, and a credential is not the program's to replace.
func TestSuccession_OnlyForDevices(t *testing.T) {
	w := newTurner(t)
	p, err := w.start()
	ok(t, err)
	if len(p.keyActions()) != 1 || !p.keyActions()["rotate-key"].Signed {
		t.Errorf("a device's actions: %v", p.keyActions())
	}
	p.origin = fleet.FromCredential
	if len(p.keyActions()) != 0 {
		t.Error("offered for a credential")
	}
	p.origin = fleet.FromFile
	g, _ := w.fleet.Member(p.key.ID())
	g.Roles, g.Serial = fleet.Device|fleet.Hub, 0
	w.fleet, err = w.fleet.Grant(owner, signed, g)
	ok(t, err)
	_, err = p.members.merge(w.fleet.Delta(fleet.Digest{}))
	ok(t, err)
	if len(p.keyActions()) != 0 {
		t.Error("offered for a hub")
	}
}
