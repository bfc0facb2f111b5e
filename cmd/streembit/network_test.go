// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
)

// What the transcripts start beside streembit: real hubs and real newcomers, in this process, with their files in folders as the daemon keeps them.

// within is how long a test waits for what must happen.
const within = 60 * time.Second

// testHub is a hub: store, queue and node.
type testHub struct {
	know  *knowledge
	state string
	queue *enroll.Queue
	node  *p2p.Node
}

func (h *testHub) merge(b fleet.Bundle) (*fleet.Fleet, error) {
	next, err := h.know.merge(b)
	if next != nil {
		err = errors.Join(err, next.Save(filepath.Join(h.state, bundleName)))
	}
	return next, err
}

// Claim implements p2p.Enrolment.
func (h *testHub) Claim(p p2p.Pending) error {
	_, err := h.queue.Add(enroll.Waiting{Claim: p.Claim, Addr: p.Addr, At: p.At}, time.Now())
	return err
}

// Approval implements p2p.Enrolment.
func (h *testHub) Approval(device edge.ID) (enroll.Approval, bool) {
	return h.queue.Approval(device, time.Now())
}

// Claims implements p2p.Desk.
func (h *testHub) Claims(edge.ID) (all []p2p.Pending, err error) {
	for _, w := range h.queue.Waiting(time.Now()) {
		all = append(all, p2p.Pending{Claim: w.Claim, Addr: w.Addr, At: w.At})
	}
	return all, nil
}

// Drop implements p2p.Desk.
func (h *testHub) Drop(_, device edge.ID) error {
	_, err := h.queue.Drop(time.Now(), device)
	return err
}

// Deposit implements p2p.Desk.
func (h *testHub) Deposit(_ edge.ID, a enroll.Approval) error { return h.queue.Deposit(a, time.Now()) }

// startHub runs the hub whose key and bundle are in a folder: hub FOLDER ADDR.
func startHub(ts *testscript.TestScript, _ bool, args []string) {
	state := ts.MkAbs(args[0])
	key, err := fleet.LoadOrCreateKey(stateDir(state).key())
	ts.Check(err)
	f, err := fleet.Load(stateDir(state).bundle(), journal.FleetID{})
	ts.Check(err)
	h := &testHub{know: &knowledge{fleet: f}, state: state}
	h.queue, err = enroll.OpenQueue(filepath.Join(state, "claims.cbor"), f.ID())
	ts.Check(err)
	disk, err := store.Open(context.Background(), filepath.Join(state, "store"), store.Options{Fleet: h.know.get, Self: key.ID()})
	ts.Check(err)
	h.node, err = p2p.New(context.Background(), p2p.Options{Signer: key, Listen: []string{args[1]}, Fleet: h.know.get, Merge: h.merge, Store: disk,
		Enrol: h, Desk: h, Boot: bootID()})
	ts.Check(err)
	ts.Defer(func() { _ = errors.Join(h.node.Close(), disk.Close()) })
}

// setAddr puts a free loopback address into a variable: addr ADDR.
func setAddr(ts *testscript.TestScript, _ bool, args []string) {
	addrs, err := freeAddrs(1)
	ts.Check(err)
	ts.Setenv(args[0], addrs[0])
}

// publish puts segments of a device on all hubs of its bundle: publish FOLDER STREAM COUNT.
func publish(ts *testscript.TestScript, _ bool, args []string) {
	state := stateDir(ts.MkAbs(args[0]))
	key, err := fleet.LoadKey(state.key())
	ts.Check(err)
	f, err := fleet.Load(state.bundle(), journal.FleetID{})
	ts.Check(err)
	node, err := p2p.New(context.Background(), p2p.Options{Signer: key, Fleet: func() *fleet.Fleet { return f }})
	ts.Check(err)
	defer func() { ts.Check(node.Close()) }()
	readers, err := f.Readers(key.ID(), args[1])
	ts.Check(err)
	w, err := journal.NewWriter(f.ID(), args[1], key)
	ts.Check(err)
	for n := 0; fmt.Sprint(n) != args[2]; n++ {
		at := edge.Instant{Mono: int64(n + 1)}
		seg, err := (*journal.Segment)(nil), error(nil)
		if n == 0 {
			seg, err = w.Epoch(readers, nil, journal.Stamp{Boot: journal.BootID{1}, At: at})
		} else {
			seg, err = w.Readings(journal.BootID{1}, []edge.Reading{{Sensor: "s", Sample: edge.Sample{Quantity: edge.Quantity{Name: "level"}, Value: float64(n)}, At: at}})
		}
		ts.Check(err)
		for _, h := range f.Hubs() {
			ts.Check(node.Put(context.Background(), h.Member, seg.Bytes()))
		}
		ts.Check(w.Commit(seg))
	}
}

// newcomer runs an unclaimed device in a folder until it is claimed: newcomer FOLDER ADDR [enroll.toml]. Its code is in FOLDER/code and FOLDER/block.
// With a token it claims at the token's hubs, without one it takes offers and polls at the hubs of FOLDER/hubs.cbor, if that is there.
func newcomer(ts *testscript.TestScript, _ bool, args []string) {
	state := stateDir(ts.MkAbs(args[0]))
	id, err := makeIdentity(state)
	ts.Check(err)
	key, err := fleet.LoadKey(state.key())
	ts.Check(err)
	d := &testDevice{state: state, code: enroll.Code{Device: id.ID, Secret: enroll.NewSecret(), Addrs: []string{args[1]}, Name: filepath.Base(string(state))}}
	block, err := d.code.Block()
	ts.Check(err)
	ts.Check(errors.Join(os.WriteFile(filepath.Join(string(state), "code"), []byte(d.code.String()), 0o600),
		os.WriteFile(filepath.Join(string(state), "block"), []byte("Hello,\n"+block), 0o600)))
	d.node, err = p2p.NewNewcomer(context.Background(), p2p.NewcomerOptions{Signer: key, Code: d.code, Listen: []string{args[1]}, Offer: d.offer})
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	ts.Defer(func() { stop(); working.Wait(); _ = d.node.Close() })
	if len(args) == 3 {
		text, err := os.ReadFile(ts.MkAbs(args[2]))
		ts.Check(err)
		token, err := enroll.ParseToken(text)
		ts.Check(err)
		for _, h := range token.Hubs { // here, so that the claims wait when the next line runs
			ts.Check(d.claim(ctx, h, token))
		}
		working.Go(func() {
			d.poll(ctx, token.Hubs, func(f *fleet.Fleet) bool { return f.ID() == token.Fleet && f.State().Owners[0] == token.Owner })
		})
	} else if data, err := os.ReadFile(filepath.Join(string(state), "hubs.cbor")); err == nil {
		f, err := fleet.Open(data, journal.FleetID{})
		ts.Check(err)
		working.Go(func() { d.poll(ctx, f.State().Hubs, nil) })
	}
}

// testDevice is an unclaimed device.
type testDevice struct {
	state stateDir
	code  enroll.Code
	node  *p2p.Newcomer
}

// claim claims at a hub. Hubs let strangers of one address come about once a second, and all of these have one.
func (d *testDevice) claim(ctx context.Context, h fleet.Bootstrap, t enroll.Token) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := d.node.ClaimAt(ctx, h, t.Claim(d.code.Device, h.ID, d.code.Name))
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// offer claims the device for the fleet of the bundle. Who offers has proven the code's secret.
func (d *testDevice) offer(_ context.Context, a enroll.Approval, b fleet.Bundle) error {
	enc, err := b.Encode()
	if err != nil {
		return err
	}
	f, err := fleet.Open(enc, a.Fleet)
	if err != nil {
		return err
	}
	if !f.IsMember(d.code.Device) || !f.Is(a.Operator, fleet.Operator) {
		return errors.New("the fleet does not grant this device")
	}
	return f.Save(d.state.bundle())
}

// poll asks the hubs until one has the fleet, which an approval proves or pinned finds right.
func (d *testDevice) poll(ctx context.Context, hubs []fleet.Bootstrap, pinned func(*fleet.Fleet) bool) {
	again := time.NewTicker(time.Second) // hubs let strangers come about that often
	defer again.Stop()
	for {
		for _, h := range hubs {
			r, err := d.node.PollApproval(ctx, h)
			if err != nil || !r.Granted {
				continue
			}
			enc, err := r.Bundle.Encode()
			if err != nil {
				return
			}
			f, err := fleet.Open(enc, journal.FleetID{})
			switch {
			case err != nil:
			case pinned != nil && pinned(f):
				_ = f.Save(d.state.bundle())
				return
			case pinned == nil && r.Approval != nil && r.Approval.Check(d.code) == nil && r.Approval.Fleet == f.ID():
				_ = f.Save(d.state.bundle())
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// await runs a command again and again until its output holds a text: await TEXT streembit fleet show.
func await(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(within)
	for {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && strings.Contains(out, args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v never said %q, at last: %s%s", args[1:], args[0], out, ts.ReadFile("stderr"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// inFleet waits until the bundle in a folder has a member: member FOLDER ID.
func inFleet(ts *testscript.TestScript, neg bool, args []string) {
	id, err := edge.ParseID(args[1])
	ts.Check(err)
	deadline := time.Now().Add(within)
	for {
		f, err := fleet.Load(stateDir(ts.MkAbs(args[0])).bundle(), journal.FleetID{})
		if err == nil && f.IsMember(id) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("in %s: member %s: %t, %v", args[0], id, neg, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// jsonField puts a field of the last output, which is JSON, into a variable: jsonfield VAR key [index key ...].
func jsonField(ts *testscript.TestScript, _ bool, args []string) {
	var v any
	ts.Check(json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile("stdout")))).Decode(&v))
	for _, key := range args[1:] {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			var i int
			_, err := fmt.Sscan(key, &i)
			ts.Check(err)
			v = in[i]
		}
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}
