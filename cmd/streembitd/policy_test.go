// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
)

// TestExecutor: what a hub grants under policies, and that a token gives no more than it says.
func TestExecutor(t *testing.T) {
	at := &machine{signed.Add(time.Minute), true}
	reader, text, err := fleet.NewReaderKey()
	ok(t, err)
	otherReader, _, err := fleet.NewReaderKey()
	ok(t, err)
	f := newFleet(t, "lab")
	tokens := map[string]enroll.Token{}
	policy := func(name string, executor edge.ID, uses uint32, ends time.Time, to []byte) {
		tk := enroll.NewToken(f, ends)
		sealed, err := enroll.SealSecret(to, f.ID(), tk.ID, tk.Secret)
		ok(t, err)
		if name == "three" { // somebody who may announce tokens takes the id of another's, with a secret that nobody can open
			f, err = f.Append(owner, signed, fleet.Entry{Policy: &fleet.Policy{ID: tk.ID, Executor: executor, Roles: fleet.Device, Labels: []string{"site=other"},
				Uses: 1, Expires: ends.UnixMilli(), Sealed: sealed[:100]}})
			ok(t, err)
		}
		f, err = f.Append(owner, signed, fleet.Entry{Policy: &fleet.Policy{ID: tk.ID, Executor: executor, Roles: fleet.Device, Labels: []string{"site=lab"},
			Uses: uses, Expires: ends.UnixMilli(), Sealed: sealed}})
		ok(t, err)
		tokens[name] = tk
	}
	hour := signed.Add(time.Hour)
	policy("one", hubKey.ID(), 1, hour, reader.Public())
	policy("three", hubKey.ID(), 3, hour, reader.Public())
	policy("ended", hubKey.ID(), 3, signed.Add(time.Second), reader.Public())
	policy("not for this key", hubKey.ID(), 3, hour, otherReader.Public())
	policy("another hub's", testKey(5).ID(), 3, hour, otherReader.Public())
	m := member(t, f, hubKey, at.clock())
	ok(t, fleet.WriteFile(filepath.Join(m.state, readerName), text, 0o600))
	q, err := enroll.OpenQueue(filepath.Join(m.state, queueName), f.ID())
	ok(t, err)
	told := 0
	x := &executor{state: m.state, key: hubKey, members: m, clock: m.clock, record: m.record, logger: m.logger, changed: func() { told++ },
		wake: make(chan struct{}, 1), secrets: map[string]opened{}}
	d := &desk{self: hubKey.ID(), members: m, clock: m.clock, queue: q, policy: x, record: m.record, logger: m.logger}
	claim := func(name string, device byte, called string) error {
		return d.Claim(p2p.Pending{Claim: tokens[name].Claim(testKey(device).ID(), hubKey.ID(), called), Addr: "/ip4/192.0.2.1/tcp/1", At: time.Now().UnixMilli()})
	}
	grant := func() {
		x.grantAll(q.Waiting(time.Now()))
		d.settled()
	}

	ok(t, claim("three", 20, "Pi.Local"))
	ok(t, claim("three", 21, "../\x1b[2J"))
	ok(t, claim("one", 22, "pi"))
	ok(t, claim("one", 23, "pi")) // both before either is granted
	grant()
	f = m.get()
	first, second := f.IsMember(testKey(22).ID()), f.IsMember(testKey(23).ID())
	if first == second {
		t.Errorf("a token for one made members: %v, %v", first, second)
	}
	a, _ := f.Member(testKey(20).ID())
	b, _ := f.Member(testKey(21).ID())
	id := testKey(20).ID()
	if a.Name != fmt.Sprintf("pi.local-%x", id[:4]) || a.Roles != fleet.Device || fmt.Sprint(a.Labels) != "[site=lab]" || a.Token != tokens["three"].ID {
		t.Errorf("granted: %+v", a)
	}
	if !journal.ValidStream(b.Name) || told == 0 || len(events(t, m.state, evExecuted)) != 3 {
		t.Errorf("%q, told %d times, audited %v", b.Name, told, events(t, m.state, evExecuted))
	}
	if again, err := loadFleet(m.state); err != nil || again.Digest().Hash() != f.Digest().Hash() {
		t.Errorf("not saved: %v", err)
	}
	before := len(f.Members())
	for name, c := range map[string]struct {
		token  string
		device byte
	}{"used up": {"one", 24}, "ended": {"ended", 25}} {
		if err := claim(c.token, c.device, "x"); err == nil {
			t.Errorf("%s: queued", name)
		}
	}
	if err := claim("not for this key", 26, "x"); !strings.Contains(err.Error(), errNotMine.Error()) {
		t.Errorf("a secret that this hub cannot open: %v", err)
	}
	ok(t, claim("another hub's", 27, "x")) // it waits: somebody else can check it
	forged := tokens["three"].Claim(testKey(28).ID(), hubKey.ID(), "x")
	forged.MAC[0] ^= 1
	if err := d.Claim(p2p.Pending{Claim: forged}); err == nil {
		t.Error("a forged claim was queued")
	}
	stranger := enroll.Token{ID: fleet.TokenID{9}, Fleet: f.ID()}.Claim(testKey(29).ID(), hubKey.ID(), "x")
	if err := d.Claim(p2p.Pending{Claim: stranger}); err == nil {
		t.Error("whoever knows no token gets into the queue")
	}
	gone, err := m.get().Revoke(owner, signed, testKey(20).ID(), nil, "lost")
	ok(t, err)
	_, err = m.merge(gone.Delta(m.get().Digest()))
	ok(t, err)
	if err := claim("three", 20, "again"); err == nil {
		t.Error("a revoked key claims its place back")
	}
	at.now = hour.Add(time.Minute)
	ok(t, q.Deposit(enroll.Approval{}, time.Now())) // the queue still works
	grant()
	if n := len(m.get().Members()); n != before-1 || len(q.Waiting(time.Now())) == 0 {
		t.Errorf("%d members after the refusals, %d before; %d claims wait", n, before, len(q.Waiting(time.Now())))
	}

	// The hub's chain was continued elsewhere, or cut: it begins another.
	life, err := x.life()
	ok(t, err)
	if again, err := x.life(); err != nil || again != life {
		t.Errorf("the life does not stay: %v", err)
	}
	x.forked(m.get().Delta(fleet.Digest{}), f.ID())
	if again, err := x.life(); err != nil || again == life {
		t.Errorf("after a fork it goes on with the same chain: %v", err)
	}
}

// TestErase: a secret that cannot be erased is said loudly, one that is not there not at all.
func TestErase(t *testing.T) {
	m := member(t, newFleet(t, "lab", deviceUntil(time.Time{})), devKey, (&machine{signed, true}).clock())
	p := &program{cfg: config{State: m.state, Enroll: enrollConfig{Token: filepath.Join(m.state, tokenName)}}, record: m.record, alarms: m.alarms, logger: m.logger}
	secret := filepath.Join(m.state, claimName)
	ok(t, os.WriteFile(secret, []byte("secret"), 0o600))
	link := filepath.Join(m.state, "kept") // another name of the same file shows what became of its content
	ok(t, os.Link(secret, link))
	other := enroll.NewToken(newFleet(t, "other"), signed.Add(time.Hour))
	other.Hubs = []fleet.Bootstrap{{ID: hubKey.ID(), Addrs: []string{"/ip4/192.0.2.1/tcp/1"}}}
	token, err := other.Encode()
	ok(t, err)
	ok(t, os.WriteFile(p.cfg.Enroll.Token, token, 0o600))
	p.eraseSecrets(m.get())
	if text, err := os.ReadFile(link); err != nil || strings.Trim(string(text), "\x00") != "" {
		t.Errorf("the content is still there: %q, %v", text, err)
	}
	if _, err := os.Stat(secret); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if _, err := os.Stat(p.cfg.Enroll.Token); err != nil || len(events(t, m.state, evBadOwner)) != 1 {
		t.Errorf("another fleet's token: %v, audited %v", err, events(t, m.state, evBadOwner))
	}
	ok(t, os.Mkdir(secret, 0o700)) // what cannot be opened for writing stands for a boot partition that is mounted read-only
	p.eraseSecrets(m.get())
	if len(events(t, m.state, evNotErased)) != 1 {
		t.Error("not audited")
	}
	for _, a := range p.alarms.list() {
		if a.Kind == alarmErase && a.About == secret {
			return
		}
	}
	t.Errorf("alarms: %v", p.alarms.list())
}
