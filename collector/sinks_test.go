// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
)

// changing is a sink at whose first batch something happens.
type changing struct {
	*memory
	once sync.Once
	do   func()
}

func (c *changing) Write(ctx context.Context, b collector.Batch) error {
	c.once.Do(c.do)
	return c.memory.Write(ctx, b)
}

// current is the fleet, while others change it.
func (w *world) current() *fleet.Fleet {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fleet
}

func (w *world) change(f *fleet.Fleet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fleet = f
}

func (w *world) author() fleet.Author { return fleet.Author{Key: w.owner} }

// enrolled returns the fleet with one more device.
func (w *world) enrolled(i int) *fleet.Fleet {
	return must(w.fleet.Grant(w.author(), time.Now(), fleet.Grant{Member: softKey(1000 + uint64(i)).ID(), Name: fmt.Sprintf("device-%d", i), Roles: fleet.Device}))
}
