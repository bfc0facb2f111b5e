// SPDX-License-Identifier: Apache-2.0

// Package device is a member's own part in updates: it keeps the signed metadata fresh, decides by the rollout whether this device is meant, fetches the program,
// hands it over to whoever installs it, and tells the fleet how far it is. At a hub it also keeps every program of the current metadata for others.
package device

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/swarm"
	"github.com/streembit/edge/ota/trust"
)

// Metadata is proven TUF metadata; *trust.Store is it.
type Metadata interface {
	Refresh(ctx context.Context, f trust.Fetcher) error
	Artifacts() ([]ota.Artifact, error)
	Files() (map[string][]byte, error)
}

// Network is how the fleet is spoken with.
type Network interface {
	// Record returns the newest record under a key; the error wraps records.ErrNone if there is none.
	Record(ctx context.Context, key string) (records.Record, error)
	// PutRecord offers a record to the hubs. nil is no promise.
	PutRecord(ctx context.Context, key string, raw []byte) error
	// Sources returns who may have a program, each time it is asked anew.
	Sources(tree chunks.Hash) func(context.Context) []swarm.Peer
}

// Slots is what installs programs; package slots behind the agent's folders. A machine without it, which a person updates by hand, has none.
type Slots interface {
	// HandOver gives it a complete program and what proves it.
	HandOver(a ota.Artifact, metadata map[string][]byte, program string) error
	// Outcome says how far the last one is.
	Outcome() (ota.Progress, error)
	// Failed reports whether a program was tried and gone back from.
	Failed(hash [32]byte) (bool, error)
}

// Options of an Updater. Those without a remark are required.
type Options struct {
	Dir      string // folder of its own, which is made if it is not there
	Signer   journal.Signer
	Fleet    func() *fleet.Fleet
	Machine  ota.Machine
	Running  ota.Version // "" = it does not know its version: nothing is installed
	Channel  string
	Quiet    []Quiet       // none = never quiet
	Every    time.Duration // between two looks when nobody tells of anything new; 0 = 15 min
	Clock    func() (time.Time, bool)
	Trust    func(root []byte) (Metadata, error) // opens the metadata that a pinned root proves
	Net      Network
	Depot    *Depot
	Slots    Slots        // nil = nothing is installed here
	Mirror   bool         // a hub: keep every program of the metadata
	Free     func() int64 // bytes that are free where programs are kept
	Raise    func(kind, text string)
	Clear    func(kind string)
	Note     func(event, what, detail string) // audit
	Logger   *slog.Logger
	Announce bool // tell the fleet how far it is; a member without a grant of its own as device or hub may not
}

// Alarms that an Updater raises.
const (
	AlarmExpired = "update-metadata-expired"
	AlarmProof   = "update-not-proven"
	AlarmSpace   = "update-no-space"
	AlarmBack    = "update-rolled-back"
	AlarmRight   = "update-rollout-refused"
	AlarmLiar    = "update-false-chunk"
)

const (
	everyUsual = 15 * time.Minute
	pollSlots  = 2 * time.Second // while something is with it
	tellPause  = 10 * time.Second
	spread     = 20 * time.Millisecond // for each device of the fleet, before all ask for what is new …
	spreadMost = time.Minute           // … and at most
	lookLimit  = 2 * time.Minute       // for one look: the hubs may be far away
	retryFirst = 5 * time.Second       // what could not be asked is asked again
)

// Updater is the loop. Run it once; the other methods are safe for concurrent use.
type Updater struct {
	o    Options
	self edge.ID
	log  *slog.Logger

	poke    chan struct{} // holds one token: there may be something new
	settled chan struct{} // holds one token: a fetch has ended, or slots may have something to say

	mu     sync.Mutex
	status Status
	said   said // that the fleet was told, or is to be
	root   []byte
	meta   Metadata
	looks  uint64        // that have ended
	looked chan struct{} // closed and replaced after each
	bundle *ota.Artifact // a person wants that one, whatever the rollout says

	fetch   *fetch // under way
	mirror  *fetch
	handed  handed
	refused refused
	full    string    // what the disk said when it was full …
	fullTo  time.Time // … and until when it is left alone
	known   known
	retry   time.Duration
	news    bool // of the next look: somebody told of something
}

// handed is what was given to Slots by this process.
type handed struct {
	hash [32]byte
	at   time.Time
}

// refused is what the installer would not take.
type refused struct {
	outcome ota.Progress
	seen    time.Time
}

// known is what the metadata name: proving them takes signatures, and the loop asks often.
type known struct {
	all []ota.Artifact
	err error
	at  time.Time
}

// fetch is one program that comes.
type fetch struct {
	artifact ota.Artifact
	cancel   context.CancelFunc
	done     chan struct{}
	file     *chunks.File // once done
	err      error
}

// Status is what a person is shown.
type Status struct {
	Channel  string       `json:"channel"`
	Progress ota.Progress `json:"progress"`
	Rollout  string       `json:"rollout,omitempty"` // in words
	Fetching *FetchStatus `json:"fetching,omitempty"`
	Programs int          `json:"programs"`         // of the metadata
	Complete int          `json:"complete"`         // that are here
	Given    int64        `json:"given_bytes"`      // to others, since the start
	Checked  time.Time    `json:"checked,omitzero"` // when the metadata were last heard to be the newest
	Error    string       `json:"error,omitempty"`  // of the last look
}

// FetchStatus is how far a fetch is.
type FetchStatus struct {
	Path    string `json:"path"`
	Percent int    `json:"percent"`
	Sources int    `json:"sources"`
	Near    int64  `json:"near_bytes"` // from neighbours …
	Far     int64  `json:"far_bytes"`  // … and from others
}

// New prepares the loop.
func New(o Options) (*Updater, error) {
	if o.Every == 0 {
		o.Every = everyUsual
	}
	u := &Updater{o: o, self: o.Signer.ID(), log: o.Logger, poke: make(chan struct{}, 1), settled: make(chan struct{}, 1), looked: make(chan struct{})}
	if err := u.load(); err != nil {
		return nil, err
	}
	u.status.Channel = o.Channel
	return u, nil
}

// Poke has the loop look soon: somebody told of something new.
func (u *Updater) Poke() {
	select {
	case u.poke <- struct{}{}:
	default:
	}
}

func (u *Updater) settle() {
	select {
	case u.settled <- struct{}{}:
	default:
	}
}

// Check has the loop look at once and returns what it then knows.
func (u *Updater) Check(ctx context.Context) (Status, error) {
	u.mu.Lock()
	want := u.looks + 1
	u.news = true
	u.mu.Unlock()
	u.Poke()
	for {
		u.mu.Lock()
		ended, looked := u.looks >= want, u.looked
		u.mu.Unlock()
		if ended {
			return u.Status(), nil
		}
		select {
		case <-looked:
		case <-ctx.Done():
			return u.Status(), ctx.Err()
		}
	}
}

// Status returns what is known now.
func (u *Updater) Status() Status {
	u.mu.Lock()
	s, f := u.status, u.fetch
	s.Given = u.o.Depot.Given()
	if f == nil {
		f = u.mirror
	}
	u.mu.Unlock()
	if f != nil {
		p := u.o.Depot.Progress(f.artifact.Tree)
		s.Fetching = &FetchStatus{Path: f.artifact.Path, Percent: p.Percent(), Sources: p.Stats.Sources, Near: p.Stats.Near, Far: p.Stats.Far}
		if s.Progress.Stage == ota.Fetching {
			s.Progress.Percent = p.Percent()
		}
	}
	return s
}

// Run looks, decides and acts until ctx ends, and waits for what it began.
func (u *Updater) Run(ctx context.Context) error {
	defer u.stop()
	tick := time.NewTicker(pollSlots)
	defer tick.Stop()
	next, tell := time.Now().Add(rand.N(2*time.Second)), time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-u.poke:
			if at := time.Now().Add(u.patience()); at.Before(next) {
				next = at
			}
		case <-u.settled:
			u.decide(ctx)
		case <-tick.C:
			u.decide(ctx)
		}
		if now := time.Now(); !now.Before(next) {
			next = now.Add(u.look(ctx))
			u.decide(ctx)
		}
		if now := time.Now(); !now.Before(tell) && u.tell(ctx) {
			tell = now.Add(tellPause)
		}
	}
}

// patience is how long this device waits before it asks for what is new: all hear of it at the same moment.
func (u *Updater) patience() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.news || u.o.Mirror { // a person waits, or the others wait for this one
		u.news = false
		return 0
	}
	return rand.N(min(spreadMost, spread*time.Duration(len(u.o.Fleet().With(fleet.Device))+1)))
}

// look asks for what is new and returns when to look again.
func (u *Updater) look(ctx context.Context) time.Duration {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	err := u.refresh(limited)
	cancel()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.looks++
	close(u.looked)
	u.looked = make(chan struct{})
	u.status.Error = ""
	if err != nil {
		u.status.Error = err.Error()
	}
	if err != nil && !errors.Is(err, trust.ErrExpired) && !errors.Is(err, trust.ErrNotFound) {
		u.retry = min(max(2*u.retry, retryFirst), u.o.Every)
		return u.retry/2 + rand.N(u.retry)
	}
	u.retry = 0
	return u.o.Every*3/4 + rand.N(u.o.Every/2)
}

// stop ends what is under way and waits for it.
func (u *Updater) stop() {
	u.mu.Lock()
	all := []*fetch{u.fetch, u.mirror}
	u.mu.Unlock()
	for _, f := range all {
		if f != nil {
			f.cancel()
			<-f.done
		}
	}
}
