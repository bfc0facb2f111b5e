// SPDX-License-Identifier: Apache-2.0

// Package agent is the device's own program: it samples every sensor at its pace, closes batches, has them sealed into
// the outbox and publishes them to the hubs, in that order (sampler.go, batcher.go, outbox, drain.go).
//
// Start with New and Run.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Publisher brings a segment to its hubs; *transport.Publisher is one. acked are the hubs that have it already.
type Publisher interface {
	Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (transport.Receipt, error)
	// Count says what copies on the hubs in acked are worth now.
	Count(c journal.Chain, seq uint64, acked []edge.ID) transport.Receipt
	// FleetChanged has what is under way judged by the fleet as it is now.
	FleetChanged()
}

// Rivals fetches from a hub what it holds of one of the device's own chains; p2p.Node is one. visit's slice is valid during the visit only.
type Rivals interface {
	Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte) error) error
}

// Heads puts a signed header where readers find it: a hint of how far a chain goes.
type Heads interface {
	PutHead(ctx context.Context, signedHeader []byte) error
}

// Config is what an agent is made of. The caller closes what it hands in, once Run has returned. Readers, Publisher and
// Heads are called concurrently.
type Config struct {
	Boot      journal.BootID
	Clock     *Clock
	Probes    []Probe
	Streams   []Stream
	Readers   func(stream string) ([]journal.Reader, error) // for whom epoch keys are wrapped now
	Outbox    *outbox.Outbox
	Unsealed  []outbox.Spooled // what outbox.Open recovered
	Publisher Publisher
	Rivals    Rivals               // to see with what a hub contradicts a segment; nil: a fork is only logged and nothing renewed
	Heads     Heads                // may be nil
	Hubs      *Hubs                // told by the publisher how each hub answers
	Receipts  *Receipts            // may be nil
	Tap       func([]edge.Reading) // gets what each sensor gives, as it is read; it must not block. nil: nobody does
	Notice    func(Notice)         // of what readers should know without looking; it must not block. nil: nobody is told
	Logger    *slog.Logger
}

// Notice is something that happened to a sensor, or to a stream's readings.
type Notice struct {
	Kind   NoticeKind
	Stream string
	Sensor string        // of a fault and a recovery
	Fault  string        // its kind, see sensors.Fault
	Err    error         // of a fault
	Lasted time.Duration // of a recovery: how long the fault was there
	Lost   uint64        // of a gap: readings
	At     edge.Instant
}

// NoticeKind is what happened.
type NoticeKind uint8

// The kinds.
const (
	SensorFault     NoticeKind = iota + 1 // a fault began
	SensorRecovered                       // it is over
	ReadingsLost                          // readings never became durable; the stream's readers are told by a gap note
)

// Agent is a device at work. New makes one.
type Agent struct {
	cfg      Config
	samplers []*sampler
	batchers map[string]*batcher
	drain    *drain
}

// New prepares an agent. It is an error when a probe's stream is not among the streams, or an interval or a limit of a
// batch is not above zero.
func New(c Config) (*Agent, error) {
	a := &Agent{cfg: c, batchers: map[string]*batcher{}}
	for _, s := range c.Streams {
		if s.Age <= 0 || s.Readings <= 0 {
			return nil, fmt.Errorf("agent: stream %q: batches of %s and %d readings: want both above zero", s.Name, s.Age, s.Readings)
		}
		a.batchers[s.Name] = newBatcher(c, s)
		a.batchers[s.Name].notice = a.notice
	}
	for _, p := range c.Probes {
		b := a.batchers[p.Stream]
		switch {
		case b == nil:
			return nil, fmt.Errorf("agent: sensor %q: its stream %q is not among the streams", p.Name, p.Stream)
		case p.Every <= 0:
			return nil, fmt.Errorf("agent: sensor %q: interval %s: want one above zero", p.Name, p.Every)
		}
		emit := func(samples []edge.Sample) edge.Instant {
			m := a.stamp(p.Name, samples)
			b.offer(m)
			if c.Tap != nil {
				c.Tap(m.readings)
			}
			return m.readings[0].At
		}
		s := newSampler(p, emit, c.Logger)
		s.notice = func(n Notice) { n.Sensor, n.Stream = p.Name, p.Stream; a.notice(n) }
		a.samplers = append(a.samplers, s)
	}
	a.drain = newDrain(c)
	return a, nil
}

// Run works until ctx ends; what was sampled by then is sealed, though not yet published, before Run returns nil. It
// returns an error, and all work has stopped, when the outbox gives out nothing any more. Call it once.
func (a *Agent) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var batchers, drains sync.WaitGroup
	var failed error // read once drains has been waited for
	batching, stopBatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBatching()
	for _, b := range a.batchers {
		batchers.Go(func() { b.run(batching) })
	}
	for _, s := range a.samplers {
		go s.run(ctx) // waited for in stopSamplers
	}
	drains.Go(func() {
		failed = a.drain.run(ctx)
		stop() // a device that can never publish again is started anew
	})
	<-ctx.Done()
	a.stopSamplers()
	stopBatching()
	batchers.Wait()
	drains.Wait()
	return failed
}

// notice tells what happened, now.
func (a *Agent) notice(n Notice) {
	if a.cfg.Notice != nil {
		n.At, _ = a.cfg.Clock.Now()
		a.cfg.Notice(n)
	}
}

// FleetChanged applies a new fleet at once: hubs that are none any more count in no quorum, what only they had is published again, and new hubs
// get what is still here. Readers need no call: each batch asks who they are. Safe to call at any time while Run runs.
func (a *Agent) FleetChanged() {
	a.cfg.Publisher.FleetChanged()
	a.drain.recount()
}

// stamp gives the samples of one read their common time.
func (a *Agent) stamp(sensor string, samples []edge.Sample) measurement {
	at, era := a.cfg.Clock.Now()
	m := measurement{era: era, readings: make([]edge.Reading, 0, len(samples))}
	for _, s := range samples {
		m.readings = append(m.readings, edge.Reading{Sensor: sensor, Sample: s, At: at})
	}
	return m
}

// stopLimit is how long the sensors may take to be closed.
const stopLimit = 10 * time.Second

// stopSamplers waits until every sensor is closed. One that hangs in the kernel cannot be ended from here: it is left to
// the end of the process, so that what the others gave is sealed.
func (a *Agent) stopSamplers() {
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	for _, s := range a.samplers {
		select {
		case <-s.ended:
			continue
		default:
		}
		select {
		case <-s.ended:
		case <-limit.C:
			limit.Reset(0) // for those that follow, too
			s.logger.Error("sensor hangs and is not closed")
		}
	}
}
