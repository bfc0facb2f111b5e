// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// echo answers each request with its value, and a call of "wait" never.
type echo struct{ waiting chan struct{} }

func (e echo) Do(ctx context.Context, o *direct.Order) (any, error) {
	if o.Name == "wait" {
		close(e.waiting)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return o.Value, nil
}

// forgetful is a ledger and an audit for tests that are about neither.
type forgetful struct{}

func (forgetful) Begin(direct.Intent) (direct.Past, error)   { return direct.Past{}, nil }
func (forgetful) End(direct.RequestID, direct.Outcome) error { return nil }
func (forgetful) Called(direct.Act)                          {}
func (forgetful) Ended(direct.Act, error)                    {}
func (forgetful) Refused(direct.Act, error)                  {}

// described builds and signs a description.
func describedAs(t testing.TB, key journal.SoftKey, version uint64) (*thing.Description, []byte) {
	t.Helper()
	d := thing.Build(thing.Device{ID: key.ID(), Actions: map[string]thing.Action{"wait": {Safe: true}},
		Sensors: []thing.Sensor{{Name: "relay", Stream: "main", Measures: []edge.Quantity{{Name: "switch", Kind: edge.State}}, Outputs: []edge.Quantity{{Name: "switch", Kind: edge.State}}}}})
	d.NextVersion(version - 1)
	record, err := thing.Sign(key, d)
	must(t, record, err)
	return d, record
}

// sailDevice starts a device that listens, takes direct sessions, and is known to the hubs.
func sailDevice(t testing.TB, w *transporttest.World) (dev *sailor, waiting chan struct{}) {
	t.Helper()
	key := w.Devices[0]
	waiting = make(chan struct{})
	d, record := describedAs(t, key, 1)
	var server *direct.Server
	s := sail(t, key, w.Fleet(), func(o *p2p.Options) {
		var err error
		server, err = direct.NewServer(direct.Options{Self: key.ID(), Fleet: o.Fleet, Thing: func() (*thing.Description, []byte) { return d, record },
			Doer: echo{waiting}, Ledger: forgetful{}, Audit: forgetful{}})
		ok(t, err)
		o.Direct, o.Listen = server, []string{tcpAddr}
	})
	t.Cleanup(func() { ok(t, server.Close()) })
	ok(t, s.Bootstrap(t.Context()))
	return s, waiting
}

// TestDirect: an operator that knows no address of the device finds it by the hubs, commands it, and is cut off when it is revoked.
func TestDirect(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	op := transporttest.NewKey(t)
	w.Grant(t, fleet.Grant{Member: op.ID(), Name: "ann", Roles: fleet.Operator, Rights: fleet.Everything()})
	hubs := crew(t, w)
	dev, waiting := sailDevice(t, w)
	ann := sail(t, op, w.Fleet(), nil)
	ok(t, ann.Bootstrap(t.Context()))
	agree(t, w.Fleet(), append(hubs, dev, ann)...)

	ctx, cancel := context.WithTimeout(t.Context(), transporttest.Limit)
	defer cancel()
	var s *direct.Session
	transporttest.WaitFor(t, "the hubs tell where the device is", func() (bool, string) {
		stream, path, err := ann.Direct(ctx, dev.ID())
		if err != nil {
			return false, err.Error()
		}
		if path.Relayed || path.Addr == "" {
			t.Errorf("path %+v", path)
		}
		s, err = direct.Open(ctx, stream, direct.Config{Signer: op, Device: dev.ID()})
		return err == nil, "session"
	})
	defer s.Close()
	if v, err := s.Do(ctx, direct.Request{Op: direct.Set, Name: "relay/switch", Value: true}); err != nil || v != true {
		t.Fatalf("%v %v", v, err)
	}
	if d, _, err := s.Describe(ctx); err != nil || d.Version.Number() != 1 {
		t.Fatalf("%v", err)
	}
	ended := make(chan error, 1)
	go func() { _, err := s.Do(ctx, direct.Request{Op: direct.Call, Name: "wait"}); ended <- err }()
	<-waiting
	w.Revoke(t, op.ID())
	hubs[0].learn(w.Fleet())
	if err := <-ended; direct.ReasonOf(err) != direct.NoRight && !errors.Is(err, direct.ErrLost) {
		t.Errorf("after the revocation: %v", err)
	}
	transporttest.WaitFor(t, "the device cuts the operator", func() (bool, string) { return !connectedTo(dev, op.ID()), "" })
	if stream, _, err := ann.Direct(ctx, dev.ID()); err == nil { // a stream is agreed on lazily; nothing comes on it
		if _, err := direct.Open(ctx, stream, direct.Config{Signer: op, Device: dev.ID()}); err == nil {
			t.Error("a session after the revocation")
		}
	}
}

// TestDirect_Refused: strangers, and members that offer no sessions.
func TestDirect_Refused(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	hubs := crew(t, w)
	dev, _ := sailDevice(t, w)
	reader := sail(t, w.Reader, w.Fleet(), nil)
	ok(t, reader.Bootstrap(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), transporttest.Limit)
	defer cancel()
	if _, _, err := reader.Direct(ctx, hubs[0].ID()); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("a hub that is no device: %v", err)
	}
	if _, _, err := reader.Direct(ctx, transporttest.NewKey(t).ID()); !errors.Is(err, fleet.ErrNotMember) {
		t.Errorf("nobody: %v", err)
	}
	raw := newRawHost(t)
	s, err := raw.NewStream(deadline(t), raw.dial(t, dev.Node), "/streembit/direct/1")
	if err == nil { // the protocol is agreed on lazily: what counts is that nothing comes
		ok(t, s.SetDeadline(time.Now().Add(transporttest.Limit)))
		_, err = s.Write([]byte{0, 0, 0, 1, 'K'})
		var b [64]byte
		if n, rerr := io.ReadFull(s, b[:5]); rerr == nil || n > 0 {
			t.Errorf("a stranger hears %q, %v", b[:n], err)
		}
	}
}

// TestThing: a description is there when its device is not; an older one, and one that another signed, never replaces it.
func TestThing(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 2)
	hubs := crew(t, w)
	key := w.Devices[0]
	dev := sail(t, key, w.Fleet(), nil)
	ok(t, dev.Bootstrap(t.Context()))
	reader := sail(t, w.Reader, w.Fleet(), nil)
	ok(t, reader.Bootstrap(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), transporttest.Limit)
	defer cancel()
	if _, err := reader.Thing(ctx, key.ID()); !errors.Is(err, p2p.ErrNoThing) {
		t.Fatalf("before: %v", err)
	}
	_, first := describedAs(t, key, 1)
	_, second := describedAs(t, key, 2)
	ok(t, dev.PutThing(ctx, key.ID(), first))
	ok(t, dev.PutThing(ctx, key.ID(), second))
	ok(t, dev.Close())
	newest := func() uint64 {
		record, err := reader.Thing(ctx, key.ID())
		ok(t, err)
		d, err := thing.OpenSigned(key.ID(), record)
		ok(t, err)
		return d.Version.Number()
	}
	if v := newest(); v != 2 {
		t.Fatalf("version %d", v)
	}
	_, foreign := describedAs(t, w.Devices[1], 9)
	for name, record := range map[string][]byte{"older": first, "of another": foreign, "no record": []byte("x")} {
		if err := hubs[0].PutThing(ctx, key.ID(), record); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if v := newest(); v != 2 {
		t.Errorf("version %d afterwards", v)
	}
	w.Revoke(t, key.ID())
	reader.learn(w.Fleet())
	if _, err := reader.Thing(ctx, key.ID()); err == nil {
		t.Error("the description of a revoked device")
	}
}

// BenchmarkDirect_Get is the round trip of reading a value on an open session, over TCP with Noise on loopback.
func BenchmarkDirect_Get(b *testing.B) {
	w := transporttest.NewWorld(b, 1, 1)
	op := transporttest.NewKey(b)
	w.Grant(b, fleet.Grant{Member: op.ID(), Name: "ann", Roles: fleet.Operator, Rights: fleet.Everything()})
	crew(b, w)
	dev, _ := sailDevice(b, w)
	ann := sail(b, op, w.Fleet(), nil)
	ok(b, ann.Bootstrap(b.Context()))
	var s *direct.Session
	transporttest.WaitFor(b, "a session", func() (bool, string) {
		stream, _, err := ann.Direct(b.Context(), dev.ID())
		if err != nil {
			return false, err.Error()
		}
		s, err = direct.Open(b.Context(), stream, direct.Config{Signer: op, Device: dev.ID()})
		return err == nil, "session"
	})
	defer s.Close()
	var all []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := s.Do(b.Context(), direct.Request{Op: direct.Get, Name: "relay/switch"}); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
}
