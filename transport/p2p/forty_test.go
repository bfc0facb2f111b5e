// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// forty is many hubs that know each other's addresses from the fleet's log. Others get to know one address: hub 0's.
type forty struct {
	*transporttest.World
	bundle *fleet.Fleet // tells hub 0's address and no other
	nodes  map[edge.ID]*p2p.Node
	stores map[edge.ID]*transporttest.Store
}

func newForty(t *testing.T, hubs, devices int) *forty {
	s := &forty{World: transporttest.NewWorld(t, hubs, devices), nodes: map[edge.ID]*p2p.Node{}, stores: map[edge.ID]*transporttest.Store{}}
	var grants []fleet.Grant
	for i, h := range s.Hubs {
		st := transporttest.NewStore(s.Fleet, 0)
		n := startWith(t, p2p.Options{Signer: h, Fleet: s.Fleet, Store: st, Listen: []string{houseAddr(i)}})
		s.nodes[h.ID()], s.stores[h.ID()] = n, st
		grant, _ := s.Fleet().Member(h.ID())
		grant.Addrs = n.Addrs()
		grants = append(grants, grant)
	}
	s.bundle = s.World.Bootstrap(t, fleet.Bootstrap{ID: grants[0].Member, Addrs: grants[0].Addrs})
	s.Grant(t, grants...)
	return s
}

// houseAddr is the i-th address of this machine's own network (RFC 6890), so that many nodes are not many behind one address.
func houseAddr(i int) string { return fmt.Sprintf("/ip4/127.0.%d.%d/tcp/0", 100+i/250, 1+i%250) }

// join connects every hub with all others and waits until all routing tables are as full as they can be: a state that
// hubs reach by themselves in time, by the look-ups that they do anyway.
func (s *forty) join(t *testing.T) {
	t.Helper()
	s.each(func(id edge.ID, n *p2p.Node) {
		for _, other := range s.HubIDs() {
			if other.Compare(id) <= 0 {
				continue // one of each two dials
			}
			_, err := n.Held(t.Context(), other, id)
			for tries := 1; err != nil && tries < 3; tries++ { // a busy machine may exceed the time for a handshake
				_, err = n.Held(t.Context(), other, id)
			}
			if err != nil {
				t.Errorf("asking: %v", err)
			}
		}
	})
	transporttest.WaitFor(t, "full routing tables", func() (bool, string) {
		full := 0
		for id, n := range s.nodes {
			if len(n.Known()) >= capacity(id, s.HubIDs()) {
				full++
			}
		}
		return full == len(s.nodes), fmt.Sprintf("%d of %d are full", full, len(s.nodes))
	})
}

// each runs f for all hubs, eight at a time.
func (s *forty) each(f func(edge.ID, *p2p.Node)) {
	atOnce(len(s.Hubs), func(i int) { f(s.Hubs[i].ID(), s.nodes[s.Hubs[i].ID()]) })
}

// capacity is how many of the others a Kademlia table can hold: 20 for each length of common prefix.
func capacity(self edge.ID, others []edge.ID) int {
	own, count := sha256.Sum256(self.Bytes()), map[int]int{}
	for _, o := range others {
		if o == self {
			continue
		}
		sum, cpl := sha256.Sum256(o.Bytes()), 0
		for i := range sum {
			if x := own[i] ^ sum[i]; x != 0 {
				cpl = 8*i + bits.LeadingZeros8(x)
				break
			}
		}
		count[cpl]++
	}
	n := 0
	for _, c := range count {
		n += min(c, 20)
	}
	return n
}

// publish sends segments, several at a time, and waits until each is on every hub of its bucket: Publish itself
// returns at a majority and leaves the rest under way.
func (s *forty) publish(t *testing.T, from *p2p.Node, segs []*journal.Segment) {
	t.Helper()
	p := transport.NewPublisher(from, fixed(s.bundle))
	defer p.Close()
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, seg := range segs {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if _, err := p.Publish(t.Context(), seg, nil); err != nil {
				t.Errorf("publishing: %v", err)
			}
		})
	}
	all.Wait()
	transporttest.WaitFor(t, "copies on all hubs of each bucket", func() (bool, string) {
		have := 0
		for _, st := range s.stores {
			have += st.Len()
		}
		return have >= len(segs)*transport.MaxCopies, fmt.Sprintf("%d of %d", have, len(segs)*transport.MaxCopies)
	})
}

func TestFortyHubsHoldTheirBucketsAndNothingElse(t *testing.T) {
	began := time.Now()
	phase := func(what string) { t.Logf("%6.2f s: %s", time.Since(began).Seconds(), what) }
	s := newForty(t, 40, 1)
	phase("40 hubs are up")
	s.join(t)
	phase("routing tables are full")

	device := startWith(t, p2p.Options{Signer: s.Devices[0], Fleet: fixed(s.bundle)})
	long := s.Chain(t, s.Devices[0], "main")
	segs := long.Many(journal.BucketSize + 6) // two buckets of one chain …
	chains := []journal.Chain{long.Name()}
	for i := range 8 { // … and one of each of these
		c := s.Chain(t, s.Devices[0], fmt.Sprintf("stream-%d", i))
		chains = append(chains, c.Name())
		segs = append(segs, c.Many(4)...)
	}
	s.publish(t, device, segs)
	phase(fmt.Sprintf("%d segments are published", len(segs)))

	for _, seg := range segs {
		placed := transport.Place(seg.Chain.Bucket(seg.Seq).Key(), s.HubIDs())
		for id, st := range s.stores {
			if want := slices.Contains(placed, id); st.Has(seg.Chain, seg.Seq) != want {
				t.Errorf("%s seq %d: held by hub %s: %t, want %t", seg.Chain.Stream, seg.Seq, id.Short(), !want, want)
			}
		}
	}
	s.checkLookups(t, segs)
	phase("look-ups are compared")

	reader := startWith(t, p2p.Options{Signer: s.Reader, Fleet: fixed(s.bundle)})
	for _, c := range chains {
		s.checkPull(t, reader, c, segs)
	}
	phase("a reader that knew one address has everything")
}

// checkLookups compares what the DHT finds with what the hub list says.
func (s *forty) checkLookups(t *testing.T, segs []*journal.Segment) {
	t.Helper()
	keys := map[journal.Hash]bool{}
	for _, seg := range segs {
		keys[seg.Chain.Bucket(seg.Seq).Key()] = true
	}
	askers := s.Hubs[:4]
	agree, asked := 0, 0
	for key := range keys {
		want := transport.Place(key, s.HubIDs())
		for _, h := range askers {
			got, err := s.nodes[h.ID()].Closest(deadline(t), key)
			if err != nil {
				t.Fatalf("looking up: %v", err)
			}
			asked++
			if slices.Equal(got, want) {
				agree++
			}
		}
	}
	t.Logf("the DHT's closest are the placed hubs in %d of %d look-ups", agree, asked)
	if agree != asked {
		t.Errorf("with full routing tables all %d look-ups must agree, %d did", asked, agree)
	}
}

// checkPull fetches a chain as a reader does: each bucket from the hubs that Place names, whose addresses the DHT finds.
func (s *forty) checkPull(t *testing.T, reader *p2p.Node, c journal.Chain, segs []*journal.Segment) {
	t.Helper()
	want := slices.DeleteFunc(slices.Clone(segs), func(seg *journal.Segment) bool { return seg.Chain != c })
	for len(want) > 0 {
		bucket := c.Bucket(want[0].Seq)
		first, last := bucket.Range()
		n := 0
		for n < len(want) && want[n].Seq <= last {
			n++
		}
		// The farthest of the twenty proves as much as the closest, and is another hub for nearly each bucket.
		placed := transport.Place(bucket.Key(), s.HubIDs())
		var got [][]byte
		err := reader.Fetch(deadline(t), placed[len(placed)-1], c, transport.Span{First: first, Last: last}, func(b []byte) error {
			got = append(got, bytes.Clone(b))
			return nil
		})
		if err != nil || len(got) != n {
			t.Fatalf("%s from seq %d: %d of %d segments: %v", c.Stream, first, len(got), n, err)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i].Bytes()) {
				t.Errorf("%s seq %d differs", c.Stream, want[i].Seq)
			}
		}
		want = want[n:]
	}
}
