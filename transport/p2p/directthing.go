// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/routing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// ErrNoThing is wrapped when no hub has a device's description.
var ErrNoThing = errors.New("no hub has a description of this device")

// thingSpace is the namespace of signed Thing Descriptions among DHT values (docs/decisions/0020-direct-sessions.md).
const thingSpace = "td"

func thingKey(device edge.ID) string { return "/" + thingSpace + "/" + device.String() }

// thingValidator guards descriptions at the hub that stores one and at the member that reads one.
type thingValidator struct {
	fleet func() *fleet.Fleet
	marks *thingMarks
}

// described is a proven description, as far as its age goes.
type described struct {
	version uint64
	hash    [sha256.Size]byte
}

// supersedes reports whether d counts and o does not: the higher version, and of two with one version the lower hash, so that all agree.
func (d described) supersedes(o described) bool {
	if d.version != o.version {
		return d.version > o.version
	}
	return bytes.Compare(d.hash[:], o.hash[:]) < 0
}

func (v thingValidator) open(key string, value []byte) (edge.ID, described, error) {
	device, err := edge.ParseID(strings.TrimPrefix(key, "/"+thingSpace+"/"))
	if err != nil || thingKey(device) != key {
		return device, described{}, fmt.Errorf("p2p: description under the key %.80q: %w", key, journal.ErrMalformed)
	}
	if !v.fleet().Is(device, fleet.Device) {
		return device, described{}, fmt.Errorf("p2p: description of %s: %w", device.Short(), fleet.ErrNotMember)
	}
	d, err := thing.OpenSigned(device, value)
	if err != nil {
		return device, described{}, fmt.Errorf("p2p: %w", err)
	}
	return device, described{d.Version.Number(), sha256.Sum256(value)}, nil
}

// Validate refuses what is not the description of the device that the key names, signed by it, or is older than one that was here.
func (v thingValidator) Validate(key string, value []byte) error {
	device, d, err := v.open(key, value)
	if err != nil {
		return err
	}
	return v.marks.check(device, d)
}

// Select returns the index of the description that counts.
func (v thingValidator) Select(key string, values [][]byte) (int, error) {
	best, found := described{}, -1
	for i, value := range values {
		_, d, err := v.open(key, value)
		if err == nil && (found < 0 || d.supersedes(best)) {
			best, found = d, i
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("p2p: selecting among %d descriptions: none is valid", len(values))
	}
	return found, nil
}

// thingMarks are the newest descriptions that this node has seen: kad-dht takes an older one again once the newer has expired; this does not. They last as
// long as the process.
type thingMarks struct {
	mu   sync.Mutex
	seen map[edge.ID]described
}

func (m *thingMarks) check(device edge.ID, d described) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, seen := m.seen[device]
	if seen && known.supersedes(d) {
		return fmt.Errorf("p2p: description %d of %s after %d: %w", d.version, device.Short(), known.version, fleet.ErrRollback)
	}
	if !seen && len(m.seen) >= maxMarks {
		for other := range m.seen { // any: its record, if there is one, still guards it
			delete(m.seen, other)
			break
		}
	}
	m.seen[device] = d
	return nil
}

// PutThing offers a device's signed description to the hubs closest to its key. As with PutHead nil means that hubs were asked, no more: the device repeats it.
func (n *Node) PutThing(ctx context.Context, device edge.ID, record []byte) error {
	if err := n.seed(ctx); err != nil {
		return err
	}
	err := n.dht.PutValue(ctx, thingKey(device), record)
	if errors.Is(err, kb.ErrLookupFailure) && n.o.Store != nil {
		return nil // alone: this hub has stored it
	}
	if err != nil {
		return fmt.Errorf("p2p: putting description of %s: %w", device.Short(), lookupError(ctx, err))
	}
	return nil
}

// Thing returns the newest signed description of a device that the hubs have, proven. The error wraps ErrNoThing if they have none.
func (n *Node) Thing(ctx context.Context, device edge.ID) ([]byte, error) {
	if err := n.seed(ctx); err != nil {
		return nil, err
	}
	value, err := n.dht.GetValue(ctx, thingKey(device), dht.Quorum(0)) // all the closest, as in Head
	switch {
	case errors.Is(err, routing.ErrNotFound):
		return nil, fmt.Errorf("p2p: description of %s: %w", device.Short(), ErrNoThing)
	case err != nil:
		return nil, fmt.Errorf("p2p: description of %s: %w", device.Short(), lookupError(ctx, err))
	}
	return value, nil
}
