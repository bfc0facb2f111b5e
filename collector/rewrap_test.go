// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// server is the signer of the world's reader, late and other are two members that read, too.
var server, lateKey, otherKey = softKey(3), softKey(4), softKey(5)

func readRight(streams ...string) []fleet.Right {
	return []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: streams}}
}

// enrol grants a reader and returns its key.
func (w *world) enrol(name string, signer journal.SoftKey, streams ...string) journal.ReaderKey {
	k := must(journal.GenerateReaderKey())
	w.fleet = must(w.fleet.Grant(fleet.Author{Key: w.owner}, time.Now(), fleet.Grant{Member: signer.ID(), Name: name, Roles: fleet.Collector,
		Reader: k.Public(), Rights: readRight(streams...)}))
	return k
}

func (w *world) revoke(who edge.ID, last ...*journal.Segment) {
	var cuts []fleet.Cut
	for _, s := range last {
		cuts = append(cuts, fleet.Cut{Stream: s.Chain.Stream, Incarnation: s.Chain.Incarnation, Seq: s.Seq, Hash: s.Hash})
	}
	w.fleet = must(w.fleet.Revoke(fleet.Author{Key: w.owner}, time.Now(), who, cuts, "test"))
}

// as is a collector of another reader.
func as(signer journal.SoftKey, k journal.ReaderKey) func(*collector.Config) {
	return func(c *collector.Config) { c.Reader, c.Key = signer.ID(), k }
}

// rewrap hands keys on as the member and publishes what hubs accept.
func (w *world) rewrap(t testing.TB, by journal.SoftKey, k journal.ReaderKey, to edge.ID) collector.Rewrapped {
	t.Helper()
	cfg := collector.Config{Source: w, Fleet: func() *fleet.Fleet { return w.fleet }, Reader: by.ID(), Key: k}
	got, err := collector.Rewrap(t.Context(), cfg, collector.Rewrapping{Signer: by, To: to, Publish: func(_ context.Context, seg *journal.Segment) error {
		if err := transport.Admit(w.fleet, seg); err != nil {
			return err
		}
		w.publish(seg)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// opened splits what was made by chain and first seq of an epoch.
func made(segs ...*journal.Segment) func(map[string]bool) map[string]bool {
	return func(all map[string]bool) map[string]bool {
		out := map[string]bool{}
		for k := range all {
			for _, s := range segs {
				if strings.HasPrefix(k, fmt.Sprintf("%s %d ", s.Chain, s.Seq)) {
					out[k] = true
				}
			}
		}
		return out
	}
}

func (w *world) pullAs(t testing.TB, sink collector.Sink, signer journal.SoftKey, k journal.ReaderKey) collector.Report {
	t.Helper()
	r, err := w.collector(t, sink, as(signer, k)).Pull(t.Context())
	if err != nil {
		t.Fatalf("pull: %v\n%s", err, r)
	}
	return r
}

// A reader that comes later reads from then on, and all before once a member with the right hands the keys on: each segment once, whatever is
// started how often.
func TestRewrap_NewReaderGetsOlderData(t *testing.T) {
	w := newWorld(3, 2)
	d, e := w.device(0), w.device(1)
	var old []*journal.Segment
	for range 3 {
		w.publish(d.epoch(nil), e.epoch(nil))
		old = slices.Concat(old, d.readings(4, 3), e.readings(2, 3))
	}
	w.publish(old...)
	k := w.enrol("late", lateKey, "*")
	w.publish(d.epoch(nil), e.epoch(nil))
	fresh := slices.Concat(d.readings(4, 3), e.readings(4, 3))
	w.publish(fresh...)
	sink := newMemory()
	r := w.pullAs(t, sink, lateKey, k)
	same(t, sink.rows, made(fresh...)(w.made))
	if r.Sealed != 18 || r.Missing != 0 || r.BadCount != 0 {
		t.Fatalf("sealed %d: %s", r.Sealed, r)
	}
	if got := w.rewrap(t, server, w.reader, lateKey.ID()); got != (collector.Rewrapped{Chains: 2, Handed: 6, Had: 2}) {
		t.Errorf("%+v", got)
	}
	if got := w.rewrap(t, server, w.reader, lateKey.ID()); got != (collector.Rewrapped{Chains: 2, Had: 8}) {
		t.Errorf("a second time: %+v", got)
	}
	r = w.pullAs(t, sink, lateKey, k)
	same(t, sink.rows, w.made)
	if r.BadCount != 0 || r.Readings != 54 || !r.Complete() {
		t.Errorf("pulling again what was sealed: %d readings: %s", r.Readings, r)
	}
	for range 2 {
		if r = w.pullAs(t, sink, lateKey, k); r.Segments != 0 || r.Readings != 0 {
			t.Errorf("pulled once more: %s", r)
		}
	}
	all := newMemory() // and one that begins with the keys at hand
	if r = w.pullAs(t, all, lateKey, k); r.Sealed != 0 || r.BadCount != 0 {
		t.Errorf("with all keys: %s", r)
	}
	same(t, all.rows, w.made)
}

// The pull is in the middle of an epoch that was handed on; the rest of it comes after a restart.
func TestRewrap_RestartInTheMiddleOfAnEpoch(t *testing.T) {
	w := newWorld(3, 1)
	d := w.device(0)
	w.publish(d.epoch(nil))
	w.publish(d.readings(3, 2)...)
	k := w.enrol("late", lateKey, "*")
	w.rewrap(t, server, w.reader, lateKey.ID())
	sink := newMemory()
	w.pullAs(t, sink, lateKey, k)
	w.publish(d.readings(3, 2)...) // the device has not heard of the new reader
	w.pullAs(t, sink, lateKey, k)
	same(t, sink.rows, w.made)
}

// Only some devices are pulled: the keys are found all the same.
func TestRewrap_WhenOnlySomeDevicesArePulled(t *testing.T) {
	w := newWorld(3, 2)
	d, e := w.device(0), w.device(1)
	w.publish(d.epoch(nil), e.epoch(nil))
	mine := d.readings(3, 2)
	w.publish(mine...)
	w.publish(e.readings(3, 2)...)
	k := w.enrol("late", lateKey, "*")
	w.rewrap(t, server, w.reader, lateKey.ID())
	sink := newMemory()
	r, err := w.collector(t, sink, as(lateKey, k), func(c *collector.Config) { c.Devices = []edge.ID{d.key.ID()} }).Pull(t.Context())
	if err != nil || r.Sealed != 0 {
		t.Fatalf("%v: %s", err, r)
	}
	same(t, sink.rows, made(mine...)(w.made))
}

// While it follows, a reader gets older data as soon as the keys are there, and while a hub is away it waits and does not forget.
func TestRewrap_WhileFollowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		d := w.device(0)
		w.publish(d.epoch(nil))
		w.publish(d.readings(5, 2)...)
		k := w.enrol("late", lateKey, "*")
		sink := newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		c := w.collector(t, sink, as(lateKey, k))
		go func() { done <- c.Follow(ctx, func(collector.Report) {}) }()
		synctest.Wait()
		if len(sink.rows) != 0 {
			t.Errorf("%d readings without a key", len(sink.rows))
		}
		w.rewrap(t, server, w.reader, lateKey.ID())
		synctest.Wait()
		sink.mu.Lock()
		same(t, sink.rows, w.made)
		sink.mu.Unlock()
		w.publish(d.readings(2, 2)...) // of the running epoch, which was sealed to the opener before
		synctest.Wait()
		sink.mu.Lock()
		same(t, sink.rows, w.made)
		sink.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// falsely is a rewrap whose key is another epoch's, signed by a member with the right.
func (w *world) falsely(by journal.SoftKey, k journal.ReaderKey, epoch *journal.Segment, to journal.ReaderKey) *journal.Segment {
	twin := must(journal.ResumeWriter(epoch.Chain, nil, softKey(1000)))
	reader := must(journal.NewReader(k.Public()))
	lie := must(twin.Epoch([]journal.Reader{reader}, nil, journal.Stamp{At: edge.Instant{Mono: 1}}))
	ring := journal.NewKeyring(k)
	must(ring.Learn(lie))
	r := must(ring.Rewrap(by.ID(), epoch.Chain, epoch.Epoch, must(journal.NewReader(to.Public()))))
	jw := must(journal.NewWriter(w.fleet.ID(), journal.RewrapStream, by))
	return must(jw.Rewraps([]journal.Rewrap{r}, journal.Stamp{At: edge.Instant{Mono: 1}}))
}

// A member hands on a false key: it is named, nothing false gets into the sink, and an honest rewrap, before or after, still opens the data.
func TestRewrap_LieIsNamedAndHonestOneCounts(t *testing.T) {
	for name, order := range map[string][]string{"lie first": {"lie", "honest"}, "lie alone": {"lie"}, "honest first": {"honest", "lie"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(2, 1)
			d := w.device(0)
			epoch := d.epoch(nil)
			w.publish(epoch)
			w.publish(d.readings(3, 2)...)
			k := w.enrol("late", lateKey, "*")
			otherReader := w.enrol("other", otherKey, "*")
			sink := newMemory()
			c := w.collector(t, sink, as(lateKey, k))
			var last collector.Report
			bad := 0
			for _, what := range order {
				if what == "lie" {
					w.publish(w.falsely(otherKey, otherReader, epoch, k))
				} else {
					w.rewrap(t, server, w.reader, lateKey.ID())
				}
				var err error
				if last, err = c.Pull(t.Context()); err != nil {
					t.Fatal(err)
				}
				bad += last.BadCount
				for _, b := range last.Bad {
					if b.By != otherKey.ID() || !errors.Is(b.Err, journal.ErrSealed) || !strings.Contains(b.String(), otherKey.ID().Short()) {
						t.Errorf("blamed: %s", b)
					}
				}
			}
			if order[0] == "lie" && bad == 0 {
				t.Error("nobody is blamed")
			}
			if len(order) == 1 {
				if len(sink.rows) != 0 || last.Missing != 0 || last.Sealed != 3 {
					t.Errorf("%d rows: %s", len(sink.rows), last)
				}
				return
			}
			same(t, sink.rows, w.made)
		})
	}
}

// A member without the right to a stream cannot hand on its keys, not even true ones, and hubs and readers say so.
func TestRewrap_WithoutTheRightDoesNotCount(t *testing.T) {
	w := newWorld(2, 1)
	d := w.device(0)
	epoch := d.epoch(nil)
	w.publish(epoch)
	w.publish(d.readings(3, 2)...)
	k := w.enrol("late", lateKey, "*")
	w.enrol("limited", otherKey, "slow")
	ring := journal.NewKeyring(w.reader)
	must(ring.Learn(epoch))
	forged := must(ring.Rewrap(otherKey.ID(), epoch.Chain, epoch.Epoch, must(journal.NewReader(k.Public()))))
	jw := must(journal.NewWriter(w.fleet.ID(), journal.RewrapStream, otherKey))
	seg := must(jw.Rewraps([]journal.Rewrap{forged}, journal.Stamp{At: edge.Instant{Mono: 1}}))
	if err := transport.Admit(w.fleet, seg); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("hubs: %v", err)
	}
	w.publish(seg) // by a hub that does not look
	sink := newMemory()
	if r := w.pullAs(t, sink, lateKey, k); len(sink.rows) != 0 || r.Sealed != 3 || r.BadCount != 1 || !errors.Is(r.Bad[0].Err, fleet.ErrNotAllowed) {
		t.Errorf("%d rows: %s", len(sink.rows), r)
	}
	// Nor does anybody hand keys to a member without the right, or without a reader key.
	w.enrol("limited", lateKey, "slow")
	if got := w.rewrap(t, server, w.reader, lateKey.ID()); got.Handed != 0 || got.Chains != 0 {
		t.Errorf("handed to a reader without the right: %+v", got)
	}
	_, err := collector.Rewrap(t.Context(), collector.Config{Source: w, Fleet: func() *fleet.Fleet { return w.fleet }, Key: w.reader},
		collector.Rewrapping{Signer: server, To: w.hubs[0]})
	if !errors.Is(err, collector.ErrNoReader) {
		t.Errorf("to a hub: %v", err)
	}
}

// A reader that was removed cannot read the next epoch; what it could read before it still can: the key is its own.
func TestReaderRemoved_CannotReadTheNextEpoch(t *testing.T) {
	w := newWorld(3, 1)
	k := w.enrol("late", lateKey, "*")
	d := w.device(0)
	w.publish(d.epoch(nil))
	before := d.readings(3, 2)
	w.publish(before...)
	former := w.fleet
	w.revoke(lateKey.ID())
	w.publish(d.epoch(nil))
	w.publish(d.readings(3, 2)...)
	now := w.fleet
	w.fleet = former // the removed reader runs a program that heeds nothing
	sink := newMemory()
	r := w.pullAs(t, sink, lateKey, k)
	same(t, sink.rows, made(before...)(w.made))
	if r.Sealed != 3 {
		t.Errorf("%s", r)
	}
	w.fleet = now // and one that heeds the fleet reads nothing
	sink = newMemory()
	if w.pullAs(t, sink, lateKey, k); len(sink.rows) != 0 {
		t.Errorf("%d rows", len(sink.rows))
	}
}

// What a device published before it was revoked is pulled; what is beyond the cut is not, whatever hubs serve.
func TestPullRevoked_UpToTheCutAndNoFurther(t *testing.T) {
	w := newWorld(3, 2)
	d := w.device(0)
	w.publish(d.epoch(nil))
	valid := d.readings(5, 2)
	w.publish(valid...)
	stolen := d.readings(5, 2)
	w.publish(stolen...)
	unnamed := w.device(0)
	unnamed.life("slow")
	w.publish(unnamed.epoch(nil))
	w.publish(unnamed.readings(3, 2)...)
	w.heads[d.chain()] = stolen[4].SignedHeader()
	w.revoke(d.key.ID(), valid[4])
	sink := newMemory()
	r := w.pull(t, sink)
	same(t, sink.rows, made(valid...)(w.made))
	if !r.Complete() || r.Missing != 0 || len(r.Chains) != 1 {
		t.Errorf("%s", r)
	}
}

// A chain is forked and its device revoked: at the cut only the segment that the revocation names is taken.
func TestPullRevoked_ForkAtTheCutIsResolvedByItsHash(t *testing.T) {
	w := newWorld(3, 1)
	d := w.device(0)
	w.publish(d.epoch(nil))
	w.publish(d.readings(3, 2)...)
	tip := d.all[3].Link()
	right := d.readings(1, 2)[0]
	twin := must(journal.ResumeWriter(right.Chain, &tip, d.key))
	wrong := must(twin.Epoch(must(w.fleet.Readers(d.key.ID(), "main")), nil, d.stamp()))
	w.store(w.hubs[0], wrong)
	w.store(w.hubs[1], wrong)
	w.store(w.hubs[2], right)
	w.revoke(d.key.ID(), right)
	sink := newMemory()
	r := w.pull(t, sink)
	same(t, sink.rows, w.made)
	if r.Missing != 0 || r.Segments != 5 {
		t.Errorf("%s", r)
	}
	for _, b := range r.Bad {
		if !errors.Is(b.Err, fleet.ErrRevoked) {
			t.Errorf("bad: %s", b)
		}
	}
}
