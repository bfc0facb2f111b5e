// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"sync"
)

// lifetime is the work of a node: it begins while the node is open and is waited for by its Close. Safe for concurrent use.
type lifetime struct {
	life  context.Context //nolint:containedctx // ends with the node
	stop  context.CancelFunc
	tasks sync.WaitGroup

	door   sync.Mutex
	closed bool
}

func newLifetime() *lifetime {
	l := &lifetime{}
	l.life, l.stop = context.WithCancel(context.Background())
	return l
}

// begin registers work that Close waits for; false means that the node is closed. Each true wants one tasks.Done.
func (l *lifetime) begin() bool {
	l.door.Lock()
	defer l.door.Unlock()
	if l.closed {
		return false
	}
	l.tasks.Add(1)
	return true
}

// spawn runs work in the background; false means that the node is closed and nothing was begun.
func (l *lifetime) spawn(work func()) bool {
	if !l.begin() {
		return false
	}
	go func() {
		defer l.tasks.Done()
		work()
	}()
	return true
}

// end lets nothing begin any more and ends life; false means that this was done before. The caller then waits for tasks.
func (l *lifetime) end() bool {
	l.door.Lock()
	defer l.door.Unlock()
	if l.closed {
		return false
	}
	l.closed = true
	l.stop()
	return true
}
