// SPDX-License-Identifier: Apache-2.0

// Package agent is the device's own program: it samples every sensor at its pace, closes batches, has them sealed into
// the outbox and publishes them to the hubs, in that order (sampler.go, batcher.go, outbox, drain.go).
//
// Start with New and Run.
package agent

import (
	"context"
	"log/slog"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Publisher brings a segment to its hubs; *transport.Publisher is one. acked are the hubs that have it already.
type Publisher interface {
	Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (transport.Receipt, error)
}

// Heads puts a signed header where readers find it: a hint of how far a chain goes.
type Heads interface {
	PutHead(ctx context.Context, signedHeader []byte) error
}

// Config is what an agent is made of.
type Config struct {
	Boot      journal.BootID
	Clock     *Clock
	Probes    []Probe
	Streams   []Stream
	Readers   func(stream string) ([]journal.Reader, error) // for whom epoch keys are wrapped now
	Outbox    *outbox.Outbox
	Unsealed  []outbox.Spooled // what Outbox.Open recovered
	Publisher Publisher
	Heads     Heads     // may be nil
	Hubs      *Hubs     // told by the publisher how each hub answers
	Receipts  *Receipts // may be nil
	Logger    *slog.Logger
}

// Agent is a device at work.
type Agent struct {
	cfg      Config
	samplers []*sampler
	batchers map[string]*batcher
	drain    *drain
}

// New prepares an agent. Every probe's stream must be among the streams.
func New(c Config) *Agent {
	a := &Agent{cfg: c, batchers: map[string]*batcher{}}
	for _, s := range c.Streams {
		a.batchers[s.Name] = newBatcher(c, s)
	}
	for _, p := range c.Probes {
		b := a.batchers[p.Stream]
		emit := func(_ context.Context, sensor string, samples []edge.Sample) { b.offer(a.stamp(sensor, samples)) }
		a.samplers = append(a.samplers, newSampler(p, emit, a.report))
	}
	a.drain = newDrain(c)
	return a
}

// Run works until ctx ends; what was sampled by then is sealed before Run returns.
func (a *Agent) Run(ctx context.Context) error {
	var samplers, batchers, drains sync.WaitGroup
	batching, stopBatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBatching()
	for _, b := range a.batchers {
		batchers.Go(func() { b.run(batching) })
	}
	for _, s := range a.samplers {
		samplers.Go(func() { s.run(ctx) })
	}
	drains.Go(func() { a.drain.run(ctx) })
	samplers.Wait()
	<-ctx.Done()
	stopBatching()
	batchers.Wait()
	drains.Wait()
	return nil
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

// report logs when a sensor's state changes; a sensor that stays broken is logged once.
func (a *Agent) report(h Health, err error) {
	if err != nil {
		a.cfg.Logger.Warn("sensor fails, the others go on", "sensor", h.Sensor, "driver", h.Driver, "err", err)
		return
	}
	a.cfg.Logger.Info("sensor works again", "sensor", h.Sensor, "driver", h.Driver)
}
