// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

const stream = "main"

// answerLimit is how long the slowest hub may take for the last copies.
const answerLimit = 2 * time.Minute

// device does what an agent does with a batch: seal, sign, append and fsync in the outbox, publish, acknowledge.
type device struct {
	box   *outbox.Outbox
	node  *p2p.Node
	pub   *transport.Publisher
	way   segments
	batch []edge.Reading
	next  int

	disk    atomic.Int64 // bytes written to the outbox
	asked   atomic.Int64 // copies that hubs were asked for …
	answers atomic.Int64 // … were answered …
	copies  atomic.Int64 // … and are there
}

// segments is a transport.Publisher, or one with a metered uplink.
type segments interface {
	Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (transport.Receipt, error)
}

func openDevice(ctx context.Context, s Spec) (client, error) {
	node, f, err := join(ctx, s.States[0], s.Fleet, s.Gather > 0)
	if err != nil {
		return nil, err
	}
	d := &device{node: node, batch: weather()}
	d.pub = transport.NewPublisher(node, func() *fleet.Fleet { return f })
	d.pub.Observe(d.answered)
	d.way = d.pub
	if s.Gather > 0 {
		d.way = transport.NewMetered(d.pub, node, s.Gather, nil)
	}
	key, err := fleet.LoadKey(filepath.Join(s.States[0], "key.pem"))
	if err != nil {
		return nil, err
	}
	count := func(f wal.File) wal.File { return counted{f, &d.disk} }
	d.box, _, err = outbox.Open(ctx, outbox.Options{Dir: s.Dir, Fleet: f.ID(), Signer: key, Quota: 8 << 30, Wrap: count})
	if err != nil {
		return nil, err
	}
	readers, err := f.Readers(key.ID(), stream)
	if err != nil {
		return nil, err
	}
	if _, err := d.box.StartEpoch(ctx, stream, readers, journal.Stamp{}); err != nil {
		return nil, err
	}
	_, err = d.drain(ctx)
	return d, err
}

// join joins a fleet's network as the member of a state folder.
func join(ctx context.Context, state, file string, metered bool) (*p2p.Node, *fleet.Fleet, error) {
	key, err := fleet.LoadKey(filepath.Join(state, "key.pem"))
	if err != nil {
		return nil, nil, err
	}
	f, err := fleet.Load(file, journal.FleetID{})
	if err != nil {
		return nil, nil, err
	}
	n, err := p2p.New(ctx, p2p.Options{Signer: key, Fleet: func() *fleet.Fleet { return f }, Metered: metered})
	return n, f, err
}

func (d *device) answered(_ edge.ID, err error) {
	if err == nil {
		d.copies.Add(1)
	}
	d.answers.Add(1)
}

// do publishes t.Readings. With a window of 1 each segment is sealed and published before the next one, as when readings
// are slower than the hubs; with a larger one all are in the outbox first, as after a time without hubs.
func (d *device) do(ctx context.Context, t Task, m *meter) error {
	m.onDisk = d.disk.Load
	segments := t.Readings / t.Segment
	copies := d.copies.Load()
	took, errs := make([]time.Duration, segments), make([]error, segments)
	m.start()
	if t.Window == 1 {
		for i := range segments {
			if errs[i] = d.seal(ctx, t.Segment); errs[i] == nil {
				took[i], errs[i] = d.drain(ctx)
			}
		}
	} else {
		for i := range segments {
			errs[i] = d.seal(ctx, t.Segment)
		}
		d.backlog(ctx, t.Window, took, errs)
	}
	m.acknowledged()
	var late error
	if t.Settle {
		late = d.settle()
	}
	m.stop(segments * t.Segment)
	m.r.P50 = median(took)
	m.r.Copies = float64(d.copies.Load()-copies) / float64(segments)
	return errors.Join(append(errs, late)...)
}

// backlog publishes what is in the outbox, some segments at a time.
func (d *device) backlog(ctx context.Context, window int, took []time.Duration, errs []error) {
	slots := make(chan struct{}, window)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for i, err := range errs {
		if err != nil {
			continue
		}
		slots <- struct{}{}
		tasks.Go(func() {
			took[i], errs[i] = d.drain(ctx)
			<-slots
		})
	}
}

func (d *device) seal(ctx context.Context, n int) error {
	if d.next+n > len(d.batch) {
		d.next = 0
	}
	_, err := d.box.Seal(ctx, stream, journal.BootID{}, d.batch[d.next:d.next+n])
	d.next += n
	return err
}

// drain publishes one segment of the outbox and returns how long that took.
func (d *device) drain(ctx context.Context) (time.Duration, error) {
	items, err := d.box.Take(ctx, 1)
	if err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	r, err := d.way.Publish(limited, items[0].Segment, items[0].Acked)
	took := time.Since(began)
	d.asked.Add(int64(len(r.Targets) - len(items[0].Acked)))
	return took, errors.Join(err, d.box.Ack(items[0], r))
}

// settle waits until every hub that was asked has answered.
func (d *device) settle() error {
	for deadline := time.Now().Add(answerLimit); d.answers.Load() < d.asked.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("load: %d of %d answers of hubs", d.answers.Load(), d.asked.Load())
		}
	}
	return nil
}

func (d *device) close() error {
	d.pub.Close()
	return errors.Join(d.node.Close(), d.box.Close())
}

// counted counts what goes into a file.
type counted struct {
	wal.File
	n *atomic.Int64
}

func (c counted) WriteAt(p []byte, off int64) (int, error) {
	n, err := c.File.WriteAt(p, off)
	c.n.Add(int64(n))
	return n, err
}
