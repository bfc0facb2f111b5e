// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

// cluster is a fleet whose hubs are real stores, reached without a network.
type cluster struct {
	*transporttest.World
	t      *testing.T
	stores map[edge.ID]*store.Store

	mu    sync.Mutex
	acked map[edge.ID]map[string][]byte // by hub and place: what it said it has
}

func newCluster(t *testing.T, hubs int) *cluster {
	c := &cluster{World: transporttest.NewWorld(t, hubs, 1), t: t, stores: map[edge.ID]*store.Store{}, acked: map[edge.ID]map[string][]byte{}}
	for _, id := range c.HubIDs() {
		c.open(id)
	}
	return c
}

func (c *cluster) open(id edge.ID) {
	s, err := store.Open(c.t.Context(), c.t.TempDir(), store.Options{Fleet: c.Fleet, Self: id})
	check(c.t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores[id], c.acked[id] = s, map[string][]byte{}
}

func (c *cluster) at(hub edge.ID) *store.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores[hub]
}

func (c *cluster) close() {
	for _, s := range c.stores {
		check(c.t, s.Close())
	}
}

func (c *cluster) Put(ctx context.Context, hub edge.ID, segment []byte) error {
	err := c.at(hub).Put(ctx, segment)
	if err == nil {
		seg, oerr := journal.Open(segment, c.Fleet().ID())
		check(c.t, oerr)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.acked[hub][fmt.Sprint(seg.Chain, seg.Seq)] = bytes.Clone(segment)
	}
	return err
}

func (c *cluster) Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func([]byte) error) error {
	return c.at(hub).Fetch(ctx, chain, span, visit)
}

func (c *cluster) Held(ctx context.Context, hub edge.ID, device edge.ID) ([]transport.Held, error) {
	return c.at(hub).Held(ctx, device)
}

// device is an agent with an outbox in dir whose one sensor counts from first on, once a second. stop returns the agent's last status.
func (c *cluster) device(dir string, first float64) (a *agent.Agent, stop func() agent.Status) {
	c.t.Helper()
	key := c.Devices[0]
	box, _, err := outbox.Open(c.t.Context(), outbox.Options{Dir: dir, Fleet: c.Fleet().ID(), Signer: key})
	check(c.t, err)
	logger := slog.New(slog.DiscardHandler)
	publisher := transport.NewPublisher(c, c.Fleet)
	a, err = agent.New(agent.Config{Boot: journal.BootID{byte(first / 1000)}, Clock: agent.NewClock(time.Minute, time.Now(), func() bool { return true }, time.Time{}),
		Probes:  []agent.Probe{probe("count", time.Second, &steady{n: first})},
		Streams: []agent.Stream{{Name: "main", Age: 5 * time.Second, Readings: 1000}},
		Readers: func(s string) ([]journal.Reader, error) { return c.Fleet().Readers(key.ID(), s) },
		Outbox:  box, Publisher: publisher, Rivals: c, Hubs: agent.NewHubs(logger), Logger: logger})
	check(c.t, err)
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, func() agent.Status {
		cancel()
		check(c.t, <-done)
		publisher.Close()
		st := a.Status()
		check(c.t, box.Close())
		return st
	}
}

// each opens all that some hub has with every epoch key that the reader gets: where a chain is forked, each branch has its own epochs.
func (c *cluster) each(k journal.ReaderKey, visit func(*journal.Keyring, *journal.Segment)) {
	c.t.Helper()
	segs := map[journal.Hash]*journal.Segment{}
	for _, s := range c.stores {
		held, err := s.Held(c.t.Context(), edge.ID{})
		check(c.t, err)
		for _, h := range held {
			check(c.t, s.Fetch(c.t.Context(), h.Chain, transport.Span{Last: 1 << 40}, func(raw []byte) error {
				seg, err := journal.Open(raw, c.Fleet().ID())
				if err == nil {
					segs[seg.Hash] = seg
				}
				return err
			}))
		}
	}
	for _, epoch := range segs {
		ring := journal.NewKeyring(k)
		if epoch.Kind != journal.KindEpoch {
			continue
		}
		if _, err := ring.Learn(epoch); err != nil {
			continue
		}
		for _, seg := range segs {
			if seg.Chain == epoch.Chain && seg.Epoch == epoch.Seq && seg.Kind != journal.KindEpoch {
				visit(ring, seg)
			}
		}
	}
}

// readings counts each reading that is on some hub.
func (c *cluster) readings(k journal.ReaderKey) map[float64]int {
	c.t.Helper()
	out, seen := map[float64]int{}, map[journal.Hash]bool{}
	c.each(k, func(ring *journal.Keyring, seg *journal.Segment) {
		if seg.Kind != journal.KindReadings || seen[seg.Hash] {
			return
		}
		got, err := ring.Readings(seg)
		if err != nil {
			return
		}
		seen[seg.Hash] = true
		for _, r := range got {
			out[r.Value]++
		}
	})
	return out
}

// cloneCard copies an outbox as a block image of its card would: the marker of the clean end goes on proving the log in the copy.
func cloneCard(t *testing.T, from, to string) {
	t.Helper()
	check(t, os.CopyFS(to, os.DirFS(from)))
	name := filepath.Join(to, "log", "closed")
	text, err := os.ReadFile(name)
	check(t, err)
	state, _, _ := strings.Cut(string(text), " file ")
	var st unix.Statx_t
	check(t, unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_INO|unix.STATX_BTIME, &st))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	check(t, err)
	_, err = fmt.Fprintf(f, "%s file %d born %d.%09d\n", state, st.Ino, st.Btime.Sec, st.Btime.Nsec)
	check(t, errors.Join(err, f.Close()))
}

// A card is copied and both devices run: neither waits for ever, no reading is lost, no hub replaces what it has, and the fork is proven.
func TestClone_CopiedCardIsAlarmedAndBothGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		dir, copied := t.TempDir(), t.TempDir()
		_, stop := c.device(dir, 0)
		time.Sleep(time.Minute + time.Millisecond)
		stop()
		cloneCard(t, dir, copied)
		_, stopOne := c.device(dir, 1000)
		_, stopTwo := c.device(copied, 2000)
		time.Sleep(10*time.Minute + time.Millisecond)
		one, two := stopOne(), stopTwo()
		if one.Outbox.Renewed+two.Outbox.Renewed == 0 || one.Outbox.Forks+two.Outbox.Forks == 0 {
			t.Errorf("nobody noticed: %+v, %+v", one.Outbox, two.Outbox)
		}
		if one.Outbox.Renewed > 2 || two.Outbox.Renewed > 2 {
			t.Errorf("renewed %d and %d times: want each once", one.Outbox.Renewed, two.Outbox.Renewed)
		}
		proofs := 0
		for id, s := range c.stores {
			proofs += len(s.Forks(t.Context()))
			for place, raw := range c.acked[id] {
				seg, err := journal.Open(raw, c.Fleet().ID())
				check(t, err)
				var now []byte
				check(t, s.Fetch(t.Context(), seg.Chain, transport.Span{First: seg.Seq, Last: seg.Seq}, func(b []byte) error {
					now = b
					return nil
				}))
				if !bytes.Equal(now, raw) {
					t.Errorf("a hub acknowledged %s and has something else now", place)
				}
			}
		}
		if proofs == 0 {
			t.Error("no hub has a proof of the fork")
		}
		got := c.readings(c.Recovery)
		for name, d := range map[string]struct {
			first float64
			st    agent.Status
		}{"original": {1000, one}, "copy": {2000, two}} {
			n := 0
			for v := range got {
				if v > d.first && v < d.first+1000 {
					n++
				}
			}
			if made := 601; n+int(d.st.Outbox.Readings) < made || d.st.Outbox.LostReadings != 0 || d.st.Outbox.Pending > 4 {
				t.Errorf("%s: %d of %d readings are on hubs: %+v", name, n, made, d.st.Outbox)
			}
		}
		for v, n := range got {
			if n > 1 {
				t.Errorf("reading %v is there %d times", v, n)
			}
		}
	})
}

// A hub that says fork and shows nothing is not believed: the other hubs go on with the chain.
func TestFork_WithoutProofNothingIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		liar := &lying{cluster: c, hub: c.HubIDs()[0]}
		dir := t.TempDir()
		box, _, err := outbox.Open(t.Context(), outbox.Options{Dir: dir, Fleet: c.Fleet().ID(), Signer: c.Devices[0]})
		check(t, err)
		logger := slog.New(slog.DiscardHandler)
		publisher := transport.NewPublisher(liar, c.Fleet)
		a, err := agent.New(agent.Config{Clock: agent.NewClock(time.Minute, time.Now(), func() bool { return true }, time.Time{}),
			Probes:  []agent.Probe{probe("count", time.Second, &steady{})},
			Streams: []agent.Stream{{Name: "main", Age: 5 * time.Second, Readings: 1000}},
			Readers: func(s string) ([]journal.Reader, error) { return c.Fleet().Readers(c.Devices[0].ID(), s) },
			Outbox:  box, Publisher: publisher, Rivals: liar, Hubs: agent.NewHubs(logger), Logger: logger})
		check(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		check(t, <-done)
		publisher.Close()
		st := a.Status().Outbox
		check(t, box.Close())
		if st.Renewed != 0 || st.Forks != 0 || st.Published < 8 || liar.asked == 0 {
			t.Errorf("asked %d times: %+v", liar.asked, st)
		}
	})
}

// lying is a cluster in which one hub calls everything a fork.
type lying struct {
	*cluster
	hub   edge.ID
	asked int
}

func (l *lying) Put(ctx context.Context, hub edge.ID, segment []byte) error {
	if hub == l.hub {
		return &transport.Refusal{Hub: hub, Reason: transport.RefusedFork}
	}
	time.Sleep(time.Millisecond) // so that the lie comes first
	return l.cluster.Put(ctx, hub, segment)
}

func (l *lying) Fetch(_ context.Context, _ edge.ID, chain journal.Chain, span transport.Span, visit func([]byte) error) error {
	l.mu.Lock()
	l.asked++
	l.mu.Unlock()
	return l.cluster.Fetch(context.Background(), l.HubIDs()[1], chain, span, visit) // the device's own segments
}

// The only hub is revoked after another one was enrolled: all that only it had goes to the new one, within seconds.
func TestRevokedHub_WhatOnlyItHadIsPublishedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		dir := t.TempDir()
		a, stop := c.device(dir, 1000)
		time.Sleep(time.Minute)
		if st := a.Status().Outbox; st.Held < 10 || st.Pending > 1 {
			t.Fatalf("%+v", st)
		}
		fresh := transporttest.NewKey(t).ID()
		c.open(fresh)
		old := c.HubIDs()[0]
		c.Grant(t, fleet.Grant{Member: fresh, Name: "fresh", Roles: fleet.Hub}, fleet.Grant{Member: old, Name: "former", Roles: fleet.Device})
		a.FleetChanged()
		time.Sleep(10 * time.Second)
		st := stop().Outbox
		if st.Fallen < 10 || st.Pending > 3 { // the last are sealed at the stop
			t.Errorf("%+v", st)
		}
		check(t, c.stores[old].Close())
		delete(c.stores, old)
		got := c.readings(c.Recovery)
		for i := range 50 {
			if got[float64(1001+i)] != 1 {
				t.Errorf("reading %d is on the new hub %d times", 1001+i, got[float64(1001+i)])
			}
		}
	})
}

// After a restart the outbox does not believe its own notes about hubs that were revoked meanwhile.
func TestRevokedHub_WhileTheDeviceWasOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		dir := t.TempDir()
		_, stop := c.device(dir, 1000)
		time.Sleep(30 * time.Second)
		stop()
		fresh := transporttest.NewKey(t).ID()
		c.open(fresh)
		c.Grant(t, fleet.Grant{Member: fresh, Name: "fresh", Roles: fleet.Hub}, fleet.Grant{Member: c.HubIDs()[0], Name: "former", Roles: fleet.Device})
		_, stop = c.device(dir, 2000)
		time.Sleep(10 * time.Second)
		stop()
		held, err := c.stores[fresh].Held(t.Context(), edge.ID{})
		check(t, err)
		if len(held) == 0 || !slices.ContainsFunc(held[0].Spans, func(s transport.Span) bool { return s.First == 0 && s.Last >= 5 }) {
			t.Errorf("the new hub holds %v", held)
		}
	})
}
