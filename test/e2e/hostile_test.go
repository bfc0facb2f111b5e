// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
)

// afterwards is a fleet whose device published so many segments of readings and was killed, what it noted, what an honest
// pull gives, and the hub that a collector asks first, which is stopped.
type afterwards struct {
	*swarm.Swarm
	published []agent.ReceiptNote
	rows      map[string]row
	chain     journal.Chain
	first     *swarm.Member
	held      map[uint64][]byte // what the first hub has on its disk
}

func published(t *testing.T, hubs, segments int) *afterwards {
	t.Helper()
	s := &afterwards{Swarm: swarm.New(t, hubs, swarm.FastSensors)}
	s.Start(s.Hubs...)
	s.Start(s.Device)
	s.AwaitReceipts(segments)
	s.Kill(s.Device)
	s.published = s.Receipts()
	var stderr string
	var code int
	if s.rows, stderr, code = pullAll(t, s.Swarm); code != 0 {
		t.Fatalf("the honest pull exited with %d: %s", code, stderr)
	}
	requireAll(t, s.published, s.rows)
	var err error
	s.chain, err = journal.ParseChain(s.Fleet.ID(), s.published[0].Chain)
	must(t, err)
	s.first = s.asked(t)
	s.Kill(s.first)
	disk := s.openStore(t)
	s.held = map[uint64][]byte{}
	must(t, disk.Fetch(t.Context(), s.chain, transport.Span{Last: journal.MaxSeq}, func(raw []byte) error {
		seg, err := journal.Open(bytes.Clone(raw), s.Fleet.ID())
		s.held[seg.Seq] = seg.Bytes()
		return err
	}))
	must(t, disk.Close())
	return s
}

// asked returns the hub that readers of the chain's first bucket ask first: the closest one.
func (s *afterwards) asked(t *testing.T) *swarm.Member {
	t.Helper()
	var ids []edge.ID
	for _, h := range s.Hubs {
		ids = append(ids, h.ID)
	}
	closest := transport.Place(s.chain.Bucket(0).Key(), ids)[0]
	return s.Hubs[slices.Index(ids, closest)]
}

func (s *afterwards) openStore(t *testing.T) *store.Store {
	t.Helper()
	disk, err := store.Open(t.Context(), filepath.Join(s.first.State, "store"), store.Options{Fleet: s.fleetNow, Self: s.first.ID})
	must(t, err)
	return disk
}

func (s *afterwards) fleetNow() *fleet.Fleet { return s.Fleet }

// liar serves a hub's real disk, but for what it makes of some segments.
type liar struct {
	*store.Store
	fleet journal.FleetID
	lie   func(seg *journal.Segment) []byte // nil: leave it out
	boast uint64                            // claims so many segments more than it holds
}

func (l *liar) Fetch(ctx context.Context, chain journal.Chain, span transport.Span, visit func([]byte) error) error {
	return l.Store.Fetch(ctx, chain, span, func(raw []byte) error {
		seg, err := journal.Open(bytes.Clone(raw), l.fleet)
		if err != nil {
			return err
		}
		if raw = l.lie(seg); raw == nil {
			return nil
		}
		return visit(raw)
	})
}

func (l *liar) Held(ctx context.Context, device edge.ID) ([]transport.Held, error) {
	held, err := l.Store.Held(ctx, device)
	for _, h := range held {
		h.Spans[len(h.Spans)-1].Last += l.boast
	}
	return held, err
}

// turn starts the first hub again as a liar, in this process, with the hub's own key, address and disk.
func (s *afterwards) turn(t *testing.T, l *liar) {
	t.Helper()
	key, err := fleet.LoadKey(filepath.Join(s.first.State, "key.pem"))
	must(t, err)
	l.Store, l.fleet = s.openStore(t), s.Fleet.ID()
	node, err := p2p.New(t.Context(), p2p.Options{Signer: key, Fleet: s.fleetNow, Store: l, Listen: []string{s.first.Addr}})
	must(t, err)
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// lies makes a hub's lies by seq. Each is what an attacker who holds the hub, but not the device's key, can do.
func (s *afterwards) lies(t *testing.T) map[uint64]lie {
	_, priv, err := ed25519.GenerateKey(nil)
	must(t, err)
	attacker := journal.NewSoftKey(priv)
	return map[uint64]lie{
		2: {"the payload does not match", func(seg *journal.Segment) []byte {
			raw := bytes.Clone(seg.Bytes())
			raw[len(raw)-1] ^= 1
			return raw
		}, journal.ErrTampered},
		3: {"truncated", func(seg *journal.Segment) []byte { return seg.Bytes()[:len(seg.Bytes())-20] }, journal.ErrMalformed},
		4: {"readings of his own under the device's name, signed by himself", func(seg *journal.Segment) []byte {
			return forge(t, attacker, seg)
		}, journal.ErrForeignSigner},
		5: {"a segment of his own chain", func(*journal.Segment) []byte { return ownSegment(t, s.Fleet, attacker) }, journal.ErrForeignSigner},
		6: {"an old one again", func(*journal.Segment) []byte { return s.held[1] }, journal.ErrBadSeq},
		7: {"left out", func(*journal.Segment) []byte { return nil }, nil},
	}
}

// lie is what is served instead of a segment, and the error that a reader must name; nil: nothing bad is served.
type lie struct {
	what string
	make func(*journal.Segment) []byte
	err  error
}

// forge makes a segment that is right in everything but the signature.
func forge(t *testing.T, attacker journal.Signer, seg *journal.Segment) []byte {
	t.Helper()
	payload := bytes.Repeat([]byte{7}, 256+16) // a padded size, and the tag
	h := seg.Header
	h.Payload, h.Size = sha256.Sum256(payload), uint32(len(payload))
	header, err := journal.Encode(h)
	must(t, err)
	signed, err := journal.SignRecord(attacker, journal.TypeSegment, header)
	must(t, err)
	raw, err := journal.Encode([][]byte{signed, payload})
	must(t, err)
	return raw
}

func ownSegment(t *testing.T, f *fleet.Fleet, attacker journal.Signer) []byte {
	t.Helper()
	w, err := journal.NewWriter(f.ID(), "main", attacker)
	must(t, err)
	readers, err := f.Readers(attacker.ID(), "main")
	must(t, err)
	seg, err := w.Epoch(readers, nil, journal.Stamp{At: edge.Instant{Mono: 1}})
	must(t, err)
	return seg.Bytes()
}

// requireNamed wants a line for the lie that says hub, chain, seq and why.
func (s *afterwards) requireNamed(t *testing.T, stderr string, seq uint64, err error) {
	t.Helper()
	line := fmt.Sprintf(`(?m)^bad: hub %s: seq %d of %s: .*%s`, s.first.ID.Short(), seq, regexp.QuoteMeta(s.chain.String()), regexp.QuoteMeta(err.Error()))
	if !regexp.MustCompile(line).MatchString(stderr) {
		t.Errorf("no line fits %s", line)
	}
}

// A hub of five lies to the collector, which asks it first: every bad segment is found and named, and taken from a good
// copy, so that the readings are those of an honest pull.
func TestLyingHub(t *testing.T) {
	s := published(t, 5, 8)
	lies := s.lies(t)
	lies[0] = lie{"the epoch's key is changed", lies[2].make, journal.ErrTampered}
	s.turn(t, &liar{boast: 3, lie: func(seg *journal.Segment) []byte {
		if l, ok := lies[seg.Seq]; ok {
			return l.make(seg)
		}
		return seg.Bytes()
	}})
	rows, stderr, code := pullAll(t, s.Swarm)
	if code != 5 {
		t.Errorf("exit code %d, want 5: bad copies were served", code)
	}
	for seq, l := range lies {
		if l.err != nil {
			s.requireNamed(t, stderr, seq, l.err)
		}
	}
	requireSame(t, s.rows, rows)
	requireAll(t, s.published, rows)
	if !regexp.MustCompile(`(?m)^segments=.* missing=0 forks=0 `).MatchString(stderr) ||
		!regexp.MustCompile(`(?m)bad copies.*\ntry: streembit `).MatchString(stderr) {
		t.Error("it does not say that all is there, or not what to do")
	}
	if t.Failed() {
		t.Log(stderr)
	}
}

// The control: where the liar is the only hub left, what it spoils is reported as missing and nothing else is lost.
func TestLyingHubAlone(t *testing.T) {
	s := published(t, 3, 8)
	lies := s.lies(t)
	s.turn(t, &liar{lie: func(seg *journal.Segment) []byte {
		if l, ok := lies[seg.Seq]; ok {
			return l.make(seg)
		}
		return seg.Bytes()
	}})
	for _, h := range s.Hubs {
		s.Kill(h)
	}
	rows, stderr, code := pullAll(t, s.Swarm)
	if code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
	want := maps.Clone(s.rows)
	maps.DeleteFunc(want, func(_ string, r row) bool {
		_, held := s.held[r.Seq]
		_, spoilt := lies[r.Seq]
		return spoilt || !held
	})
	requireSame(t, want, rows)
	for seq, l := range lies {
		if l.err != nil {
			s.requireNamed(t, stderr, seq, l.err)
		}
		span := fmt.Sprint(seq)
		if seq >= 6 { // neighbours that are missing for one reason are one gap
			span = "6-7"
		}
		line := fmt.Sprintf(`(?m)^missing: %s: seq %s \(.*hub %s`, regexp.QuoteMeta(s.chain.String()), span, s.first.ID.Short())
		if !regexp.MustCompile(line).MatchString(stderr) {
			t.Errorf("%s (seq %d): no line fits %s", l.what, seq, line)
		}
	}
	if !regexp.MustCompile(`(?m)^segments=.* bad=[5-9] missing=6 forks=0 `).MatchString(stderr) {
		t.Error("the totals are wrong")
	}
	if t.Failed() {
		t.Log(stderr)
	}
}

// Bytes that rot on a hub's disk, while it is stopped and while it runs, are never served; the hub says so.
func TestRottenDisk(t *testing.T) {
	s := published(t, 3, 6)
	rot(t, filepath.Join(s.first.State, "store"), s.held[2])
	s.Start(s.first)
	if !regexp.MustCompile(`wal: damage found.*no intact frame from byte`).MatchString(s.first.Log.String()) {
		t.Errorf("the hub does not say that its disk is damaged: %s", s.first.Log.Tail(5))
	}
	rot(t, filepath.Join(s.first.State, "store"), s.held[3])
	rows, stderr, code := pullAll(t, s.Swarm)
	if code != 0 {
		t.Errorf("pull exited with %d: no bad copy was served", code)
	}
	requireSame(t, s.rows, rows)
	v, err := s.Status(s.first)
	must(t, err)
	if n, _ := v["store"].(map[string]any)["damaged"].(float64); n != 1 {
		t.Errorf("status counts %v damaged segments, want the one that rotted while it ran", n)
	}

	for _, h := range s.Hubs { // the control: nobody else has a copy
		if h != s.first {
			s.Kill(h)
		}
	}
	rows, alone, code := pullAll(t, s.Swarm)
	if code != 5 || !regexp.MustCompile(`(?m)^missing: .*: seq 2-3 \(`).MatchString(alone) {
		t.Errorf("without good copies: exit code %d", code)
	}
	want := maps.Clone(s.rows)
	maps.DeleteFunc(want, func(_ string, r row) bool {
		_, held := s.held[r.Seq]
		return r.Seq == 2 || r.Seq == 3 || !held
	})
	requireSame(t, want, rows)
	if t.Failed() {
		t.Logf("%s\n%s", stderr, alone)
	}
}

// rot flips a bit in the middle of where a hub's disk holds a segment.
func rot(t *testing.T, dir string, segment []byte) {
	t.Helper()
	found := 0
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if at := bytes.Index(data, segment); at >= 0 && len(segment) > 0 {
			found++
			return flip(path, int64(at+len(segment)/2))
		}
		return nil
	}))
	if found != 1 {
		t.Fatalf("the segment stands in %d files of %s", found, dir)
	}
}

// flip inverts a byte of a file.
func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err == nil {
		_, err = f.WriteAt([]byte{^b[0]}, at)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// requireSame compares pulled readings, not only their number.
func requireSame(t *testing.T, want, got map[string]row) {
	t.Helper()
	for id, w := range want {
		if g, ok := got[id]; !ok || !reflect.DeepEqual(g, w) {
			t.Errorf("%s: pulled %+v, want %+v", id, g, w)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			t.Errorf("%s: pulled, but not wanted", id)
		}
	}
}
