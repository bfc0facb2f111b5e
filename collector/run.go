// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// run collects what happens in one pull, from all its goroutines.
type run struct {
	c       *Collector
	log     *slog.Logger
	started time.Time

	mu        sync.Mutex
	hubs      []*hubState
	chains    map[journal.Chain]*ChainReport
	badList   []Bad
	badCount  int
	forks     []ForkReport
	continued []continued
}

// strikes is how many failed requests make a hub not worth asking again in this run.
const strikes = 3

type hubState struct {
	HubReport
	strikes int
	bad     int  // copies and claims that were false
	heard   bool // it answered the survey
}

// tooBad is how many false copies and claims make a hub one that is asked last, and not believed what nothing proves.
const tooBad = 256

// stream names the incarnation that a gap note speaks of.
type stream struct {
	device      edge.ID
	stream      string
	incarnation journal.Incarnation
}

// continued is what a later incarnation says about the end of an earlier one.
type continued struct {
	chain journal.Chain
	last  journal.Link
}

// maxBad is how many bad segments a report lists; all are counted and logged.
const maxBad = 1000

func newRun(c *Collector) *run {
	r := &run{c: c, log: c.log, started: time.Now(), chains: map[journal.Chain]*ChainReport{}}
	r.join(c.cfg.Fleet())
	return r
}

// join adds the hubs that are new in the fleet.
func (r *run) join(f *fleet.Fleet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range f.Hubs() {
		if !slices.ContainsFunc(r.hubs, func(h *hubState) bool { return h.Hub == g.Member }) {
			r.hubs = append(r.hubs, &hubState{HubReport: HubReport{Hub: g.Member, Name: g.Name}})
		}
	}
}

func (r *run) hubIDs() []edge.ID {
	ids := make([]edge.ID, 0, len(r.hubs))
	for _, h := range r.hubs {
		ids = append(ids, h.Hub)
	}
	return ids
}

func (r *run) hub(id edge.ID) *hubState {
	for _, h := range r.hubs {
		if h.Hub == id {
			return h
		}
	}
	return &hubState{strikes: strikes} // it does not belong to the fleet
}

func (r *run) answered(hub edge.ID, chains int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hub(hub)
	h.Chains, h.heard = chains, err == nil
	if err != nil {
		h.Err, h.strikes = err, strikes
		r.log.Warn("hub did not answer", "hub", hub.Short(), "name", h.Name, "err", err)
	}
}

// noneAnswered is an error when no hub answered the survey.
func (r *run) noneAnswered() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := []error{}
	for _, h := range r.hubs {
		if h.Err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", h.Name, h.Err))
	}
	return fmt.Errorf("collector: surveying %d hubs: %w: %w", len(r.hubs), ErrNoHub, errors.Join(errs...))
}

// failed notes a request that a hub did not answer properly.
func (r *run) failed(hub edge.ID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hub(hub)
	if h.strikes++; errors.Is(err, transport.ErrUnreachable) {
		h.strikes = strikes
	}
	h.Err = err
	r.log.Warn("hub failed", "hub", hub.Short(), "name", h.Name, "err", err)
}

// slow notes a hub that others stand in for.
func (r *run) slow(hub edge.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.hub(hub); h.Err == nil {
		h.Err = errSlow
		r.log.Warn("hub is slow", "hub", hub.Short(), "name", h.Name, "err", errSlow)
	}
}

// up reports whether a hub is worth asking: it belongs to the fleet, and has not failed too often.
func (r *run) up(hub edge.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hub(hub).strikes < strikes && r.c.cfg.Fleet().Is(hub, fleet.Hub)
}

// heard reports whether a hub has answered the survey.
func (r *run) heard(hub edge.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hub(hub).heard
}

// distrusts reports whether a hub has served too much that is false.
func (r *run) distrusts(hub edge.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hub(hub).bad >= tooBad
}

// name returns what people call a hub.
func (r *run) name(hub edge.ID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.hub(hub).Name, hub.Short())
}

// lacking counts the proven segments of a unit that hubs ought to hold by its place, and do not claim. What was published last may still be on its way.
func (r *run) lacking(t *target, u *unit) {
	place := transport.Place(t.chain.Bucket(u.span.First).Key(), r.hubIDs())
	end := t.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, hub := range place {
		h := r.hub(hub)
		cl := claim{}
		if i := slices.IndexFunc(t.claims, func(c claim) bool { return c.hub == hub }); i >= 0 {
			cl = t.claims[i]
		}
		for i, g := range u.segs {
			seq := u.span.First + uint64(i)
			if h.heard && g.seg != nil && seq >= cl.floor && seq+journal.BucketSize < end && !cl.claims(transport.Span{First: seq, Last: seq}) {
				h.Lacks++
			}
		}
	}
}

// withheld counts segments that a hub claims and did not send.
func (r *run) withheld(hub edge.ID, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hub(hub)
	if h.Withheld == 0 {
		r.log.Warn("hub does not send what it says it holds", "hub", hub.Short(), "name", h.Name)
	}
	h.Withheld += n
}

// absent names the hubs that did not answer, for the reason of a gap.
func (r *run) absent() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, h := range r.hubs {
		if h.strikes >= strikes {
			names = append(names, h.Name)
		}
	}
	if len(names) == 0 {
		return "no hub holds it"
	}
	return "no reachable hub holds it; not reached: " + strings.Join(names, ", ")
}

func (r *run) bad(b Bad) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.badCount++; len(r.badList) < maxBad {
		r.badList = append(r.badList, b)
	}
	if h := r.hub(b.Hub); b.Hub != (edge.ID{}) {
		if h.bad++; h.bad > tooBad {
			return
		}
	}
	r.log.Warn("bad segment", "hub", b.Hub.Short(), "chain", b.Chain, "seq", b.Seq, "err", b.Err)
}

// isBad reports whether the hub served something bad at or after from.
func (r *run) isBad(hub edge.ID, chain journal.Chain, from uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.badList, func(b Bad) bool { return b.Hub == hub && b.Chain == chain && b.Seq >= from })
}

// fork raises the alarm; false when it was raised for this place before.
func (r *run) fork(chain journal.Chain, f Fork) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, old := range r.forks {
		if old.Chain == chain && old.Seq == f.Seq {
			return false
		}
	}
	r.forks = append(r.forks, ForkReport{Chain: chain, Fork: f})
	r.log.Error("ALARM: chain is forked: the device's key is in two places, or its log was turned back", "chain", chain, "seq", f.Seq)
	return true
}

// chain changes the report of a chain.
func (r *run) chain(chain journal.Chain, change func(*ChainReport)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cr := r.chains[chain]
	if cr == nil {
		cr = &ChainReport{Chain: chain, Name: r.c.cfg.Fleet().NameOf(chain.Device)}
		r.chains[chain] = cr
	}
	change(cr)
}

func (r *run) chainFailed(chain journal.Chain, err error) {
	r.chain(chain, func(cr *ChainReport) { cr.Err = err })
}

// note keeps what notes say about other chains.
func (r *run) note(chain journal.Chain, n Note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.Gap != nil {
		r.c.explained.add(stream{chain.Device, chain.Stream, n.Gap.Incarnation}, *n.Gap)
	}
	if n.After != nil {
		former := chain
		former.Incarnation = n.After.Incarnation
		r.continued = append(r.continued, continued{former, n.After.Last})
	}
}

func (r *run) takeContinued() []continued {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.continued
	r.continued = nil
	return out
}
