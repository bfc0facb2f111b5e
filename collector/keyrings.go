// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/binary"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// ring is a journal.Keyring that several chains share: its buffers take half a megabyte, and there are thousands of chains. Safe for concurrent
// use.
type ring struct {
	mu   sync.Mutex
	keys *journal.Keyring
}

// newRings makes so many that chains that are pulled at the same time seldom meet at one.
func newRings(key journal.ReaderKey, parallel int) []*ring {
	out := make([]*ring, 2*parallel)
	for i := range out {
		out[i] = &ring{keys: journal.NewKeyring(key)}
	}
	return out
}

// ring returns the one of a chain.
func (c *Collector) ring(chain journal.Chain) *ring {
	return c.rings[binary.BigEndian.Uint64(chain.Incarnation[:])%uint64(len(c.rings))]
}

// use hands out the keyring; what comes out of it must not be kept, but for readings and notes, which are copies.
func (r *ring) use(do func(*journal.Keyring) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return do(r.keys)
}

func (r *ring) learn(seg *journal.Segment) (after *journal.Continuation, err error) {
	err = r.use(func(k *journal.Keyring) error { after, err = k.Learn(seg); return err })
	return after, err
}

func (r *ring) readings(seg *journal.Segment) (out []edge.Reading, err error) {
	err = r.use(func(k *journal.Keyring) error { out, err = k.Readings(seg); return err })
	return out, err
}

func (r *ring) note(seg *journal.Segment) (n journal.Note, err error) {
	err = r.use(func(k *journal.Keyring) error { n, err = k.Note(seg); return err })
	return n, err
}
