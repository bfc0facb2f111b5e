// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge"
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
	explained map[stream][]journal.GapNote
}

// strikes is how many failed requests make a hub not worth asking again in this run.
const strikes = 3

type hubState struct {
	HubReport
	strikes int
}

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
	r := &run{c: c, log: c.log, started: time.Now(), chains: map[journal.Chain]*ChainReport{}, explained: map[stream][]journal.GapNote{}}
	for _, g := range c.cfg.Fleet().Hubs() {
		r.hubs = append(r.hubs, &hubState{HubReport: HubReport{Hub: g.Member, Name: g.Name}})
	}
	return r
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
	return &hubState{}
}

func (r *run) answered(hub edge.ID, chains int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hub(hub)
	h.Chains = chains
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

// up reports whether a hub is worth asking.
func (r *run) up(hub edge.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hub(hub).strikes < strikes
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
		cr = &ChainReport{Chain: chain}
		if g, ok := r.c.cfg.Fleet().Member(chain.Device); ok {
			cr.Name = g.Name
		}
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
		s := stream{chain.Device, chain.Stream, n.Gap.Incarnation}
		r.explained[s] = append(r.explained[s], *n.Gap)
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
