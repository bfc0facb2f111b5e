// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal/wal"
)

// greed is how many times the free part of the quota one signer may hold: of a quota that n greedy ones fill, each gets 4/(4n+1), and the next one
// that comes always finds room. It is the dynamic threshold of Choudhury and Hahne for shared buffers (IEEE/ACM Trans. Networking 6(2), 1998). A single
// device has 80 % of the quota.
const greed = 4

// shares counts the bytes that are kept on disk by who signed them; what was let go does not count, though its space may come back later. Safe for
// concurrent use.
type shares struct {
	mu   sync.Mutex
	used map[edge.ID]int64
}

// take counts n bytes more for a signer. The error wraps wal.ErrFull if that is more than its share of what is free.
func (s *shares) take(id edge.ID, n, free int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.used[id]; held+n > greed*free {
		return fmt.Errorf("%w: %s holds %d bytes, %d times the %d that are free: no signer may fill the disk alone", wal.ErrFull, id.Short(), held, greed, free)
	}
	s.used[id] += n
	return nil
}

// charge counts n bytes more for a signer that are there already.
func (s *shares) charge(id edge.ID, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[id] += n
}

// give takes back what take or charge counted.
func (s *shares) give(id edge.ID, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used[id] -= n; s.used[id] <= 0 {
		delete(s.used, id)
	}
}
