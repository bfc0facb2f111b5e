// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// TestStorageExhaustion_ByAMember: a device that writes all it can, in as many chains and with as many forks as it can, leaves room for others, before and
// after a restart.
func TestStorageExhaustion_ByAMember(t *testing.T) {
	w, dir := newWorld(t, 1), t.TempDir()
	o := w.options()
	o.Quota = 256 << 10
	honest := key(77)
	f, err := w.fleet.Grant(fleet.Author{Key: key(1)}, time.Now(), fleet.Grant{Member: honest.ID(), Name: "honest", Roles: fleet.Device})
	check(t, err)
	o.Fleet = func() *fleet.Fleet { return f }
	s := open(t, dir, o)
	taken := 0
	flood := func() {
		full := 0
		for full < 20 { // a refused chain is followed by others
			c := w.chain(t, w.device, "main")
			first := c.next(1)
			if s.Put(context.Background(), first.Bytes()) != nil {
				full++
				continue
			}
			twin := c.twin(w.device)
			for range 4 {
				if s.Put(context.Background(), c.next(200).Bytes()) != nil {
					full++
					break
				}
				taken++
			}
			_ = s.Put(context.Background(), twin.next(200).Bytes()) // refused, with a proof that is kept
		}
	}
	flood()
	if used := s.Stats().Bytes; used < o.Quota/2 || used > o.Quota*5/6 {
		t.Errorf("one device alone takes %d of %d bytes", used, o.Quota)
	}
	if taken < 10 {
		t.Fatalf("%d segments were taken: the test shows nothing", taken)
	}
	check(t, s.Close())
	s = open(t, dir, o)
	flood()
	if used := s.Stats().Bytes; used > o.Quota*5/6 {
		t.Errorf("after a restart it has %d of %d bytes", used, o.Quota)
	}
	c := w.chain(t, honest, "main")
	var last *journal.Segment
	for range 5 {
		last = c.next(50)
		put(t, s, last)
	}
	refused(t, s.Put(context.Background(), w.chain(t, w.device, "main").next(200).Bytes()), transport.RefusedFull, w.hub.ID(), "times")
	if got := fetch(t, s, last.Chain, 0, end); len(got) != 5 {
		t.Errorf("%d of the other device's segments", len(got))
	}
}
