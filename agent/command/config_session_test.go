// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// TestConfig_AskedTwice: two operators at once, and one who asks again after the restart, replace the config once.
func TestConfig_AskedTwice(t *testing.T) {
	m, dir := newMachine(t), t.TempDir()
	recovery, err := journal.GenerateReaderKey()
	ok(t, err)
	at := time.UnixMilli(1_760_000_000_000)
	fl, err := fleet.Found(fleet.Founding{Name: "lab", Owner: owner, Spare: key(2).ID(), Recovery: recovery.Public()}, at)
	ok(t, err)
	fl, err = fl.Grant(fleet.Author{Key: owner}, at, fleet.Grant{Member: device.ID(), Name: "pi-1", Roles: fleet.Device},
		fleet.Grant{Member: eve.ID(), Name: "eve", Roles: fleet.Operator, Rights: []fleet.Right{{Do: fleet.Command, On: []string{"*"}, What: []string{"config.*"}}}})
	ok(t, err)
	var mu sync.Mutex
	restarts := 0
	// program is one run of the device's program.
	program := func() (f *command.ConfigFile, open func(as journal.SoftKey) *direct.Session, end func()) {
		f, err := m.start()
		ok(t, err)
		ledger, err := command.OpenLedger(dir, slog.New(slog.DiscardHandler))
		ok(t, err)
		actions := f.Actions(command.Pushable{Check: func(_, _ []byte) error { return nil }, Before: func() (s command.Standing) { return s }, Note: func(edge.ID, string) {},
			Restart: func() { mu.Lock(); restarts++; mu.Unlock() }})
		of := map[string]thing.Action{}
		for name, a := range actions {
			of[name] = a.Action
		}
		d := thing.Build(thing.Device{ID: device.ID(), Title: "pi-1", Actions: of})
		d.NextVersion(0)
		record, err := thing.Sign(device, d)
		ok(t, err)
		s, err := direct.NewServer(direct.Options{Self: device.ID(), Fleet: func() *fleet.Fleet { return fl }, Thing: func() (*thing.Description, []byte) { return d, record },
			Doer: acting(actions), Ledger: ledger, Audit: deaf{}})
		ok(t, err)
		var serving sync.WaitGroup
		open = func(as journal.SoftKey) *direct.Session {
			mine, theirs := net.Pipe()
			serving.Go(func() { _ = s.Serve(context.Background(), theirs, as.ID()) })
			session, err := direct.Open(context.Background(), mine, direct.Config{Signer: as, Device: device.ID()})
			ok(t, err)
			return session
		}
		return f, open, func() { ok(t, s.Close()); serving.Wait(); ok(t, ledger.Close()) }
	}
	_, open, end := program()
	sets := map[edge.ID]direct.Request{}
	errs := map[edge.ID]error{}
	var asking sync.WaitGroup
	for n, as := range []journal.SoftKey{owner, eve} {
		text := fmt.Sprintf("%s# %d\n", newConfig, n)
		s := open(as)
		_, err := s.Do(t.Context(), direct.Request{Op: direct.Call, Name: command.ConfigCheck, Value: map[string]any{"text": text}})
		ok(t, err)
		sets[as.ID()] = direct.Request{ID: direct.NewID(), Op: direct.Call, Name: command.ConfigSet, Sign: true,
			Value: map[string]any{"sha256": command.Hash([]byte(text)), "replaces": command.Hash([]byte(oldConfig))}}
		unsigned := sets[as.ID()]
		unsigned.ID, unsigned.Sign = direct.NewID(), false
		if _, err := s.Do(t.Context(), unsigned); direct.ReasonOf(err) != direct.NotSigned {
			t.Errorf("without a signature of its own: %v", err)
		}
		set := sets[as.ID()]
		asking.Go(func() {
			_, err := s.Do(t.Context(), set)
			mu.Lock()
			errs[as.ID()] = err
			mu.Unlock()
			_ = s.Close()
		})
	}
	asking.Wait()
	winner := owner
	if errs[owner.ID()] != nil {
		winner = eve
	}
	if (errs[owner.ID()] == nil) == (errs[eve.ID()] == nil) {
		t.Fatalf("two at once: %v", errs)
	}
	end()
	if restarts != 1 {
		t.Errorf("%d restarts", restarts)
	}
	mine := m.text(t)
	f, open, end := program()
	ok(t, f.RollBack("it does not come back"))
	s := open(winner)
	v, err := s.Do(t.Context(), sets[winner.ID()])
	if got, _ := v.(map[string]any); err != nil || got["state"] != command.TrialReady {
		t.Errorf("asked again after the restart: %v %v", v, err)
	}
	_ = s.Close()
	end()
	if m.text(t) != oldConfig || restarts != 1 {
		t.Errorf("asking again brought %q back, %d restarts", mine, restarts)
	}
}

// acting is a direct.Doer of actions alone.
type acting map[string]command.Action

func (a acting) Do(ctx context.Context, o *direct.Order) (any, error) { return a[o.Name].Do(ctx, o) }

// deaf is an audit that nobody reads.
type deaf struct{}

func (deaf) Called(direct.Act)         {}
func (deaf) Ended(direct.Act, error)   {}
func (deaf) Refused(direct.Act, error) {}
