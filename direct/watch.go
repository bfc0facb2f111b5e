// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// Feed is where a device's readings come from as they are taken; *live.Feed is one. It keeps recent ones, each at a place that counts from 0.
type Feed interface {
	// Run names what the places belong to: another after each start of the program.
	Run() [16]byte
	// Head is the place of the next reading.
	Head() uint64
	// Read copies readings from a place on, or from first on if those before are gone, and waits while there are none. An error is that of ctx.
	Read(ctx context.Context, from uint64, into []edge.Reading) (n int, first uint64, err error)
}

// Place is how far a watch has come: who watches again from there gets what lay between, as far as the device still has it.
type Place struct {
	Run  [16]byte // of the device's program
	Next uint64   // the reading that comes next
}

// Live is what the device tells who watches.
type Live struct {
	Boot     journal.BootID // that the readings' Mono counts from
	Readings []edge.Reading // none: the first word of a watch, or only of what is lost
	Lost     uint64         // readings before these, of any sensor, that the device did not keep until the watcher had read them
	Next     Place
	Late     bool // they were taken before this watch began: since the place that it asked from
}

// Limits of the frames of a watch.
const (
	maxReadings = 256      // in a frame
	maxPack     = 48 << 10 // bytes of its SenML
	watchLife   = MaxAhead - 2*time.Minute
)

// watched is a frame of a watch. Pack is a SenML pack (docs/wire.md) that was closed at Mono and Wall, or empty.
type watched struct {
	_    struct{} `cbor:",toarray"`
	ID   RequestID
	Boot journal.BootID
	Mono uint64 // ms since Boot
	Wall uint64 // ms since 1970; 0 = the device's clock is not synchronised
	Run  [16]byte
	Next uint64
	Late uint64 // 1 = taken before the watch began
	Lost uint64
	Pack []byte
}

// sinceSchema is the argument of a watch: the place to go on from.
func sinceSchema() *thing.Schema {
	low, high := thing.Bounds(0, 1<<53)
	length := 2 * len(Place{}.Run)
	return &thing.Schema{Type: thing.Object, Required: []string{"run", "next"}, Properties: map[string]thing.Schema{
		"run": {Type: thing.String, MaxLength: &length}, "next": {Type: thing.Integer, Minimum: low, Maximum: high}}}
}

func (p Place) argument() any {
	return map[string]any{"run": hex.EncodeToString(p.Run[:]), "next": p.Next}
}

// findWatch looks up what can be watched: a property of a sensor, or all that there are.
func (c *session) findWatch(d *thing.Description, q *ask) (target, *Refusal) {
	var t target
	if q.Value != nil {
		t.input = sinceSchema()
	}
	if c.s.o.Feed == nil {
		return t, refuse(NotThere, "this device gives no live readings")
	}
	if q.Name != "" {
		p, ok := d.Properties[q.Name]
		if !ok || !p.Observable {
			return t, refuse(NotThere, "this device has no reading %.80q that can be watched", q.Name)
		}
		t.still = func(f *fleet.Fleet) bool { return f.May(c.peer, fleet.Read, c.s.o.Self, p.Stream) }
		return t, nil
	}
	streams := streamsOf(d)
	if len(streams) == 0 {
		return t, refuse(NotThere, "this device has no readings")
	}
	t.still = func(f *fleet.Fleet) bool { return c.readsAny(f, streams) }
	return t, nil
}

func (c *session) readsAny(f *fleet.Fleet, streams []string) bool {
	return slices.ContainsFunc(streams, func(stream string) bool { return f.May(c.peer, fleet.Read, c.s.o.Self, stream) })
}

// watch tells readings until ctx ends. It reads the feed no faster than the peer takes them: what it cannot keep up with is counted.
func (c *session) watch(ctx context.Context, q *ask) error {
	feed := c.s.o.Feed
	from, began := feed.Head(), feed.Head()
	if since, ok := q.Value.(map[string]any); ok {
		from = placeOf(since, feed.Run())
	}
	word := watched{ID: q.ID, Boot: c.s.o.Boot, Run: feed.Run(), Next: from}
	if err := c.out.send(kindWatched, word); err != nil {
		return err
	}
	into, room := make([]edge.Reading, maxReadings), maxReadings
	for {
		n, first, err := feed.Read(ctx, from, into[:room])
		if err != nil {
			return err
		}
		word.Lost, word.Late = first-min(from, first), 0
		if first < began { // those that are late go on their own
			n = int(min(uint64(n), began-first))
			word.Late = 1
		}
		n, _ = oneTime(into[:n])
		word.Next = first + uint64(n)
		fits, err := c.tellReadings(word, c.readable(q.Name, into[:n]))
		switch {
		case err != nil:
			return err
		case !fits:
			room = max(1, n/2)
			continue
		}
		from, room = word.Next, maxReadings
	}
}

// what says what is asked for.
func (q *ask) what() string {
	switch {
	case q.Op == Watch && q.Name == "":
		return "watch any of its readings"
	case q.Op == Subscribe && q.Name == "":
		return "hear of any of its events"
	}
	return fmt.Sprintf("%s %s", q.Op, q.Name)
}

// placeOf is where to go on in this run: in another one everything is new to the watcher.
func placeOf(since map[string]any, run [16]byte) uint64 {
	if since["run"] != hex.EncodeToString(run[:]) {
		return 0
	}
	return uint64(thing.Float(since["next"]))
}

// readable returns the readings of that name, or of any, that the peer may read now. It reorders nothing and reuses the slice.
func (c *session) readable(name string, all []edge.Reading) []edge.Reading {
	d, _ := c.s.o.Thing()
	f := c.s.o.Fleet()
	may := map[string]bool{} // by stream
	return slices.DeleteFunc(all, func(r edge.Reading) bool {
		p, ok := d.Properties[r.Name()]
		if !ok || name != "" && name != r.Name() {
			return true
		}
		m, known := may[p.Stream]
		if !known {
			m = f.May(c.peer, fleet.Read, c.s.o.Self, p.Stream)
			may[p.Stream] = m
		}
		return !m
	})
}

// tellReadings sends one frame, if there is anything to tell and it is not too long. word has all but the readings, which are of one clock.
func (c *session) tellReadings(word watched, all []edge.Reading) (fits bool, err error) {
	if len(all) == 0 && word.Lost == 0 {
		return true, nil
	}
	if len(all) > 0 {
		_, ref := oneTime(all)
		if word.Pack, err = edge.MarshalSenML(c.s.o.Self, ref.Mono, all); err != nil {
			return false, err
		}
		word.Mono, word.Wall = uint64(ref.Mono), uint64(ref.Wall)
	}
	if len(word.Pack) > maxPack {
		return false, nil
	}
	return true, c.out.send(kindWatched, word)
}

// oneTime returns how many readings have one offset of the wall clock, and the newest instant of those.
func oneTime(all []edge.Reading) (n int, ref edge.Instant) {
	ref = all[0].At
	for n < len(all) {
		at := all[n].At
		if at.Synced() != ref.Synced() || at.Synced() && at.Wall-at.Mono != ref.Wall-ref.Mono {
			break
		}
		if at.Mono > ref.Mono {
			ref = at
		}
		n++
	}
	return n, ref
}

// Watch follows a device's readings as they are taken: one property, or with name "" all that the operator may read. It begins with what lies after since, nil =
// with what comes now; tell gets them in order, and must not wait for the session. A watch ends with ctx and has an end of its own within the hour: an error that is
// is Resumable says that it can go on, in another session if this one is over, from the last Place told.
func (s *Session) Watch(ctx context.Context, name string, since *Place, tell func(Live)) error {
	r := Request{Op: Watch, Name: name, live: tell}
	if since != nil {
		r.Value = since.argument()
	}
	ctx, cancel := context.WithTimeout(ctx, watchLife)
	defer cancel()
	_, err := s.Do(ctx, r)
	return err
}

// Resumable reports whether a watch that ended so can go on: the connection or the session is over, and no right was missing.
func Resumable(err error) bool {
	switch ReasonOf(err) {
	case Expired, Busy, Cancelled, Stopping:
		return true
	case 0:
		return errors.Is(err, ErrLost)
	}
	return false
}

// takeWatched judges a frame of a watch and hands it on.
func (s *Session) takeWatched(body []byte) error {
	var f watched
	if err := decode(body, &f); err != nil {
		return err
	}
	if f.Mono > math.MaxInt64 || f.Wall > math.MaxInt64 || f.Late > 1 || len(f.Pack) > maxPack {
		return fmt.Errorf("direct: a watch at %d and %d ms, %d bytes: %w", f.Mono, f.Wall, len(f.Pack), ErrFrame)
	}
	l := Live{Boot: f.Boot, Lost: f.Lost, Next: Place{Run: f.Run, Next: f.Next}, Late: f.Late == 1}
	if len(f.Pack) > 0 {
		var err error
		if l.Readings, err = edge.UnmarshalSenML(f.Pack, s.c.Device, edge.Instant{Mono: int64(f.Mono), Wall: int64(f.Wall)}); err != nil {
			return fmt.Errorf("direct: %w: %w", ErrFrame, err)
		}
	}
	if w := s.waiter(f.ID); w != nil && w.r.live != nil {
		w.r.live(l)
	}
	return nil
}
