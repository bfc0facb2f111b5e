// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/routing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/transport"
)

const (
	compareFirst = 5 * time.Second  // after its start a hub hears from others what it has missed
	compareEvery = 15 * time.Minute // and from then on
	compareAgain = 20 * time.Second // if none was connected
	compareWith  = 2                // hubs
	putAgain     = 12 * time.Hour   // kad-dht's memory of a hub ends with its process: what lies on disk goes there again
	putPause     = 100 * time.Millisecond
	newsPlaces   = 16
)

// recordValidator guards the records of updates at the hub that stores one and at the member that reads one.
type recordValidator struct {
	fleet func() *fleet.Fleet
	shelf *records.Shelf
	fresh func(key string)
}

// Validate refuses what is no record under its key, is signed by somebody who may not, or is older than one that was here. At a hub it puts it on disk.
func (v recordValidator) Validate(key string, value []byte) error {
	_, fresh, err := v.shelf.Put(key, value)
	if fresh {
		v.fresh(key)
	}
	return err
}

// Select returns the index of the record that counts.
func (v recordValidator) Select(key string, values [][]byte) (int, error) {
	i := records.Select(v.fleet(), key, values)
	if i < 0 {
		return 0, fmt.Errorf("p2p: selecting among %d records: none is valid", len(values))
	}
	return i, nil
}

// learnt is called for each record that was not known. A hub tells the members that are connected of those that concern them.
func (n *Node) learnt(key string) {
	n.o.News(key)
	if n.o.Store != nil && (key == records.Key(records.Metadata, "timestamp.json") || len(key) > len(records.Rollout)+1 && key[1:len(records.Rollout)+1] == records.Rollout) {
		n.spawn(func() { n.tellNews(n.life, key) })
	}
}

// tellNews tells the members that are connected. Whom it does not reach finds out by itself, later.
func (n *Node) tellNews(ctx context.Context, key string) {
	places := make(chan struct{}, newsPlaces)
	for _, p := range n.parts.host.Network().Peers() {
		id, ok := memberID(p)
		if !ok || !n.o.Fleet().Is(id, fleet.Device) && !n.o.Fleet().Is(id, fleet.Hub) {
			continue
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if !n.spawn(func() {
			defer func() { <-places }()
			limited, cancel := context.WithTimeout(ctx, requestLimit)
			defer cancel()
			_ = n.askProgram(limited, id, programRequest{Op: opNews, Key: key}, func(byte, []byte) error { return nil }) // an older program refuses it
		}) {
			<-places
		}
	}
}

// PutRecord offers a record to the hubs closest to its key. As with PutHead nil means that hubs were asked, no more. A metered node gives it to no hub but the one it
// speaks with, which takes it as its own.
func (n *Node) PutRecord(ctx context.Context, key string, raw []byte) error {
	if _, err := records.Open(n.o.Fleet(), key, raw); err != nil {
		return err
	}
	if err := n.seed(ctx); err != nil {
		return err
	}
	if n.o.Metered {
		return n.putAtOne(ctx, key, raw)
	}
	err := n.dht.PutValue(ctx, key, raw)
	if errors.Is(err, kb.ErrLookupFailure) && n.o.Store != nil {
		return nil // alone: this hub has stored it
	}
	if err != nil {
		return fmt.Errorf("p2p: putting %s: %w", key, lookupError(ctx, err))
	}
	return nil
}

// putAtOne tells the hub that is connected of a record, which then asks for it and passes it on.
func (n *Node) putAtOne(ctx context.Context, key string, raw []byte) error {
	if _, _, err := n.o.Records.Put(key, raw); err != nil {
		return err
	}
	hubs := n.hubsByNearness()
	if len(hubs) == 0 || !n.connected(hubs[0]) {
		return fmt.Errorf("p2p: putting %s: %w", key, transport.ErrUnreachable)
	}
	return n.askProgram(ctx, hubs[0], programRequest{Op: opNews, Key: key}, func(byte, []byte) error { return nil })
}

// takeRecord has a member give the record that it told this hub of, and passes it on.
func (n *Node) takeRecord(who *reading, key string) error {
	leave, err := n.giving.enter(who.ctx, who.id)
	if err != nil {
		return err
	}
	defer leave()
	limited, cancel := context.WithTimeout(who.ctx, requestLimit)
	defer cancel()
	var raw []byte
	err = n.askProgram(limited, who.id, programRequest{Op: opRecord, Key: key}, func(kind byte, body []byte) error {
		f, err := decodeRecord(kind, body)
		raw = f.Raw
		return err
	})
	if err != nil {
		return err
	}
	_, fresh, err := n.o.Records.Put(key, raw)
	if err != nil {
		return refuse(transport.RefusedInvalid, "%v", err)
	}
	if fresh {
		n.learnt(key)
		n.spawn(func() {
			if err := n.PutRecord(n.life, key, raw); err != nil {
				n.log.Debug("a record could not be passed on", "key", key, "err", err)
			}
		})
	}
	return nil
}

// Record returns the newest record under a key that the hubs have, proven. The error wraps records.ErrNone if they have none. A metered node asks one hub.
func (n *Node) Record(ctx context.Context, key string) (records.Record, error) {
	if err := n.seed(ctx); err != nil {
		return records.Record{}, err
	}
	if n.o.Metered {
		return n.recordOfSome(ctx, key)
	}
	value, err := n.dht.GetValue(ctx, key, dht.Quorum(0)) // all the closest, as in Head
	switch {
	case errors.Is(err, routing.ErrNotFound):
		return n.recordOfSome(ctx, key) // hubs that have begun anew have it on disk, though not yet in the DHT
	case err != nil:
		return records.Record{}, fmt.Errorf("p2p: getting %s: %w", key, lookupError(ctx, err))
	}
	return records.Open(n.o.Fleet(), key, value)
}

// recordOfSome also remembers what this node has seen itself: the hubs may have lost it.
func (n *Node) recordOfSome(ctx context.Context, key string) (records.Record, error) {
	r, err := n.recordOfOne(ctx, key)
	if err != nil {
		if own, ok := n.o.Records.Get(key); ok {
			return own, nil
		}
	}
	return r, err
}

// recordOfOne asks the disks of hubs, those that are connected first, and takes the first answer.
func (n *Node) recordOfOne(ctx context.Context, key string) (records.Record, error) {
	var failed error
	asked := 0
	for _, hub := range n.hubsByNearness() {
		if asked == compareWith || n.o.Metered && asked == 1 {
			break
		}
		var got records.Record
		limited, cancel := context.WithTimeout(ctx, requestLimit)
		err := n.askProgram(limited, hub, programRequest{Op: opRecord, Key: key}, func(kind byte, body []byte) error {
			f, err := decodeRecord(kind, body)
			if err != nil {
				return err
			}
			got, _, err = n.o.Records.Put(key, f.Raw)
			return err
		})
		cancel()
		switch {
		case err == nil && got.Key != "":
			return got, nil
		case err == nil:
			asked++
		case ctx.Err() != nil:
			return got, err
		default:
			failed = err
		}
	}
	if asked == 0 && failed != nil {
		return records.Record{}, failed
	}
	return records.Record{}, fmt.Errorf("p2p: getting %s: %w", key, records.ErrNone)
}

// hubsByNearness returns the other hubs, those that are connected first, and else in random order.
func (n *Node) hubsByNearness() (ids []edge.ID) {
	for _, h := range n.o.Fleet().Hubs() {
		if h.Member != n.self {
			ids = append(ids, h.Member)
		}
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	slices.SortStableFunc(ids, func(a, b edge.ID) int { return yes(!n.connected(a)) - yes(!n.connected(b)) })
	return ids
}

// RecordsOf visits the records of a space that a hub has, proven. Those that cannot be proven are left out.
func (n *Node) RecordsOf(ctx context.Context, hub edge.ID, space string, visit func(records.Record)) error {
	if hub == n.self && n.o.Store != nil {
		for _, r := range n.o.Records.All(space) {
			visit(r)
		}
		return nil
	}
	return n.askProgram(ctx, hub, programRequest{Op: opRecords, Key: space}, func(kind byte, body []byte) error {
		f, err := decodeRecord(kind, body)
		if err != nil {
			return err
		}
		if r, err := records.Open(n.o.Fleet(), f.Key, f.Raw); err == nil {
			visit(r)
		}
		return nil
	})
}

// keepRecords keeps a hub's records what all hubs know, and the DHT's what lies on disk, until ctx ends.
func (n *Node) keepRecords(ctx context.Context) {
	var last time.Time // when all were put
	for wait := compareFirst; nap.For(ctx, wait/2+rand.N(wait)); {
		wait = compareEvery
		if err := n.seed(ctx); err != nil {
			continue
		}
		if !n.hearRecords(ctx) {
			wait = compareAgain
		}
		if time.Since(last) >= putAgain {
			n.putRecords(ctx)
			last = time.Now()
		}
	}
}

// hearRecords takes what a few other hubs have, of those that are connected: nobody is dialled for it. It reports whether any was asked.
func (n *Node) hearRecords(ctx context.Context) bool {
	asked := 0
	for _, hub := range n.hubsByNearness() {
		if asked == compareWith || ctx.Err() != nil || !n.connected(hub) {
			break
		}
		ok := true
		for _, space := range records.Spaces() {
			limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
			err := n.RecordsOf(limited, hub, space, func(r records.Record) {
				if _, fresh, err := n.o.Records.Put(r.Key, r.Raw); err == nil && fresh {
					n.learnt(r.Key)
				}
			})
			cancel()
			ok = ok && err == nil
		}
		if ok {
			asked++
		}
	}
	return asked > 0
}

// putRecords puts those again for which this hub is the first: each record once in the fleet, and not all at the same moment.
func (n *Node) putRecords(ctx context.Context) {
	f := n.o.Fleet()
	var hubs []edge.ID
	for _, h := range f.Hubs() {
		if h.Member == n.self || n.connected(h.Member) {
			hubs = append(hubs, h.Member)
		}
	}
	for _, space := range records.Spaces() {
		for _, r := range n.o.Records.All(space) {
			placed := transport.Place(journal.Hash(sha256.Sum256([]byte(r.Key))), hubs)
			if len(placed) == 0 || placed[0] != n.self {
				continue
			}
			if err := n.PutRecord(ctx, r.Key, r.Raw); err != nil {
				n.log.Debug("a record could not be put again", "key", r.Key, "err", err)
			}
			if !nap.For(ctx, putPause) {
				return
			}
		}
	}
}
