// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"errors"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// conduct is how the hubs of a world behave, and what was asked of them.
type conduct struct {
	floors map[edge.ID]map[journal.Chain]transport.Held // what they have let go: Floor and Past
	claims map[edge.ID][]transport.Held                 // what they say beside that
	frozen map[edge.ID]bool                             // take questions and never answer
	stuck  map[edge.ID]int                              // questions that were asked of them while they were frozen
	tires  map[edge.ID]int                              // freeze when they have given so many segments
	mute   map[edge.ID]bool                             // give no segments, and do not say so
	served map[edge.ID]int                              // segments given
	asked  int                                          // requests
	looked int                                          // heads looked up

	marks   map[edge.ID]map[journal.Chain]journal.Link // highest watermarks
	records int                                        // of watermarks
	refuse  map[edge.ID]bool                           // take none
}

func newConduct() conduct {
	return conduct{floors: map[edge.ID]map[journal.Chain]transport.Held{}, claims: map[edge.ID][]transport.Held{}, frozen: map[edge.ID]bool{},
		served: map[edge.ID]int{}, tires: map[edge.ID]int{}, stuck: map[edge.ID]int{}, mute: map[edge.ID]bool{}, marks: map[edge.ID]map[journal.Chain]journal.Link{}, refuse: map[edge.ID]bool{}}
}

// letGo makes hubs forget what is below the floor, and say so.
func (w *world) letGo(chain journal.Chain, floor uint64, past transport.Past, hubs ...edge.ID) {
	for _, h := range hubs {
		w.boast(chain, floor, past, h)
		w.remove(chain, 0, floor-1, h)
		if w.stores[h][chain] == nil {
			w.stores[h][chain] = map[uint64][]byte{}
		}
	}
}

// boast makes a hub say so, while it and the others still hold everything.
func (w *world) boast(chain journal.Chain, floor uint64, past transport.Past, hub edge.ID) {
	if w.floors[hub] == nil {
		w.floors[hub] = map[journal.Chain]transport.Held{}
	}
	w.floors[hub][chain] = transport.Held{Floor: floor, Past: past}
}

// freezes waits for ever if the hub is frozen.
func (w *world) freezes(ctx context.Context, hub edge.ID) error {
	w.mu.Lock()
	frozen := w.frozen[hub] || w.tires[hub] > 0 && w.served[hub] >= w.tires[hub]
	if frozen {
		w.stuck[hub]++
	}
	w.mu.Unlock()
	if !frozen {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

var errRefused = errors.New("no room for marks")

// Mark makes a world a collector.MarkSource.
func (w *world) Mark(ctx context.Context, hub edge.ID, signed []byte) error {
	if err := w.freezes(ctx, hub); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if err := w.down[hub]; err != nil {
		return err
	}
	if w.refuse[hub] {
		return errRefused
	}
	m, err := journal.OpenWatermarks(signed, w.fleet.ID())
	if err != nil {
		return err
	}
	w.records++
	if w.marks[hub] == nil {
		w.marks[hub] = map[journal.Chain]journal.Link{}
	}
	for _, mark := range m.Marks {
		if old, ok := w.marks[hub][mark.Chain]; !ok || old.Seq < mark.Link.Seq {
			w.marks[hub][mark.Chain] = mark.Link
		}
	}
	return nil
}

// told returns how many records of watermarks came.
func (w *world) told() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records
}

// questions returns how many requests came.
func (w *world) questions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}
