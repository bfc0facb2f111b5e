// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"slices"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// mayRead is the rule of who is served a chain: every hub, because it repairs; its device; who has the right; rewraps, which are sealed for
// their readers, everybody who may read anything. All others are not.
func mayRead(f *fleet.Fleet, who edge.ID, c journal.Chain) bool {
	if c.Stream == journal.RewrapStream {
		return mayAny(f, who)
	}
	return f.SameDevice(who, c.Device) || f.Is(who, fleet.Hub) || f.May(who, fleet.Read, c.Device, c.Stream)
}

// mayAny reports whether there can be a chain that the member may read.
func mayAny(f *fleet.Fleet, who edge.ID) bool {
	g, member := f.Member(who)
	if !member {
		return f.IsMember(who) // an owner
	}
	return g.Roles&(fleet.Hub|fleet.Device) != 0 || slices.ContainsFunc(g.Rights, func(r fleet.Right) bool { return r.Do == fleet.Read })
}

// readings are the answers of the fetch and repair protocols that are being given.
type readings struct {
	mu  sync.Mutex
	all map[*reading]struct{}
}

// reading is one answer and the chains of which it has given something.
type reading struct {
	id  edge.ID
	ctx context.Context //nolint:containedctx // the life of one answer
	end context.CancelCauseFunc

	mu     sync.Mutex
	hub    bool // it is given what only hubs are
	chains map[journal.Chain]bool
}

// begin registers an answer; done must be called when it is over.
func (r *readings) begin(ctx context.Context, who edge.ID) (_ *reading, done func()) {
	a := &reading{id: who, chains: map[journal.Chain]bool{}}
	a.ctx, a.end = context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[a] = struct{}{}
	return a, func() {
		a.end(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.all, a)
	}
}

// review ends the answers to those that have lost the right to something that they are given.
func (r *readings) review(f *fleet.Fleet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for a := range r.all {
		a.review(f)
	}
}

func (a *reading) review(f *fleet.Fleet) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !f.IsMember(a.id) {
		a.end(refuse(transport.RefusedNoRight, "you are no member of the fleet any more"))
		return
	}
	if a.hub && !f.Is(a.id, fleet.Hub) {
		a.end(errNoHub())
		return
	}
	for c := range a.chains {
		if !mayRead(f, a.id, c) {
			a.end(a.refusal(c))
			return
		}
	}
}

// may judges a chain, and remembers it if it is given.
func (a *reading) may(f *fleet.Fleet, c journal.Chain) bool {
	if !mayRead(f, a.id, c) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chains[c] = true
	return true
}

// lost returns the refusal with which the answer was ended, or nil.
func (a *reading) lost() error {
	if a.ctx.Err() == nil {
		return nil
	}
	if cause := context.Cause(a.ctx); cause != context.Canceled { //nolint:errorlint // the cause that done or the parent set, itself
		return cause
	}
	return nil
}

func (a *reading) refusal(c journal.Chain) error {
	return refuse(transport.RefusedNoRight, "the fleet's log gives you no right to read %s of %s", c.Stream, c.Device.Short())
}
