// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/live"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
	"github.com/streembit/edge/transport/p2p"
)

// roundTrips asks again and again, and keeps the median.
func roundTrips(ctx context.Context, t Task, m *meter, ask func(context.Context) error) error {
	took := make([]time.Duration, t.Readings)
	m.start()
	for i := range took {
		began := time.Now()
		if err := ask(ctx); err != nil {
			return err
		}
		took[i] = time.Since(began)
	}
	m.stop(t.Readings)
	m.r.P50 = median(took)
	return nil
}

// commander asks a device for a value on one open session.
type commander struct {
	node    *p2p.Node
	session *direct.Session
	value   string
}

func openCommander(ctx context.Context, s Spec) (client, error) {
	session, node, err := openSession(ctx, s)
	if err != nil {
		return nil, err
	}
	d, _, err := session.Describe(ctx)
	if err != nil {
		return nil, err
	}
	names, _ := d.Names()
	for _, name := range names {
		if d.Properties[name].Observable {
			return &commander{node, session, name}, nil
		}
	}
	return nil, errors.New("load: the device has no readings")
}

// openSession opens a session with the device of the spec, which may just have started.
func openSession(ctx context.Context, s Spec) (*direct.Session, *p2p.Node, error) {
	node, f, err := join(ctx, s.States[0], s.Fleet, false)
	if err != nil {
		return nil, nil, err
	}
	key, err := fleet.LoadKey(filepath.Join(s.States[0], "key.pem"))
	if err != nil {
		return nil, nil, err
	}
	device := f.With(fleet.Device)[0].Member
	ctx, cancel := context.WithTimeout(ctx, ackLimit)
	defer cancel()
	for {
		stream, _, err := node.Direct(ctx, device)
		if err == nil {
			session, err := direct.Open(ctx, stream, direct.Config{Signer: key, Device: device})
			if err == nil {
				return session, node, nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("load: no session with the device: %w", err)
		}
	}
}

func (c *commander) do(ctx context.Context, t Task, m *meter) error {
	return roundTrips(ctx, t, m, func(ctx context.Context) error {
		_, err := c.session.Do(ctx, direct.Request{Op: direct.Get, Name: c.value})
		return err
	})
}

func (c *commander) close() error { return errors.Join(c.session.Close(), c.node.Close()) }

// feeder is a device whose sensor reads the time since the spec was made, in ns: who gets it knows how long it was on its way.
type feeder struct {
	node   *p2p.Node
	server *direct.Server
	feed   *live.Feed
	since  time.Time
}

func openFeeder(ctx context.Context, s Spec) (client, error) {
	key, err := fleet.LoadKey(filepath.Join(s.States[0], "key.pem"))
	if err != nil {
		return nil, err
	}
	f, err := fleet.Load(s.Fleet, journal.FleetID{})
	if err != nil {
		return nil, err
	}
	d := thing.Build(thing.Device{ID: key.ID(), Sensors: []thing.Sensor{{Name: "clock", Stream: stream, Measures: []edge.Quantity{sent()}}}})
	d.NextVersion(0)
	record, err := thing.Sign(key, d)
	if err != nil {
		return nil, err
	}
	known := func() *fleet.Fleet { return f }
	e := &feeder{feed: live.NewFeed(0), since: s.Began}
	e.server, err = direct.NewServer(direct.Options{Self: key.ID(), Fleet: known, Thing: func() (*thing.Description, []byte) { return d, record },
		Doer: nothing{}, Ledger: nothing{}, Audit: nothing{}, Feed: e.feed})
	if err != nil {
		return nil, err
	}
	e.node, err = p2p.New(ctx, p2p.Options{Signer: key, Fleet: known, Direct: e.server, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		return nil, err
	}
	return e, e.node.Bootstrap(ctx)
}

func sent() edge.Quantity { return edge.Quantity{Name: "sent", Unit: "s"} }

func (e *feeder) do(ctx context.Context, t Task, m *meter) error {
	return paced(ctx, t, m, func(n int) error {
		e.feed.Offer([]edge.Reading{{Sensor: "clock", At: edge.Instant{Mono: int64(n)}, Sample: edge.Sample{Quantity: sent(), Value: float64(time.Since(e.since).Nanoseconds())}}})
		return nil
	})
}

// paced sends t.Readings messages, one each t.Pace.
func paced(ctx context.Context, t Task, m *meter, send func(n int) error) error {
	tick := time.NewTicker(t.Pace)
	defer tick.Stop()
	m.start()
	for n := range t.Readings {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := send(n); err != nil {
			return err
		}
	}
	m.stop(t.Readings)
	return nil
}

func (e *feeder) close() error { return errors.Join(e.server.Close(), e.node.Close()) }

// nothing is a device that does nothing but measure.
type nothing struct{}

func (nothing) Do(context.Context, *direct.Order) (any, error) { return nil, errors.ErrUnsupported }
func (nothing) Begin(direct.Intent) (direct.Past, error)       { return direct.Past{}, errors.ErrUnsupported }
func (nothing) End(direct.RequestID, direct.Outcome) error     { return nil }
func (nothing) Called(direct.Act)                              {}
func (nothing) Ended(direct.Act, error)                        {}
func (nothing) Refused(direct.Act, error)                      {}

// arrivals is a client that takes what another one sends, and knows how long each was on its way.
type arrivals struct {
	took  chan time.Duration
	since time.Time
	end   func() error
}

func newArrivals(s Spec) *arrivals {
	return &arrivals{took: make(chan time.Duration, 1<<16), since: s.Began}
}

// came notes a message that was sent so many ns after the spec was made.
func (a *arrivals) came(ns float64) { a.took <- time.Since(a.since) - time.Duration(ns) }

func (a *arrivals) do(ctx context.Context, t Task, m *meter) error {
	m.start()
	var all []time.Duration
	limit := time.After(ackLimit)
	for len(all) < t.Readings {
		select {
		case d := <-a.took:
			all = append(all, d)
		case <-limit:
			return fmt.Errorf("load: %d messages of %d came", len(all), t.Readings)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.stop(t.Readings)
	m.r.P50 = median(all)
	return nil
}

func (a *arrivals) close() error { return a.end() }

// openWatcher watches the feeder.
func openWatcher(ctx context.Context, s Spec) (client, error) {
	session, node, err := openSession(ctx, s)
	if err != nil {
		return nil, err
	}
	a := newArrivals(s)
	a.end = func() error { return errors.Join(session.Close(), node.Close()) }
	began, over := make(chan struct{}), make(chan error, 1)
	first := true
	go func() {
		over <- session.Watch(context.WithoutCancel(ctx), "", nil, func(l direct.Live) {
			if first {
				first = false
				close(began)
			}
			for _, r := range l.Readings {
				a.came(r.Value)
			}
		})
	}()
	select {
	case <-began:
		return a, nil
	case err := <-over:
		return nil, err
	}
}
