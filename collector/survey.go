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
	askWidth = 16               // hubs asked at the same time
	askLimit = 30 * time.Second // for one hub's answer to what it holds, and for one head

	lateAfter = 5 * time.Second // a hub may answer so much later than most others

	// Bounds of what one hub may claim: a chain is one start of a device, or one power cut.
	maxLives  = 4096    // chains of one device
	maxChains = 1 << 17 // in all
)

// errLate is the cause of a question's end.
var errLate = fmt.Errorf("it did not answer, though most hubs had long done so: %w", transport.ErrUnreachable)

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
	targets := map[journal.Chain]*target{}
	for chain := range c.states {
		if c.wanted(chain) {
			targets[chain] = &target{chain: chain}
		}
	}
	c.askAll(ctx, r, hubs, func(hub edge.ID, held []transport.Held) { c.merge(r, targets, hub, held) })
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

// askAll asks all hubs what they hold and hands on the answers, one at a time. Once most have answered, the others get as long again and a while.
func (c *Collector) askAll(ctx context.Context, r *run, hubs []edge.ID, take func(edge.ID, []transport.Held)) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	began, answered := time.Now(), 0
	var late *time.Timer
	parallel(askWidth, len(hubs), func(i int) {
		held, err := c.ask(ctx, hubs[i])
		mu.Lock()
		defer mu.Unlock()
		if cause := context.Cause(ctx); err != nil && errors.Is(cause, errLate) {
			err = cause
		}
		r.answered(hubs[i], len(held), err)
		if err != nil {
			return
		}
		take(hubs[i], held)
		if answered++; late == nil && 2*answered > len(hubs) {
			late = time.AfterFunc(max(lateAfter, 4*time.Since(began)), func() { cancel(errLate) })
		}
	})
	if late != nil {
		late.Stop()
	}
}

// ask gets what one hub holds of the wanted devices.
func (c *Collector) ask(ctx context.Context, hub edge.ID) ([]transport.Held, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	devices := c.devices()
	if c.all() {
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
	if c.all() {
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

// all reports whether no device is left out.
func (c *Collector) all() bool { return len(c.cfg.Devices) == 0 && len(c.cfg.Names) == 0 }

// devices returns those that are wanted, as the fleet is now.
func (c *Collector) devices() []edge.ID {
	out, f := slices.Clone(c.cfg.Devices), c.cfg.Fleet()
	for _, name := range c.cfg.Names {
		of := f.FormerDevices(name)
		for _, g := range append(of, f.Find(name)...) {
			if g.Name == name && g.Roles&fleet.Device != 0 && !slices.Contains(out, g.Member) {
				out = append(out, g.Member)
			}
		}
	}
	return out
}

// merge adds a hub's claims to the targets, as many as a hub can have.
func (c *Collector) merge(r *run, targets map[journal.Chain]*target, hub edge.ID, held []transport.Held) {
	lives, left := map[edge.ID]int{}, 0
	for i, h := range held {
		if !c.wanted(h.Chain) && !c.isRewraps(h.Chain) {
			continue
		}
		if lives[h.Chain.Device]++; i >= maxChains || lives[h.Chain.Device] > maxLives {
			left++
			continue
		}
		t := targets[h.Chain]
		if t == nil {
			t = &target{chain: h.Chain}
			targets[h.Chain] = t
		}
		t.add(hub, h)
	}
	if left > 0 {
		r.bad(Bad{Hub: hub, Err: fmt.Errorf("collector: claims %d chains more than devices can have made: %w", left, errNotSent)})
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
	if !c.all() && !slices.Contains(c.cfg.Devices, chain.Device) && !slices.Contains(c.cfg.Names, f.NameOf(chain.Device)) {
		return false
	}
	return c.cfg.Reader == (edge.ID{}) || f.May(c.cfg.Reader, fleet.Read, chain.Device, chain.Stream)
}

// learnHead asks for the newest signed header, a hint: what it proves counts, its absence says nothing. That is a look-up in the DHT, so it is done
// for a few chains always, and for many only where hubs may hide something, see doubtful.
func (p *pull) learnHead(ctx context.Context) {
	src, ok := p.c.cfg.Source.(HeadSource)
	if !ok || p.t.noHead || !p.few && !p.doubtful() {
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

// doubtful reports whether the hubs that have answered may not know how far a chain reaches. What is published is on a majority of the hubs that its
// bucket belongs to: if all of these have answered, or so many that one of each majority is among them, and they agree, they know. Heads lie
// in the DHT on the same hubs.
func (p *pull) doubtful() bool {
	hubs, end := p.r.hubIDs(), max(p.t.end(), p.st.mark.next())
	place := transport.Place(p.t.chain.Bucket(end).Key(), hubs)
	answered, agree := 0, true
	for _, hub := range place {
		if !p.r.heard(hub) {
			continue
		}
		answered++
		end := uint64(0)
		if i := slices.IndexFunc(p.t.claims, func(c claim) bool { return c.hub == hub }); i >= 0 {
			end = p.t.claims[i].end()
		}
		agree = agree && end == p.t.end()
	}
	need := transport.Receipt{Targets: make([]fleet.Grant, len(place))}.Need()
	return answered < len(place) && (answered <= len(place)-need || !agree)
}

// unproven is how far beyond what is proven a hub's bare claim is believed.
const unproven = 16 * journal.BucketSize

// proveClaims makes a hub that claims much more than is proven show its last segment; else its claim is cut. So a
// lying hub cannot make a pull endless.
func (p *pull) proveClaims(ctx context.Context, from uint64) {
	for i := range p.t.claims {
		cl := &p.t.claims[i]
		if p.r.distrusts(cl.hub) {
			cl.clip(p.t.proven)
		}
		limit := max(from, p.t.proven) + unproven
		if cl.end() <= limit {
			continue
		}
		if !p.r.up(cl.hub) {
			cl.clip(limit)
			continue
		}
		last := cl.end() - 1
		err := p.show(ctx, cl.hub, last)
		if err == nil {
			continue
		}
		if !p.r.up(cl.hub) {
			cl.clip(limit)
			continue
		}
		p.r.bad(Bad{Hub: cl.hub, Chain: p.t.chain, Seq: last, Err: fmt.Errorf("claims a segment and does not show it: %w", err)})
		if cl.clip(limit); cl.end() > p.t.proven && p.show(ctx, cl.hub, cl.end()-1) != nil { // its disk may have lost the last one only
			cl.clip(p.t.proven)
		}
	}
}

// show makes a hub prove that a segment exists.
func (p *pull) show(ctx context.Context, hub edge.ID, seq uint64) error {
	seg, err := p.fetchOne(ctx, hub, seq)
	if err == nil {
		p.t.proven = max(p.t.proven, seg.Seq+1)
	}
	return err
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
	if errors.Is(err, transport.ErrUnreachable) && ctx.Err() == nil {
		p.r.failed(hub, err) // it is not asked again, for each chain, for as long
	}
	if err != nil {
		return nil, err
	}
	return seg, nil
}
