// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/internal/nap"
)

// Collectors that follow into one Roster share the devices. Each says every presentEvery that it is there; who has not for absentAfter, by the
// database's clock, is gone, and what it pulled the others pull. A device belongs to the collector whose name, hashed with the device's id, comes
// first, so all agree without asking, and only the devices of one who comes or goes change hands. While they disagree for a moment two write the
// same chain, which changes nothing: Write is idempotent.
const (
	presentEvery = time.Second
	absentAfter  = 4 * presentEvery
	absentLimit  = 2 * time.Second // to say goodbye
)

// errReshared is the cause of a round's end.
var errReshared = errors.New("another collector came or went: the devices are shared anew")

// share says which devices are pulled here. Safe for concurrent use; nil pulls all.
type share struct {
	self string
	mu   sync.Mutex
	here []string // sorted; empty: nobody is known, so all are pulled here
}

func newShare() *share { return &share{self: rand.Text()} }

// set takes in who is here, and reports whether that has changed.
func (s *share) set(here []string) bool {
	here = slices.Sorted(slices.Values(here))
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := !slices.Equal(here, s.here) && (len(here) > 1 || len(s.here) > 1)
	s.here = here
	return changed
}

// others reports whether somebody else is here.
func (s *share) others() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.here) > 1
}

// mine reports whether a device is pulled here.
func (s *share) mine(device edge.ID) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.here) == 0 {
		return true
	}
	var first string
	var least [sha256.Size]byte
	for _, name := range s.here {
		h := sha256.Sum256(append([]byte(name), device[:]...))
		if first == "" || slices.Compare(h[:], least[:]) < 0 {
			first, least = name, h
		}
	}
	return first == s.self
}

// attend keeps this collector on the sink's list, if it has one, until ctx ends. A collector that reaches no hub takes itself off: the others may.
func (f *follower) attend(ctx context.Context) {
	listed := false
	for {
		if roster, ok := As[Roster](f.c.cfg.Sink); ok {
			switch {
			case !f.cutOff():
				f.present(ctx, roster)
				listed = true
			case listed:
				f.absent(ctx, roster)
				listed = false
			}
		}
		if !nap.For(ctx, presentEvery) {
			break
		}
	}
	if roster, ok := As[Roster](f.c.cfg.Sink); ok && listed {
		f.absent(context.WithoutCancel(ctx), roster)
	}
}

func (f *follower) present(ctx context.Context, roster Roster) {
	limited, cancel := context.WithTimeout(ctx, absentAfter)
	defer cancel()
	here, err := roster.Present(limited, f.c.share.self, absentAfter)
	if err != nil {
		f.c.log.Debug("the sink does not say which collectors are there", "err", err)
		return
	}
	if f.c.share.set(here) {
		f.c.log.Info("the devices are shared anew", "collectors", len(here))
		f.reshare()
	}
	if f.c.share.others() {
		f.lookAtOthers()
	}
}

// lookAtOthers wakes the loop when others may have written what hubs are not told of yet.
func (f *follower) lookAtOthers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.agreed) > markEvery && f.touched.Add(markEvery).After(f.agreed) {
		f.ring()
	}
}

func (f *follower) absent(ctx context.Context, roster Roster) {
	ctx, cancel := context.WithTimeout(ctx, absentLimit)
	defer cancel()
	if err := roster.Absent(ctx, f.c.share.self); err != nil {
		f.c.log.Debug("not taken off the list of collectors: the others find out by themselves", "err", err)
	}
}

// reshare ends the round that is under way, so that what came over is pulled now.
func (f *follower) reshare() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reshared = true
	if f.endRound != nil {
		f.endRound(errReshared)
	}
	f.ring()
}

// round begins a round: the marks are read anew when others may have moved them.
func (f *follower) round(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reshared || f.c.share.others() && time.Since(f.agreed) > markEvery {
		f.c.loaded, f.agreed = false, time.Now()
	}
	f.reshared, f.endRound = false, cancel
	return ctx, cancel
}

// cutOff reports whether every hub that was followed is lost.
func (f *follower) cutOff() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lost) > 0 && len(f.lost) >= len(f.hubs)
}

// setLost notes whether a hub can be followed.
func (f *follower) setLost(hub edge.ID, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if delete(f.lost, hub); lost {
		f.lost[hub] = true
	}
}
