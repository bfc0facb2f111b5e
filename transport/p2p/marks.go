// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"fmt"
	"sync"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// markSlack is how many segments a head may be behind those that are on the disk already: it is put once a minute, while segments keep coming.
const markSlack = journal.BucketSize

// maxMarks bounds the chains whose newest head is remembered: some 200 bytes each.
const maxMarks = 1 << 16

// marks are the newest heads that this node has seen. kad-dht takes an older value again as soon as the newer one has expired from its store; this does
// not. They last as long as the process; a hub also knows from its disk how far a chain was, restarts included.
type marks struct {
	store transport.Store // nil = not a hub

	mu   sync.Mutex
	seen map[journal.Chain]transport.Head
}

// check refuses a head that is older than one seen before, and remembers it otherwise. The error wraps fleet.ErrRollback.
func (m *marks) check(h transport.Head) error {
	if err := m.checkStore(h); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, seen := m.seen[h.Header.Chain]
	if seen && known.Supersedes(h) {
		return fmt.Errorf("p2p: head %d of %s after head %d: %w", h.Header.Seq, h.Header.Chain, known.Header.Seq, fleet.ErrRollback)
	}
	if !seen && len(m.seen) >= maxMarks {
		for c := range m.seen { // any: who is forgotten is guarded by the store alone
			delete(m.seen, c)
			break
		}
	}
	m.seen[h.Header.Chain] = h
	return nil
}

func (m *marks) checkStore(h transport.Head) error {
	if m.store == nil {
		return nil
	}
	held, err := m.store.Held(context.Background(), h.Header.Chain.Device)
	if err != nil {
		return nil //nolint:nilerr // a disk that cannot be read is no reason to refuse a hint
	}
	for _, c := range held {
		if last, ok := c.Last(); ok && c.Chain == h.Header.Chain && last > h.Header.Seq+markSlack {
			return fmt.Errorf("p2p: head %d of %s, whose segment %d is here: %w", h.Header.Seq, h.Header.Chain, last, fleet.ErrRollback)
		}
	}
	return nil
}
