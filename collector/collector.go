// SPDX-License-Identifier: Apache-2.0

// Package collector pulls the segments of a fleet's chains from its hubs, proves that they are complete and
// untouched, opens them and writes the readings to a Sink: pull → verify → decrypt → sink.
//
// Start with New and Collector.Pull; Collector.Follow stays and takes what arrives; NewGroup feeds several sinks. The sinks are collector/sqlite,
// collector/postgres and, for pipes, collector/stdout; collector/sinktest is the contract that a sink must pass.
package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Errors of the package; test with errors.Is.
var (
	ErrNoHub  = errors.New("no hub of the fleet answered: check the network and the hubs' addresses")
	ErrPoison = errors.New("the sink cannot hold this reading")
	ErrJump   = errors.New("the checkpoint would jump over segments that nobody accounted for")
)

// Source asks one hub. It is called concurrently. Errors wrap transport.ErrUnreachable where that is the cause.
type Source interface {
	// Held says what the hub holds of a device's chains; the zero device means all devices.
	Held(ctx context.Context, hub edge.ID, device edge.ID) ([]transport.Held, error)
	// Fetch visits the segments that the hub holds of a span, ascending by seq. An error of visit ends it and is
	// returned. The slice is valid during the visit only.
	Fetch(ctx context.Context, hub edge.ID, chain journal.Chain, span transport.Span, visit func(segment []byte) error) error
}

// HeadSource is a Source that also knows the newest signed header of a chain, a hint (design §4.8).
type HeadSource interface {
	Head(ctx context.Context, chain journal.Chain) (signedHeader []byte, err error)
}

// FollowSource is a Source that tells what a hub has just stored, until ctx ends or the hub is lost.
type FollowSource interface {
	Follow(ctx context.Context, hub edge.ID, visit func(transport.Held) error) error
}

// MarkSource is a Source that takes a collector's signed watermarks to a hub, which returns nil once they are durable there.
type MarkSource interface {
	Mark(ctx context.Context, hub edge.ID, signed []byte) error
}

// Config is what a Collector works with. Source, Sink, Fleet and Key are required.
type Config struct {
	Source   Source
	Sink     Sink
	Fleet    func() *fleet.Fleet // asked anew for each survey
	Key      journal.ReaderKey   // opens the epochs
	Reader   edge.ID             // whose grant limits the streams; zero = all streams
	Devices  []edge.ID           // only these …
	Names    []string            // … and those that have one of these names or had it, other keys of a device among them; both empty = every enrolled device
	Parallel int                 // chains pulled at the same time; 0 = 8
	Log      *slog.Logger        // nil = silent

	// Signer signs what the sink has, so that hubs may let it go (watermarks.go says what exactly). nil = they are not told: so it must be
	// where the sink is somebody's screen.
	Signer journal.Signer

	// Dead takes the readings that the sink cannot hold, so that the rest of their segment is written. nil: a segment with such a reading becomes a gap.
	Dead Dead
}

// Dead keeps readings that a sink cannot hold; DeadLetters is one.
type Dead interface {
	// Put keeps them. When it returns nil they outlive a power cut. The same one may come again.
	Put(letters []DeadLetter) error
}

// Collector pulls into one sink. Pull and Follow must not run at the same time on one Collector; several Collectors
// may share a database.
type Collector struct {
	cfg       Config
	log       *slog.Logger
	readings  atomic.Uint64
	segments  atomic.Uint64
	expected  atomic.Uint64
	rings     []*ring
	ahead     chan struct{} // places for what is fetched before its turn
	paces     *paces
	explained *explained
	marker    *marker
	changed   chan struct{} // the fleet has
	rewraps   *rewraps
	states    map[journal.Chain]*state
	loaded    bool // states agree with the sink

	shelf *shelf        // with the other sinks of a Group; nil: there are none
	name  string        // in a Group
	share *share        // of the chains, with other collectors; nil: all are pulled here
	dead  atomic.Uint64 // readings that the sink refused
}

// New returns a Collector. The sink stays the caller's to close.
func New(cfg Config) (*Collector, error) {
	if cfg.Source == nil || cfg.Sink == nil || cfg.Fleet == nil {
		return nil, errors.New("collector: a source, a sink and a fleet are required")
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 8
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Collector{cfg: cfg, log: log, rewraps: newRewraps(), rings: newRings(cfg.Key, cfg.Parallel), ahead: make(chan struct{}, lookAhead),
		paces: &paces{all: map[edge.ID]*pace{}}, explained: &explained{all: map[stream][]journal.GapNote{}}, changed: make(chan struct{}, 1)}
	c.marker = newMarker(c)
	return c, nil
}

// Progress is how far a Collector is.
type Progress struct {
	Readings uint64 // that the sink has committed
	Segments uint64 // with them, those without readings included
	Expected uint64 // segments that there are, as most hubs say: so far as is known yet
	Refused  uint64 // readings that the sink cannot hold, which went to Config.Dead
}

// Progress returns how far this Collector has come in all its pulls, for a progress line. Safe for concurrent use.
func (c *Collector) Progress() Progress {
	return Progress{Readings: c.readings.Load(), Segments: c.segments.Load(), Expected: c.expected.Load(), Refused: c.dead.Load()}
}

// FleetChanged tells a Collector that follows that Config.Fleet returns another fleet now. It does not block. Safe for concurrent use.
func (c *Collector) FleetChanged() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// surveys is how often a pull looks at what there is: again when the fleet has changed meanwhile, for a new device or a new hub.
const surveys = 3

// Pull surveys the hubs, pulls what the sink does not have yet, tells the hubs what it has (Config.Signer) and returns what it found. It can be
// killed at any point and run again. The error is about the run (no hub answered, the sink failed, ctx ended); bad, missing and forked segments are
// not errors but lines of the report, which is valid in every case.
func (c *Collector) Pull(ctx context.Context) (Report, error) {
	r := newRun(c)
	c.loaded = false
	var err error
	for n := 0; n < surveys && err == nil; n++ {
		f := c.cfg.Fleet()
		r.join(f)
		var s []*target
		if s, err = c.survey(ctx, r); err == nil {
			err = c.rounds(ctx, r, s)
		}
		if c.cfg.Fleet() == f {
			break
		}
	}
	if err == nil && c.marker.note(time.Now()) {
		c.marker.tell(ctx, r.up)
	}
	return r.finish(c.states), err
}

// state is what is known about one chain between two pulls of a Collector.
type state struct {
	mark   Mark
	gone   uint64 // the hubs have let go all below
	opener *opener
}

// load reads the sink's marks once.
func (c *Collector) load(ctx context.Context) error {
	if c.loaded {
		return nil
	}
	marks, err := c.cfg.Sink.Marks(ctx)
	if err != nil {
		return fmt.Errorf("collector: reading the checkpoints: %w", err)
	}
	if marks == nil { // it remembers nothing, so hubs need hold nothing for it
		c.marker.silence()
	}
	fleetID := c.cfg.Fleet().ID()
	states := map[journal.Chain]*state{}
	for chain, m := range marks {
		if chain.Fleet == fleetID {
			states[chain] = &state{mark: m, opener: c.opener(chain)}
			if old := c.states[chain]; old != nil {
				states[chain].gone = old.gone
			}
		}
	}
	c.states, c.loaded = states, true
	return nil
}

// rounds learns the keys that others have handed on, pulls the surveyed chains, then those whose end was moved by what a later incarnation
// says of them, and at last what the new keys open of former pulls.
func (c *Collector) rounds(ctx context.Context, r *run, targets []*target) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	keys, targets := split(targets, func(t *target) bool { return t.chain.Stream == journal.RewrapStream })
	c.learnRewraps(ctx, r, keys)
	targets = slices.DeleteFunc(targets, func(t *target) bool { return !c.mine(t.chain) })
	if err := c.roundsOfChains(ctx, r, targets); err != nil {
		return err
	}
	if err := c.replay(ctx, r); err != nil {
		c.loaded = false
		return err
	}
	return nil
}

// mine reports whether a chain is pulled here, not by another collector. Keys that were handed on are read by all.
func (c *Collector) mine(chain journal.Chain) bool {
	return chain.Stream == journal.RewrapStream || c.share.mine(chain.Device)
}

// split divides a list.
func split[T any](list []T, first func(T) bool) (yes, no []T) {
	for _, v := range list {
		if first(v) {
			yes = append(yes, v)
		} else {
			no = append(no, v)
		}
	}
	return yes, no
}

func (c *Collector) roundsOfChains(ctx context.Context, r *run, targets []*target) error {
	byChain := map[journal.Chain]*target{}
	for _, t := range targets {
		byChain[t.chain] = t
	}
	for len(targets) > 0 {
		if err := c.round(ctx, r, targets); err != nil {
			c.loaded = false
			return err
		}
		targets = nil
		for _, n := range r.takeContinued() {
			t := byChain[n.chain]
			if t == nil {
				t = &target{chain: n.chain}
				byChain[n.chain] = t
			}
			if !slices.Contains(targets, t) && !c.accounted(n.chain, n.last.Seq) {
				targets = append(targets, t)
			}
			t.proven = max(t.proven, n.last.Seq+1)
		}
	}
	return nil
}

// accounted reports whether seq has its place in the sink, as rows or as a gap.
func (c *Collector) accounted(chain journal.Chain, seq uint64) bool {
	s := c.states[chain]
	if s == nil {
		return false
	}
	if s.mark.Link != nil && s.mark.Link.Seq >= seq {
		return true
	}
	return slices.ContainsFunc(s.mark.Gaps, func(g Gap) bool { return g.Last >= seq })
}

// round pulls chains, Parallel at a time. One chain's failure does not hurt the others.
func (c *Collector) round(ctx context.Context, r *run, targets []*target) error {
	for _, t := range targets {
		if c.states[t.chain] == nil {
			c.states[t.chain] = &state{opener: c.opener(t.chain)}
		}
		if from, end := c.states[t.chain].mark.next(), t.likelyEnd(); end > from {
			c.expected.Add(end - from)
		}
	}
	errs := make([]error, len(targets))
	parallel(c.cfg.Parallel, len(targets), func(i int) {
		t := targets[i]
		p := c.pull(r, t, c.states[t.chain])
		p.few = len(targets) <= fewChains
		if errs[i] = p.run(ctx); errs[i] != nil {
			r.chainFailed(t.chain, errs[i])
		}
	})
	return errors.Join(errs...)
}
