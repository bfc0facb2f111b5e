// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// Doer carries requests out; the server has judged right, name and argument before. It is called concurrently. An error that is a *Refusal is told as it
// is, any other as Failed.
type Doer interface {
	Do(ctx context.Context, o *Order) (any, error)
}

// Ledger remembers, over restarts, what acts on the world. It is called concurrently, though never for one id.
type Ledger interface {
	// Begin notes an intent durably before it returns; or it returns what was noted of the id before.
	Begin(i Intent) (Past, error)
	// End notes durably what came of it.
	End(id RequestID, o Outcome) error
}

// Recorder is told of every request: it is the audit. It is called concurrently.
type Recorder interface {
	Called(a Act)             // is about to be done
	Ended(a Act, why error)   // is over; nil = done
	Refused(a Act, why error) // was not done
}

// Intent is what is about to be done.
type Intent struct {
	ID     RequestID
	Digest [32]byte // of who asks for what
	Peer   edge.ID
	Op     Op
	Name   string
}

// Outcome is what came of an intent. Value is what Do returned, in CBOR.
type Outcome struct {
	Reason Reason // 0 = done
	Detail string
	Value  []byte
}

// Past is what a ledger knows of an id.
type Past struct {
	Known  bool
	Digest [32]byte
	Ended  *Outcome // nil = it was begun, and no more is known
}

// Act is one request, for the audit.
type Act struct {
	Peer   edge.ID
	ID     RequestID
	Op     Op
	Name   string
	Value  any
	Looks  bool   // it changes nothing; told once for each name in a session
	Signed []byte // the record, of a request that is signed singly
	Repeat bool   // it was done before; its outcome was told again
}

// Options of a server. All but the limits are required; 0 is the default of a limit.
type Options struct {
	Self   edge.ID
	Fleet  func() *fleet.Fleet                 // asked at every decision
	Thing  func() (*thing.Description, []byte) // the present description, and signed; what is not in it cannot be asked for
	Doer   Doer
	Ledger Ledger
	Audit  Recorder
	Logger *slog.Logger
	Feed   Feed           // may be nil: then nothing can be watched
	Events Occurrences    // may be nil: then there is nothing to subscribe to
	Boot   journal.BootID // that the feed's readings count from

	Life     time.Duration // of a session. 0 = 1 h
	Idle     time.Duration // after which a session that asks for nothing ends. 0 = 10 min
	Alive    time.Duration // how often the device shows that it lives. 0 = 15 s
	Stall    time.Duration // how long a peer may not read. 0 = 10 s
	Sessions int           // in all; an eighth of them is kept for owners, and another one for them and operators. 0 = 32
	PerPeer  int           // sessions of one peer. 0 = 4
	AtOnce   int           // requests of a session under way. 0 = 8
	Acts     float64       // requests that act, a second, of one peer, and 25 times that at once. 0 = 2
}

func (o *Options) complete() error {
	if o.Fleet == nil || o.Thing == nil || o.Doer == nil || o.Ledger == nil || o.Audit == nil || journal.WeakKey(o.Self) {
		return errors.New("direct: options: Self, Fleet, Thing, Doer, Ledger and Audit are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Life, o.Idle = cmp.Or(o.Life, time.Hour), cmp.Or(o.Idle, 10*time.Minute)
	o.Alive, o.Stall = cmp.Or(o.Alive, 15*time.Second), cmp.Or(o.Stall, 10*time.Second)
	o.Sessions, o.PerPeer, o.AtOnce, o.Acts = cmp.Or(o.Sessions, 32), cmp.Or(o.PerPeer, 4), cmp.Or(o.AtOnce, 8), cmp.Or(o.Acts, 2)
	return nil
}

// Server is the device's side of all sessions. Safe for concurrent use. Close it.
type Server struct {
	o     Options
	life  context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	sessions map[*session]struct{}
	works    map[RequestID]*work
	paces    map[edge.ID]*rate.Limiter // of those that act
}

// work is something that acts, under way. It outlives the session that asked for it.
type work struct {
	digest [32]byte
	peer   edge.ID
	name   string
	end    context.CancelCauseFunc
	done   chan struct{} // closed when outcome is valid
	out    Outcome
}

// NewServer makes a server.
func NewServer(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{o: o, sessions: map[*session]struct{}{}, works: map[RequestID]*work{}, paces: map[edge.ID]*rate.Limiter{}}
	s.life, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close ends all sessions and all that is under way, and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.sessions {
		c.end(refuse(Stopping, "the device stops or starts anew"))
	}
	s.mu.Unlock()
	s.stop()
	s.tasks.Wait()
	return nil
}

// Serve holds one session with a peer that the channel below has proven; it returns when the session is over. nil: the peer ended it.
func (s *Server) Serve(ctx context.Context, stream Stream, peer edge.ID) error {
	c := newSession(s, stream, peer)
	if no := s.admit(c); no != nil {
		err := errors.Join(no, c.out.send(kindEnd, ending{Reason: no.Reason, Detail: no.Detail}), stream.Close())
		return fmt.Errorf("direct: session of %s: %w", peer.Short(), err)
	}
	defer s.tasks.Done()
	if err := c.serve(ctx); err != nil {
		return fmt.Errorf("direct: session of %s: %w", peer.Short(), err)
	}
	return nil
}

func (s *Server) admit(c *session) *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := 0
	for o := range s.sessions {
		if o.peer == c.peer {
			own++
		}
	}
	switch {
	case s.closed:
		return refuse(Stopping, "the device stops or starts anew")
	case !s.o.Fleet().IsMember(c.peer):
		return refuse(NoRight, "you are no member of the fleet")
	case own >= s.o.PerPeer:
		return refuse(Busy, "you have %d sessions open: close one", own)
	case len(s.sessions) >= s.places(c.peer):
		return refuse(Busy, "%d sessions are open", len(s.sessions))
	}
	s.sessions[c] = struct{}{}
	s.tasks.Add(1)
	return nil
}

// places is how many sessions there may be for the peer to get another one: members that hold all that they can get leave some to operators, and those to owners, who
// can put an end to it.
func (s *Server) places(peer edge.ID) int {
	f, kept := s.o.Fleet(), s.o.Sessions/8
	owners := f.State().Owners
	switch {
	case slices.Contains(owners[:], peer):
		return s.o.Sessions
	case f.Is(peer, fleet.Operator):
		return s.o.Sessions - kept
	}
	return s.o.Sessions - 2*kept
}

func (s *Server) leave(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
}

// Review applies a new fleet: sessions of those that are members no more end, and what is under way without the right to it is cancelled. Call it after each change.
func (s *Server) Review() {
	f := s.o.Fleet()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		if !f.IsMember(c.peer) {
			c.end(refuse(NoRight, "you are no member of the fleet any more"))
			continue
		}
		c.review(f)
	}
	for _, w := range s.works {
		if !f.May(w.peer, fleet.Command, s.o.Self, w.name) {
			w.end(refuse(NoRight, "the right to %s was taken while it was under way", w.name))
		}
	}
}

// actsAtOnce is how many seconds' worth of acting requests may come at once.
const actsAtOnce = 25

// maxPaces bounds the peers whose rate is remembered.
const maxPaces = 1024

// mayAct counts a request that acts against its peer's rate.
func (s *Server) mayAct(peer edge.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.paces[peer]
	if l == nil {
		for other := range s.paces { // any, if there are too many: members are few, and who is forgotten begins anew
			if len(s.paces) < maxPaces {
				break
			}
			delete(s.paces, other)
		}
		l = rate.NewLimiter(rate.Limit(s.o.Acts), int(max(1, s.o.Acts*actsAtOnce)))
		s.paces[peer] = l
	}
	return l.Allow()
}

// claim finds the work of an id, or makes it the caller's to do.
func (s *Server) claim(id RequestID, d [32]byte, peer edge.ID, name string) (w *work, ctx context.Context, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.works[id]; w != nil {
		if w.digest != d {
			return nil, nil, false, refuse(Conflict, "the request's id is that of another one under way")
		}
		return w, nil, false, nil
	}
	if s.closed {
		return nil, nil, false, refuse(Stopping, "the device stops or starts anew")
	}
	w = &work{digest: d, peer: peer, name: name, done: make(chan struct{})}
	ctx, w.end = context.WithCancelCause(s.life)
	s.works[id] = w
	return w, ctx, true, nil
}

func (s *Server) release(id RequestID, w *work) {
	s.mu.Lock()
	delete(s.works, id)
	s.mu.Unlock()
	close(w.done)
	w.end(nil)
}
