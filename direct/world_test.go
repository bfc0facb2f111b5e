// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

func key(b byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
}

var (
	owner, device, operator, reader, stranger = key(1), key(3), key(4), key(5), key(6)
	start                                     = time.UnixMilli(1_760_000_000_000)
)

// world is a device with its server, and the fleet that it belongs to.
type world struct {
	tb     testing.TB
	fleet  atomic.Pointer[fleet.Fleet]
	thing  *thing.Description
	record []byte
	doer   *doer
	book   *book
	audit  *audit
	server *direct.Server
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// newWorld founds a fleet in which operator may do everything and reader may read the stream main.
func newWorld(tb testing.TB, change func(*direct.Options)) *world {
	tb.Helper()
	w := &world{tb: tb, doer: &doer{do: map[string]func(context.Context, *direct.Order) (any, error){}}, book: &book{past: map[direct.RequestID]direct.Past{}}, audit: &audit{}}
	recovery, err := journal.GenerateReaderKey()
	ok(tb, err)
	f, err := fleet.Found(fleet.Founding{Name: "lab", Owner: owner, Spare: key(2).ID(), Recovery: recovery.Public()}, start)
	ok(tb, err)
	w.fleet.Store(f)
	w.grant(fleet.Grant{Member: device.ID(), Name: "pi-1", Roles: fleet.Device},
		fleet.Grant{Member: operator.ID(), Name: "ann", Roles: fleet.Operator, Rights: fleet.Everything()},
		fleet.Grant{Member: reader.ID(), Name: "eve", Roles: fleet.Collector, Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"main"}}}})
	low, high := thing.Bounds(0, 10)
	w.thing = thing.Build(thing.Device{ID: device.ID(), Title: "pi-1",
		Sensors: []thing.Sensor{{Name: "relay", Stream: "main", Measures: []edge.Quantity{{Name: "switch", Kind: edge.State}}, Outputs: []edge.Quantity{{Name: "switch", Kind: edge.State}}},
			{Name: "air", Stream: "secret", Measures: []edge.Quantity{{Name: "temperature", Unit: "Cel"}}}},
		Actions: map[string]thing.Action{"reboot": {Signed: true}, "look": {Safe: true, Data: "text/plain",
			Input: &thing.Schema{Type: thing.Object, Properties: map[string]thing.Schema{"level": {Type: thing.Integer, Minimum: low, Maximum: high}}}}, "work": {}}})
	w.thing.NextVersion(0)
	w.record, err = thing.Sign(device, w.thing)
	ok(tb, err)
	w.restart(change)
	return w
}

// again is another device in the same fleet, on which nothing was done yet.
func (w *world) again(tb testing.TB, change func(*direct.Options)) *world {
	next := &world{tb: tb, thing: w.thing, record: w.record, doer: &doer{}, book: &book{past: map[direct.RequestID]direct.Past{}}, audit: &audit{}}
	next.fleet.Store(w.fleet.Load())
	next.restart(change)
	return next
}

// restart gives the device a new server on what its disk holds.
func (w *world) restart(change func(*direct.Options)) {
	o := direct.Options{Self: device.ID(), Fleet: w.fleet.Load, Thing: func() (*thing.Description, []byte) { return w.thing, w.record },
		Doer: w.doer, Ledger: w.book, Audit: w.audit}
	if change != nil {
		change(&o)
	}
	s, err := direct.NewServer(o)
	ok(w.tb, err)
	w.server = s
}

func (w *world) grant(grants ...fleet.Grant) {
	w.tb.Helper()
	for i := range grants {
		if grants[i].Roles == fleet.Collector {
			k, err := journal.GenerateReaderKey()
			ok(w.tb, err)
			grants[i].Reader = k.Public()
		}
	}
	f, err := w.fleet.Load().Grant(fleet.Author{Key: owner}, start, grants...)
	ok(w.tb, err)
	w.fleet.Store(f)
}

func (w *world) revoke(id edge.ID) {
	w.tb.Helper()
	f, err := w.fleet.Load().Revoke(fleet.Author{Key: owner}, start, id, nil, "test")
	ok(w.tb, err)
	w.fleet.Store(f)
}

// serve begins a session and returns the operator's end of it; over gives what Serve returned.
func (w *world) serve(peer edge.ID) (end net.Conn, over chan error) {
	w.tb.Helper()
	mine, theirs := net.Pipe()
	over = make(chan error, 1)
	go func() { over <- w.server.Serve(context.Background(), theirs, peer) }()
	return mine, over
}

// open opens a session of a member.
func (w *world) open(as journal.SoftKey) *direct.Session {
	w.tb.Helper()
	end, _ := w.serve(as.ID())
	s, err := direct.Open(context.Background(), end, direct.Config{Signer: as, Device: device.ID()})
	ok(w.tb, err)
	return s
}

// doer does as the test says and counts.
type doer struct {
	mu   sync.Mutex
	do   map[string]func(context.Context, *direct.Order) (any, error)
	done []string
	set  []string // values, in order
}

func (d *doer) Do(ctx context.Context, o *direct.Order) (any, error) {
	d.mu.Lock()
	d.done = append(d.done, fmt.Sprintf("%s %s", o.Op, o.Name))
	if o.Op == direct.Set {
		d.set = append(d.set, fmt.Sprint(o.Value))
	}
	f := d.do[o.Name]
	d.mu.Unlock()
	if f == nil {
		return o.Value, nil
	}
	return f(ctx, o)
}

func (d *doer) times() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.done)
}

// book is a ledger whose disk the test can look at.
type book struct {
	mu   sync.Mutex
	past map[direct.RequestID]direct.Past
	fail error
}

func (b *book) Begin(i direct.Intent) (direct.Past, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.past[i.ID]; p.Known || b.fail != nil {
		return p, b.fail
	}
	b.past[i.ID] = direct.Past{Known: true, Digest: i.Digest}
	return direct.Past{}, nil
}

func (b *book) End(id direct.RequestID, o direct.Outcome) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.past[id]
	p.Ended = &o
	b.past[id] = p
	return nil
}

// disk is what a power cut now would leave.
func (b *book) disk() *book {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &book{past: maps.Clone(b.past)}
}

type audit struct {
	mu      sync.Mutex
	called  []direct.Act
	ended   []error
	refused []error
}

func (a *audit) Called(act direct.Act) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.called = append(a.called, act)
}
func (a *audit) Ended(_ direct.Act, e error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = append(a.ended, e)
}
func (a *audit) Refused(_ direct.Act, e error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = append(a.refused, e)
}

func (a *audit) counts() (called, ended, refused int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.called), len(a.ended), len(a.refused)
}

// wire speaks the operator's side with nothing but bytes.
type wire struct {
	tb  testing.TB
	end net.Conn
}

func (w wire) send(kind byte, v any) {
	w.tb.Helper()
	_, err := w.end.Write(frame(w.tb, kind, v))
	ok(w.tb, err)
}

func frame(tb testing.TB, kind byte, v any) []byte {
	tb.Helper()
	body, err := journal.Encode(v)
	ok(tb, err)
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(1+len(body))), kind), body...)
}

func (w wire) recv() (kind byte, body []byte) {
	w.tb.Helper()
	kind, body, err := readFrame(w.end)
	ok(w.tb, err)
	return kind, body
}

func readFrame(r io.Reader) (byte, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	return b[0], b[1:], nil
}

type hello struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Nonce   direct.Nonce
	Life    uint64
	Thing   uint64
}

type result struct {
	_      struct{} `cbor:",toarray"`
	ID     direct.RequestID
	Reason direct.Reason
	Detail string
	Value  any
}

type ending struct {
	_      struct{} `cbor:",toarray"`
	Reason direct.Reason
	Detail string
}

// greet opens the session by hand.
func (w wire) greet() hello {
	w.tb.Helper()
	kind, body := w.recv()
	var h hello
	ok(w.tb, journal.Decode(body, &h))
	if kind != 'H' {
		w.tb.Fatalf("frame %q", kind)
	}
	w.send('O', []any{1, h.Nonce})
	return h
}

// wantEnd reads until the device ends the session.
func (w wire) wantEnd(reason direct.Reason) {
	w.tb.Helper()
	for {
		kind, body := w.recv()
		if kind != 'E' {
			continue
		}
		var e ending
		ok(w.tb, journal.Decode(body, &e))
		if e.Reason != reason || e.Detail == "" {
			w.tb.Fatalf("ended for %v (%s), want %v", e.Reason, e.Detail, reason)
		}
		return
	}
}

func (w wire) wantResult(id direct.RequestID, reason direct.Reason) result {
	w.tb.Helper()
	for {
		kind, body := w.recv()
		if kind != 'R' {
			continue
		}
		var r result
		ok(w.tb, journal.Decode(body, &r))
		if r.ID != id || r.Reason != reason {
			w.tb.Fatalf("%+v, want %v", r, reason)
		}
		return r
	}
}

func wantReason(tb testing.TB, err error, want direct.Reason) {
	tb.Helper()
	if direct.ReasonOf(err) != want {
		tb.Fatalf("%v, want %v", err, want)
	}
}

// grantRelay lets the stranger command the relay, and nothing else.
func (w *world) grantRelay() {
	w.tb.Helper()
	w.grant(fleet.Grant{Member: stranger.ID(), Name: "bob", Roles: fleet.Collector,
		Rights: []fleet.Right{{Do: fleet.Command, On: []string{"pi-1"}, What: []string{"relay/switch"}}}})
}
