// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
)

// The days of the tests: signed is what the owner's clock showed.
var (
	signed = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	epoch  = time.Unix(0, 0)
	in2099 = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
)

func testKey(n byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	owner  = fleet.Author{Key: testKey(1)}
	hubKey = testKey(3)
	devKey = testKey(4)
)

// newFleet is a fleet with a hub.
func newFleet(t *testing.T, name string, grants ...fleet.Grant) *fleet.Fleet {
	t.Helper()
	recovery, err := journal.GenerateReaderKey()
	ok(t, err)
	f, err := fleet.Found(fleet.Founding{Name: name, Owner: owner.Key, Spare: testKey(2).ID(), Recovery: recovery.Public()}, signed)
	ok(t, err)
	f, err = f.Grant(owner, signed, append([]fleet.Grant{{Member: hubKey.ID(), Name: "hub", Roles: fleet.Hub}}, grants...)...)
	ok(t, err)
	return f
}

func deviceUntil(expires time.Time) fleet.Grant {
	g := fleet.Grant{Member: devKey.ID(), Name: "dev", Roles: fleet.Device}
	if !expires.IsZero() {
		g.Expires = expires.UnixMilli()
	}
	return g
}

// machine is a clock that a test sets.
type machine struct {
	now    time.Time
	synced bool
}

func (m *machine) clock() *wallClock {
	return &wallClock{now: func() time.Time { return m.now }, synced: func() bool { return m.synced }}
}

// member is a state folder with a fleet in it.
func member(t *testing.T, f *fleet.Fleet, self journal.SoftKey, c *wallClock) *membership {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	ok(t, f.Save(filepath.Join(dir, bundleName)))
	r, err := openRecord(dir, c.synced, log)
	ok(t, err)
	t.Cleanup(func() { ok(t, r.Close()) })
	f, err = loadFleet(dir)
	ok(t, err)
	m, err := newMembership(f, &membership{state: dir, self: self.ID(), clock: c, record: r, alarms: &alarms{record: r, logger: log}, logger: log})
	ok(t, err)
	return m
}

func events(t *testing.T, dir, kind string) (out []audit.Event) {
	t.Helper()
	_, err := audit.Read(filepath.Join(dir, auditFolder), func(e audit.Event) error {
		if strings.HasPrefix(e.Event, kind) {
			out = append(out, e)
		}
		return nil
	})
	ok(t, err)
	return out
}

// TestExpiry_WithoutClock: a board that thinks it is 1970, and one that somebody told it is 2099, judge by the owner's time; a clock that the kernel vouches for
// decides, and a wrong one leaves nothing behind.
func TestExpiry_WithoutClock(t *testing.T) {
	ends := signed.Add(time.Hour)
	for _, c := range []struct {
		name    string
		expires time.Time
		at      machine
		want    string
	}{
		{"1970, never ends", time.Time{}, machine{epoch, false}, "member"},
		{"1970, not ended", ends, machine{epoch, false}, "member"},
		{"1970, ended before the owner's last word", signed.Add(-time.Hour), machine{epoch, false}, "expired"},
		{"1970 that the kernel believes", ends, machine{epoch, true}, "member"},
		{"2099 that nobody vouches for", ends, machine{in2099, false}, "member"},
		{"2099, never ends", time.Time{}, machine{in2099, true}, "member"},
		{"right, not ended", ends, machine{ends.Add(-time.Second), true}, "member"},
		{"right, ended", ends, machine{ends.Add(time.Second), true}, "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := member(t, newFleet(t, "lab", deviceUntil(c.expires)), devKey, c.at.clock()).standing(); got != c.want {
				t.Errorf("the device is %s, want %s", got, c.want)
			}
		})
	}

	at := machine{in2099, true} // NTP lies
	m := member(t, newFleet(t, "lab", deviceUntil(ends)), devKey, at.clock())
	before, err := os.ReadFile(filepath.Join(m.state, bundleName))
	ok(t, err)
	if m.standing() != "expired" {
		t.Error("a clock that the kernel vouches for did not count")
	}
	if at.now = signed.Add(time.Minute); !m.look() || m.standing() != "member" {
		t.Error("the right time does not undo the wrong one")
	}
	if at.now = ends.Add(time.Minute); !m.look() || m.look() || m.standing() != "expired" {
		t.Error("the end was not noticed, or noticed twice")
	}
	at.synced = false
	if !m.look() || m.standing() != "member" {
		t.Error("a clock that is unsynced again still counts")
	}
	s := m.clock.status(m.get().Floor())
	if s.Synced || !s.Ever || !s.Floor.Equal(signed) || !strings.HasPrefix(s.String(), "unsynced now, not before 2026-06-01") {
		t.Errorf("status: %+v %s", s, s)
	}
	after, err := os.ReadFile(filepath.Join(m.state, bundleName))
	if err != nil || !bytes.Equal(before, after) {
		t.Error("a time was persisted")
	}
}

func TestMembership_SavesBeforeItCounts(t *testing.T) {
	m := member(t, newFleet(t, "lab", deviceUntil(time.Time{})), hubKey, (&machine{signed, true}).clock())
	known := m.get()
	next, err := known.Revoke(owner, signed, devKey.ID(), nil, "stolen")
	ok(t, err)
	lost, err := next.Grant(owner, signed, fleet.Grant{Member: testKey(9).ID(), Name: "late", Roles: fleet.Device})
	ok(t, err)

	ok(t, os.Chmod(m.state, 0o500))
	if os.Geteuid() == 0 { // root may write everywhere: the folder is gone instead
		ok(t, os.Rename(m.state, m.state+".away"))
	}
	if f, err := m.merge(next.Delta(known.Digest())); err == nil || !f.IsMember(devKey.ID()) {
		t.Errorf("what could not be saved counts: %v", err)
	}
	if all := m.alarms.list(); len(all) != 1 || all[0].Kind != alarmSave {
		t.Errorf("alarms: %v", all)
	}
	if os.Geteuid() == 0 {
		ok(t, os.Rename(m.state+".away", m.state))
	}
	ok(t, os.Chmod(m.state, 0o700))

	// A person puts a newer file there, and the network brings something too: nothing is lost.
	enc, err := lost.Encoded()
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(m.state, bundleName), enc, 0o644))
	f, err := m.merge(next.Delta(known.Digest()))
	if err != nil || f.IsMember(devKey.ID()) || !f.IsMember(testKey(9).ID()) {
		t.Errorf("after the merge: %v", err)
	}
	again, err := loadFleet(m.state)
	if err != nil || again.Digest().Hash() != f.Digest().Hash() {
		t.Errorf("on disk is something else: %v", err)
	}
	if all := m.alarms.list(); len(all) != 0 {
		t.Errorf("the alarm stays: %v", all)
	}
	if g, r := events(t, m.state, evGrant), events(t, m.state, evRevoke); len(g) != 1 || len(r) != 1 || r[0].Detail != "stolen" {
		t.Errorf("audit log: %v %v", g, r)
	}

	// What is older, or another fleet's, changes nothing, and the file is put right.
	for name, other := range map[string]*fleet.Fleet{"older": known, "another fleet's": newFleet(t, "lab")} {
		enc, err := other.Encoded()
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(m.state, bundleName), enc, 0o644))
		if err := m.reload(); !errors.Is(err, fleet.ErrRollback) && !errors.Is(err, fleet.ErrWrongFleet) {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := loadFleet(m.state); err != nil || again.Digest().Hash() != f.Digest().Hash() {
			t.Errorf("%s: on disk is something else: %v", name, err)
		}
	}
}

// waiting is a newcomer without a network.
func waiting(t *testing.T, c *wallClock, token *enroll.Token, roles ...string) *newcomer {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	r, err := openRecord(dir, c.synced, log)
	ok(t, err)
	t.Cleanup(func() { ok(t, r.Close()) })
	return &newcomer{cfg: &config{State: dir, Roles: roles}, logger: log, record: r, alarms: &alarms{record: r, logger: log}, clock: c,
		code: enroll.Code{Device: devKey.ID(), Secret: enroll.Secret{1, 2}}, done: make(chan *fleet.Fleet, 1), token: token,
		hubs: map[edge.ID]*asked{}, logged: map[string]bool{}}
}

// TestConsider: what a device without a fleet believes, and what not.
func TestConsider(t *testing.T) {
	f := newFleet(t, "lab", deviceUntil(time.Time{}))
	empty := newFleet(t, "lab2")
	ended := newFleet(t, "lab3", deviceUntil(signed.Add(time.Hour)))
	plain := func(c enroll.Code, f *fleet.Fleet, by edge.ID) *enroll.Approval {
		a := c.Approve(f.ID(), by)
		return &a
	}
	code := enroll.Code{Device: devKey.ID(), Secret: enroll.Secret{1, 2}}
	guessed := enroll.Code{Device: devKey.ID(), Secret: enroll.Secret{1, 3}}
	token := enroll.NewToken(f, signed.Add(time.Hour))
	wrongOwner := token
	wrongOwner.Owner = testKey(7).ID()
	tokenOf := func(f *fleet.Fleet) *enroll.Token { tk := enroll.NewToken(f, signed.Add(time.Hour)); return &tk }
	by := owner.Key.ID()
	for _, c := range []struct {
		name  string
		token *enroll.Token
		a     *enroll.Approval
		f     *fleet.Fleet
		roles []string
		want  error
		event string
	}{
		{"code", nil, plain(code, f, by), f, nil, nil, evClaimed},
		{"token", &token, nil, f, nil, nil, evClaimed},
		{"token, an approval of an earlier code beside it", &token, plain(guessed, f, by), f, nil, nil, evClaimed},
		{"granted by name alone", nil, nil, f, nil, errNoProof, evBadBundle},
		{"guessed code", nil, plain(guessed, f, by), f, nil, enroll.ErrBadProof, evBadApprove},
		{"approval of one fleet with the bundle of another", nil, plain(code, f, by), ended, nil, fleet.ErrWrongFleet, evBadOwner},
		{"approval for another fleet than the token's", &token, plain(code, ended, by), ended, nil, fleet.ErrWrongFleet, evBadOwner},
		{"bundle of another fleet than the token's", &token, nil, ended, nil, fleet.ErrWrongFleet, evBadOwner},
		{"token that names another owner", &wrongOwner, nil, f, nil, fleet.ErrNotOwner, evBadBundle},
		{"approval by nobody", nil, plain(code, f, testKey(8).ID()), f, nil, fleet.ErrNotAllowed, evBadApprove},
		{"approval by a hub", nil, plain(code, f, hubKey.ID()), f, nil, fleet.ErrNotAllowed, evBadApprove},
		{"not granted", nil, plain(code, empty, by), empty, nil, fleet.ErrNotMember, evBadApprove},
		{"not granted, token", tokenOf(empty), nil, empty, nil, fleet.ErrNotMember, evBadBundle},
		{"other role than the config's", nil, plain(code, f, by), f, []string{"hub"}, errNotGranted, evBadApprove},
		{"grant that has ended", nil, plain(code, ended, by), ended, nil, fleet.ErrNotMember, evBadApprove},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := waiting(t, (&machine{signed.Add(2 * time.Hour), true}).clock(), c.token, c.roles...)
			err := n.consider(c.a, c.f.Delta(fleet.Digest{}), "a test")
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if got := events(t, n.cfg.State, c.event); len(got) != 1 {
				t.Errorf("audit log: %v", got)
			}
			saved, lerr := loadFleet(n.cfg.State)
			if (lerr == nil) != (err == nil) || err == nil && saved.ID() != c.f.ID() {
				t.Errorf("saved: %v", lerr)
			}
			if err := n.consider(c.a, c.f.Delta(fleet.Digest{}), "again"); err == nil {
				t.Error("it was taken a second time")
			}
		})
	}
	t.Run("damaged", func(t *testing.T) {
		b := f.Delta(fleet.Digest{})
		b.Logs = [][][]byte{{append(bytes.Clone(b.Logs[0][0]), 0)}}
		n := waiting(t, (&machine{signed, true}).clock(), &token)
		if err := n.consider(nil, b, "a test"); err == nil {
			t.Error("a damaged bundle was taken")
		}
		if err := n.consider(nil, fleet.Bundle{}, "a test"); err == nil {
			t.Error("nothing was taken for a fleet")
		}
	})
}
