// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// A watermark is a promise: hubs need not hold the segments up to it for this collector any more. So it is made of what the sink has committed, and it
// stops before the first open gap, for somebody may still have those segments, unless nobody can:
//
//   - a majority of the gap's hubs says that it let all of it go (letGo);
//   - the device itself says, signed, that it does not have it any more;
//   - the gap was found longer ago than hubs hold anything of that stream (fleet.Retention).
//
// A segment that is there and cannot be read, or that the sink refused, is such a gap too: what is wrong may be mended while the hubs hold it. What is
// sealed for other readers only is no gap; who was given its keys later (Rewrap) gets it while the hubs hold it for their other reasons. Chains
// of rewraps are never marked: each start of a collector reads them from the beginning.

const (
	markEvery = time.Minute      // a Collector that follows tells at most so often
	markLimit = 10 * time.Second // for one hub to take what is told
)

// marker tells the hubs what the sink has. Safe for concurrent use, but for note, which reads the Collector's states.
type marker struct {
	c   *Collector
	src MarkSource // nil: nobody is told
	all *agreement // with other sinks

	mu    sync.Mutex
	round uint64
	marks map[journal.Chain]marked
	told  map[edge.ID]uint64 // the round up to which a hub has all
}

// marked is a watermark and the round in which it came to be.
type marked struct {
	link  journal.Link
	round uint64
}

func newMarker(c *Collector) *marker {
	m := &marker{c: c, marks: map[journal.Chain]marked{}, told: map[edge.ID]uint64{}}
	if src, ok := c.cfg.Source.(MarkSource); ok && c.cfg.Signer != nil {
		m.src = src
	}
	return m
}

// silence ends what hubs are told of this sink, and lets those beside it speak without it.
func (m *marker) silence() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.src = nil
	if m.all != nil {
		m.all.leave(m.c)
	}
}

// source returns whom to tell, nil for nobody.
func (m *marker) source() MarkSource {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.src
}

// note takes down which chains have moved since it was called last, after a start all; true if some hub has not been told everything.
func (m *marker) note(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.src == nil {
		return false
	}
	next := m.round + 1
	for chain, st := range m.c.states {
		if chain.Stream == journal.RewrapStream || !m.c.wanted(chain) {
			continue
		}
		link, ok := m.c.safe(chain, st, now)
		if ok && m.all != nil {
			link, ok = m.all.say(m.c, chain, link)
		}
		if old, known := m.marks[chain]; ok && (!known || link.Seq > old.link.Seq) {
			m.marks[chain], m.round = marked{link, next}, next
		}
	}
	return slices.ContainsFunc(m.c.cfg.Fleet().Hubs(), func(h fleet.Grant) bool { return m.told[h.Member] < m.round })
}

// owes reports whether a hub has not been told everything.
func (m *marker) owes(hub edge.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.src != nil && m.told[hub] < m.round
}

// safe returns how far a chain may be let go.
func (c *Collector) safe(chain journal.Chain, st *state, now time.Time) (best journal.Link, ok bool) {
	if st.mark.Link == nil {
		return best, false
	}
	better := func(seq uint64, hash journal.Hash) {
		if hash != (journal.Hash{}) && (!ok || seq > best.Seq) {
			best, ok = journal.Link{Seq: seq, Hash: hash}, true
		}
	}
	for _, g := range st.mark.Gaps {
		if g.First > st.mark.Link.Seq {
			break
		}
		if g.First > 0 {
			better(g.First-1, g.Before)
		}
		if !c.givenUp(chain, st, g, now) {
			return best, ok
		}
		better(g.Last, g.After)
	}
	return *st.mark.Link, true
}

// givenUp reports whether nobody can have the segments of a gap any more.
func (c *Collector) givenUp(chain journal.Chain, st *state, g Gap, now time.Time) bool {
	age, _ := c.cfg.Fleet().Retention(chain.Device, chain.Stream)
	if g.Last < st.gone || now.Sub(g.Found) > age {
		return true
	}
	return slices.ContainsFunc(c.explained.of(stream{chain.Device, chain.Stream, chain.Incarnation}), func(n journal.GapNote) bool {
		return n.Segments > 0 && n.From <= g.First && g.Last <= n.To
	})
}

// tell sends to each hub that up lets through what it has not been told. What fails is told with what comes next.
func (m *marker) tell(ctx context.Context, up func(edge.ID) bool) {
	src := m.source()
	if src == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, markLimit)
	defer cancel()
	var hubs []edge.ID
	for _, h := range m.c.cfg.Fleet().Hubs() {
		if m.owes(h.Member) && up(h.Member) {
			hubs = append(hubs, h.Member)
		}
	}
	records := map[uint64][][]byte{} // by what a hub has
	m.mu.Lock()
	round := m.round
	for _, hub := range hubs {
		since := m.told[hub]
		if _, made := records[since]; made {
			continue
		}
		list, err := m.records(since)
		if err != nil {
			m.c.log.Error("watermarks not signed", "err", err)
			hubs = nil
		}
		records[since] = list
	}
	m.mu.Unlock()
	parallel(askWidth, len(hubs), func(i int) {
		m.mu.Lock()
		list := records[m.told[hubs[i]]]
		m.mu.Unlock()
		for _, signed := range list {
			if err := src.Mark(ctx, hubs[i], signed); err != nil {
				m.c.log.Info("hub was not told what the sink has", "hub", hubs[i].Short(), "err", err)
				return
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.told[hubs[i]] = round
	})
}

// records signs what has moved after a round.
func (m *marker) records(since uint64) (out [][]byte, err error) {
	chains := slices.SortedFunc(maps.Keys(m.marks), compareChains)
	chains = slices.DeleteFunc(chains, func(c journal.Chain) bool { return m.marks[c].round <= since })
	for part := range slices.Chunk(chains, journal.MaxWatermarks) {
		list := make([]journal.Watermark, 0, len(part))
		for _, c := range part {
			list = append(list, journal.Watermark{Chain: c, Link: m.marks[c].link})
		}
		signed, err := journal.SignWatermarks(m.c.cfg.Signer, m.c.cfg.Fleet().ID(), list)
		if err != nil {
			return nil, err
		}
		out = append(out, signed)
	}
	return out, nil
}

// maxNotes bounds the gap notes that are kept of one incarnation.
const maxNotes = 256

// explained keeps what devices say of what is missing. Safe for concurrent use.
type explained struct {
	mu  sync.Mutex
	all map[stream][]journal.GapNote
}

func (e *explained) add(s stream, n journal.GapNote) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := append(slices.Clone(e.all[s]), n)
	e.all[s] = list[max(0, len(list)-maxNotes):]
}

func (e *explained) of(s stream) []journal.GapNote {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[s]
}
