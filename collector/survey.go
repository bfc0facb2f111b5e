// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	askWidth = 8                // hubs asked at the same time
	askLimit = 30 * time.Second // for one hub's answer to what it holds, and for one head
)

// survey asks every enrolled hub what it holds, and returns the chains that may be pulled, those that only the sink
// knows included. Hubs that do not answer are noted in the run.
func (c *Collector) survey(ctx context.Context, r *run) ([]*target, error) {
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	hubs := r.hubIDs()
	if len(hubs) == 0 {
		return nil, fmt.Errorf("collector: surveying: %w", transport.ErrNoHubs)
	}
	var mu sync.Mutex
	targets := map[journal.Chain]*target{}
	for chain := range c.states {
		if c.wanted(chain) {
			targets[chain] = &target{chain: chain}
		}
	}
	parallel(askWidth, len(hubs), func(i int) {
		held, err := c.ask(ctx, hubs[i])
		mu.Lock()
		defer mu.Unlock()
		r.answered(hubs[i], len(held), err)
		c.merge(targets, hubs[i], held)
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("collector: surveying: %w", err)
	}
	if err := r.noneAnswered(); err != nil {
		return nil, err
	}
	out := make([]*target, 0, len(targets))
	for _, t := range targets {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *target) int { return compareChains(a.chain, b.chain) })
	return out, nil
}

// ask gets what one hub holds of the wanted devices.
func (c *Collector) ask(ctx context.Context, hub edge.ID) ([]transport.Held, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	devices := c.cfg.Devices
	if len(devices) == 0 {
		devices = []edge.ID{{}}
	}
	var out []transport.Held
	for _, d := range devices {
		held, err := c.cfg.Source.Held(ctx, hub, d)
		if err != nil {
			return nil, err
		}
		out = append(out, held...)
	}
	if len(c.cfg.Devices) == 0 {
		return out, nil
	}
	for _, who := range rewrappers(c.cfg.Fleet()) {
		held, err := c.cfg.Source.Held(ctx, hub, who)
		if _, refused := errors.AsType[*transport.Refusal](err); err != nil && !refused {
			return nil, err
		}
		out = append(out, held...)
	}
	return out, nil
}

func (c *Collector) merge(targets map[journal.Chain]*target, hub edge.ID, held []transport.Held) {
	for _, h := range held {
		if !c.wanted(h.Chain) && !c.isRewraps(h.Chain) {
			continue
		}
		t := targets[h.Chain]
		if t == nil {
			t = &target{chain: h.Chain}
			targets[h.Chain] = t
		}
		t.add(hub, h.Spans)
	}
}

// wanted reports whether a chain is of this fleet, of a device that is or was enrolled, of a stream that the reader may read, and
// among the devices that were asked for.
func (c *Collector) wanted(chain journal.Chain) bool {
	f := c.cfg.Fleet()
	if chain.Fleet != f.ID() || !journal.ValidStream(chain.Stream) {
		return false
	}
	if _, ok := f.Extent(chain); !ok {
		return false
	}
	if len(c.cfg.Devices) > 0 && !slices.Contains(c.cfg.Devices, chain.Device) {
		return false
	}
	return c.cfg.Reader == (edge.ID{}) || f.May(c.cfg.Reader, fleet.Read, chain.Device, chain.Stream)
}

// learnHead asks for the newest signed header, a hint: what it proves counts, its absence says nothing.
func (p *pull) learnHead(ctx context.Context) {
	src, ok := p.c.cfg.Source.(HeadSource)
	if !ok || p.t.noHead {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	signed, err := src.Head(ctx, p.t.chain)
	if err != nil {
		p.c.log.Debug("no head", "chain", p.t.chain, "err", err)
		return
	}
	h, hash, err := journal.OpenHeader(signed, p.t.chain.Fleet)
	if err == nil && (h.Chain != p.t.chain || h.Seq > maxSeq) {
		err = fmt.Errorf("collector: head of %s: %w", p.t.chain, journal.ErrForeignChain)
	}
	if err != nil {
		p.r.bad(Bad{Chain: p.t.chain, Err: fmt.Errorf("head: %w", err)})
		return
	}
	p.t.head = &provenHead{seq: h.Seq, hash: hash, signed: signed}
	p.t.proven = max(p.t.proven, h.Seq+1)
}

// unproven is how far beyond what is proven a hub's bare claim is believed.
const unproven = 16 * journal.BucketSize

// proveClaims makes a hub that claims much more than is proven show its last segment; else its claim is cut. So a
// lying hub cannot make a pull endless.
func (p *pull) proveClaims(ctx context.Context, from uint64) {
	for i := range p.t.claims {
		cl := &p.t.claims[i]
		limit := max(from, p.t.proven) + unproven
		if len(cl.spans) == 0 || cl.spans[len(cl.spans)-1].Last < limit {
			continue
		}
		last := cl.spans[len(cl.spans)-1].Last
		seg, err := p.fetchOne(ctx, cl.hub, last)
		if err != nil {
			p.r.bad(Bad{Hub: cl.hub, Chain: p.t.chain, Seq: last, Err: fmt.Errorf("claims a segment and does not show it: %w", err)})
			cl.clip(limit)
			continue
		}
		p.t.proven = max(p.t.proven, seg.Seq+1)
	}
}

var errNotSent = errors.New("the hub did not send it")

// fetchOne gets and proves one segment from one hub.
func (p *pull) fetchOne(ctx context.Context, hub edge.ID, seq uint64) (*journal.Segment, error) {
	var seg *journal.Segment
	err := p.fetch(ctx, hub, transport.Span{First: seq, Last: seq}, func(raw []byte) error {
		var err error
		if seg, err = journal.OpenFrom(append([]byte(nil), raw...), p.t.chain, seq); err == nil {
			err = p.t.check(seg)
		}
		return err
	})
	if err == nil && seg == nil {
		err = errNotSent
	}
	if err != nil {
		return nil, err
	}
	return seg, nil
}
