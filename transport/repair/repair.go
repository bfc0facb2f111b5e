// SPDX-License-Identifier: Apache-2.0

// Package repair brings back the copies that a hub lacks: it compares what it holds with what the other hubs hold of its buckets, and fetches exactly
// what is missing from the closest of them that lives (decision 0017). Nobody pushes, so a lack has one that sees to it. Begin with New and Run.
package repair

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Local is the hub's own store.
type Local interface {
	transport.Mirror
	transport.Bookkeeper
}

// Peers asks other hubs; p2p.Node does. Safe for concurrent use.
type Peers interface {
	Ranges(ctx context.Context, hub edge.ID, q transport.RangeQuery, visit func(transport.Range) error) error
	FetchDated(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte, received int64) error) error
	Marks(ctx context.Context, hub edge.ID, visit func(signed []byte) error) error
}

// Options of a Repairer. Self, Fleet, Local and Peers are required.
type Options struct {
	Self   edge.ID
	Fleet  func() *fleet.Fleet // asked anew in each round
	Local  Local
	Peers  Peers
	Rate   int64         // bytes that are fetched in a second, at least MinRate; 0 = DefaultRate
	Every  time.Duration // from one round to the next, ±25 %; 0 = 1 min
	Settle time.Duration // what is seen to be missing is fetched if it is missing still after this; 0 = 10 s
	Stall  time.Duration // a hub that is silent for as long is passed over; 0 = 20 s
	Logger *slog.Logger  // nil = nowhere
}

// Rates of Options, in bytes a second.
const (
	DefaultRate = 4 << 20
	MinRate     = 16 << 10 // a segment of the greatest size in 16 s
)

const (
	kickJitter = 5 * time.Second // a change that all hubs hear of at once does not bring them here at once
	lookLimit  = 5 * time.Minute // of a hub's own time, to tell what it holds
	lookPhase  = time.Minute     // what is known to be missing by then is fetched before the other hubs are asked
	marksEach  = 2               // hubs that are asked for watermarks in a round
	peersEach  = 8               // hubs that are asked in a round, in turn: one of them has what is missing, as a rule
)

// Repairer repairs one hub's store. All methods are safe for concurrent use; Run is called once.
type Repairer struct {
	o     Options
	log   *slog.Logger
	pace  *rate.Limiter
	kick  chan struct{}
	memo  memory
	marks seen

	mu    sync.Mutex
	stats Stats
	peers map[edge.ID]*peer
}

// New returns a Repairer that does nothing before Run.
func New(o Options) (*Repairer, error) {
	if o.Fleet == nil || o.Local == nil || o.Peers == nil || o.Self == (edge.ID{}) {
		return nil, errors.New("repair: Options wants Self, Fleet, Local and Peers")
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	o.Rate = max(o.Rate, MinRate)
	for d, def := range map[*time.Duration]time.Duration{&o.Every: time.Minute, &o.Settle: 10 * time.Second, &o.Stall: 20 * time.Second} {
		if *d == 0 {
			*d = def
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Repairer{o: o, log: o.Logger, pace: rate.NewLimiter(rate.Limit(o.Rate), max(journal.MaxSegment, int(o.Rate/4))),
		kick: make(chan struct{}, 1), memo: newMemory(), marks: seen{}, peers: map[edge.ID]*peer{}}, nil
}

// Kick has a round begin soon: the fleet's hubs have changed. It never waits.
func (r *Repairer) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Run repairs until ctx ends, and returns nil then. What a disk or another hub does wrong is logged, counted in Stats, and tried again in the next round.
func (r *Repairer) Run(ctx context.Context) error {
	wait := rand.N(kickJitter) // a hundred hubs that start together
	for all := true; ; all = false {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		case <-r.kick:
			t.Stop()
			if !nap.For(ctx, rand.N(kickJitter)) {
				return nil
			}
			r.forgive()
			all = true
		}
		err := r.round(ctx, all)
		if ctx.Err() != nil {
			return nil
		}
		r.finish(err)
		wait = r.o.Every*3/4 + rand.N(r.o.Every/2)
	}
}

// round compares with the other hubs whose turn it is, or with all, and fetches what is missing.
func (r *Repairer) round(ctx context.Context, all bool) error {
	f := r.o.Fleet()
	if !f.Is(r.o.Self, fleet.Hub) {
		r.leave()
		return nil
	}
	g, marks := &pass{}, marksEach
	todo := r.begin(f, all)
	for len(todo) > 0 {
		w, began := newWork(f), time.Now()
		for len(todo) > 0 && !w.full() && (w.empty() || time.Since(began) < lookPhase) {
			if err := r.ask(ctx, w, todo[0], marks > 0); err != nil {
				return err
			}
			todo, marks = todo[1:], marks-1
		}
		again, err := r.mend(ctx, g, w)
		if err != nil {
			return err
		}
		if again { // what did not fit, or shows only now
			todo, g.left = r.begin(f, true), 0
		}
	}
	return nil
}
