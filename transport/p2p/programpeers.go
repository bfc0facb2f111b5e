// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/swarm"
	"github.com/streembit/edge/transport"
)

// Who wants a program asks the same two hubs as everybody else, which computes them from the program's tree; they tell it of the others who asked lately
// (docs/decisions/0042-who-has-a-program.md).
const (
	trackers    = 2
	moreHubs    = 2                // that are only sources, and not the same ones for everybody
	seekerLife  = 2 * time.Minute  // who has not asked again for so long is told to nobody
	maxTrees    = 256              // programs of which seekers are remembered …
	maxOfTree   = 2048             // … and seekers of each
	metLimit    = 10 * time.Second // for reaching one of those who want it too
	metOften    = time.Minute      // how long one that could not be reached is left alone
	meetAtOnce  = 4
	siteLabel   = "site="
	maxProgress = 16 // peers beside the hubs that one program is shared with
)

// seeker is a member that wants a program, or has it and is no hub.
type seeker struct {
	has  bool
	addr netip.Addr // from which it asked
	last time.Time
}

// seekers are those who asked this node lately.
type seekers struct {
	mu    sync.Mutex
	trees map[chunks.Hash]map[edge.ID]seeker
}

// note remembers the asker if it wants that, and returns whom it should speak with: those of its site or address first, then those that have all of it.
func (s *seekers) note(f *fleet.Fleet, tree chunks.Hash, who edge.ID, as seeker, told bool) []edge.ID {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.trees[tree]
	maps.DeleteFunc(all, func(id edge.ID, o seeker) bool { return now.Sub(o.last) > seekerLife || !f.IsMember(id) })
	if told && (len(all) < maxOfTree || all[who] != seeker{}) {
		if all == nil {
			s.makeRoom(now)
			all = map[edge.ID]seeker{}
			s.trees[tree] = all
		}
		as.last = now
		all[who] = as
	}
	site := siteOf(f, who)
	rank := func(id edge.ID) int {
		switch o := all[id]; {
		case site != "" && site == siteOf(f, id), as.addr.IsValid() && as.addr == o.addr:
			return 0
		case o.has:
			return 1
		}
		return 2
	}
	ids := slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(id edge.ID) bool { return id == who })
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	slices.SortStableFunc(ids, func(a, b edge.ID) int { return cmp.Compare(rank(a), rank(b)) })
	return ids[:min(len(ids), maxSeekers)]
}

// makeRoom forgets the programs that nobody asks for any more, and one that is, if there are too many. The caller holds mu.
func (s *seekers) makeRoom(now time.Time) {
	for tree, all := range s.trees {
		maps.DeleteFunc(all, func(_ edge.ID, o seeker) bool { return now.Sub(o.last) > seekerLife })
		if len(all) == 0 || len(s.trees) >= maxTrees {
			delete(s.trees, tree)
		}
	}
}

// siteOf returns where a member stands, "" = not known.
func siteOf(f *fleet.Fleet, id edge.ID) string {
	g, _ := f.Member(id)
	for _, l := range g.Labels {
		if site, ok := strings.CutPrefix(l, siteLabel); ok && g.Site == "" {
			return site
		}
	}
	return g.Site
}

// addrOfMember returns the address from which a member speaks, the zero one if through a relay.
func (n *Node) addrOfMember(id edge.ID) netip.Addr {
	for _, c := range n.parts.host.Network().ConnsToPeer(peerID(id)) {
		if !relayed(c.RemoteMultiaddr()) {
			return addrOf(c)
		}
	}
	return netip.Addr{}
}

// ProgramPeers knows who may have one program. Safe for concurrent use.
type ProgramPeers struct {
	node *Node
	tree chunks.Hash

	mu     sync.Mutex
	others map[edge.ID]time.Time // of whom others told → when it may be tried again
}

// ProgramPeers begins to look for those who have a program.
func (n *Node) ProgramPeers(tree chunks.Hash) *ProgramPeers {
	return &ProgramPeers{node: n, tree: tree, others: map[edge.ID]time.Time{}}
}

// Find returns who can be asked now: hubs, and members that want it too and have been reached directly. It asks the trackers for them.
func (p *ProgramPeers) Find(ctx context.Context) []swarm.Peer {
	f := p.node.o.Fleet()
	hubs := p.hubs(f)
	p.heard(p.node.wanted.note(f, p.tree, p.node.self, seeker{}, false)) // who asked here
	for i, id := range hubs {
		if i >= trackers && !p.node.connected(id) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, metLimit)
		_, err := p.node.askHolding(limited, id, programRequest{Op: opProgram, Tree: p.tree, Wants: true}, p.heard)
		cancel()
		if err != nil && ctx.Err() == nil {
			p.node.log.Debug("a hub does not say who wants a program", "hub", id, "err", err)
		}
	}
	var peers []swarm.Peer
	self := f.Is(p.node.self, fleet.Hub) && p.node.o.Store != nil
	for _, id := range hubs {
		peers = append(peers, p.peer(id, self || p.node.near(f, id)))
	}
	for _, id := range p.met(ctx, f) {
		if !f.Is(id, fleet.Hub) {
			peers = append(peers, p.peer(id, !self && p.node.near(f, id)))
		}
	}
	return peers
}

func (p *ProgramPeers) peer(id edge.ID, near bool) swarm.Peer {
	return swarm.Peer{ID: id, Near: near, Source: programSource{p.node, id, p.heard}}
}

// hubs returns those to ask, the trackers first. A hub that mirrors speaks with all others, which are its neighbours whatever their site: what comes from none of them
// comes from an operator's laptop. A metered member keeps to the hub that it speaks with.
func (p *ProgramPeers) hubs(f *fleet.Fleet) []edge.ID {
	var all []edge.ID
	for _, h := range f.Hubs() {
		if h.Member != p.node.self {
			all = append(all, h.Member)
		}
	}
	if p.node.o.Store != nil {
		return transport.Place(journal.Hash(p.tree), all)
	}
	if p.node.o.Metered {
		slices.SortStableFunc(all, func(a, b edge.ID) int { return cmp.Compare(yes(!p.node.connected(a)), yes(!p.node.connected(b))) })
		return all[:min(len(all), 1)]
	}
	placed := transport.Place(journal.Hash(p.tree), all)
	out := slices.Clone(placed[:min(len(placed), trackers)])
	own := transport.Place(journal.Hash(sha256.Sum256(slices.Concat(p.tree[:], p.node.self[:]))), all)
	for _, id := range own {
		if len(out) < trackers+moreHubs && !slices.Contains(out, id) || siteOf(f, id) != "" && siteOf(f, id) == siteOf(f, p.node.self) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// heard notes of whom somebody told.
func (p *ProgramPeers) heard(others []edge.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range others {
		if _, known := p.others[id]; !known && len(p.others) < 4*maxSeekers {
			p.others[id] = time.Time{}
		}
	}
}

// met connects to those of whom others told and returns who is there.
func (p *ProgramPeers) met(ctx context.Context, f *fleet.Fleet) (there []edge.ID) {
	p.mu.Lock()
	var due []edge.ID
	for id, again := range p.others {
		if id != p.node.self && f.IsMember(id) && time.Now().After(again) {
			due = append(due, id)
		}
	}
	p.mu.Unlock()
	slices.SortFunc(due, func(a, b edge.ID) int { // who is here already, then neighbours
		return cmp.Or(cmp.Compare(yes(!p.node.connected(a)), yes(!p.node.connected(b))), cmp.Compare(yes(!p.node.sameSite(f, a)), yes(!p.node.sameSite(f, b))), a.Compare(b))
	})
	var mu sync.Mutex
	var dials sync.WaitGroup
	places := make(chan struct{}, meetAtOnce)
	for _, id := range due[:min(len(due), maxProgress)] {
		dials.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			limited, cancel := context.WithTimeout(ctx, metLimit)
			defer cancel()
			if !p.node.reachDirectly(limited, id) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.others[id] = time.Now().Add(metOften)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			there = append(there, id)
		})
	}
	dials.Wait()
	return there
}

func (n *Node) sameSite(f *fleet.Fleet, id edge.ID) bool {
	site := siteOf(f, n.self)
	return site != "" && site == siteOf(f, id)
}

// reachDirectly connects to a member, but not through a hub's relay: what the hub would hand on it can give itself.
func (n *Node) reachDirectly(ctx context.Context, id edge.ID) bool {
	if n.connected(id) && n.addrOfMember(id).IsValid() {
		return true
	}
	if n.o.Metered && !n.sameSite(n.o.Fleet(), id) {
		return false
	}
	r, err := n.Reach(ctx, id)
	return err == nil && r.Direct
}

// near reports whether bytes from a member cost nothing: both are known to stand on one site, or its address is on one of this machine's networks.
func (n *Node) near(f *fleet.Fleet, id edge.ID) bool {
	own, other := siteOf(f, n.self), siteOf(f, id)
	if own != "" && other != "" {
		return own == other
	}
	for _, c := range n.parts.host.Network().ConnsToPeer(peerID(id)) {
		if !relayed(c.RemoteMultiaddr()) && onOwnNetwork(c.RemoteMultiaddr()) {
			return true
		}
	}
	return false
}

// onOwnNetwork reports whether an address is on a network of this machine.
func onOwnNetwork(a ma.Multiaddr) bool {
	ip, err := manet.ToIP(a)
	if err != nil {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.Contains(ip)
	})
}

// OfferProgram tells a hub that this node has all of a program, and returns how much of it the hub has by now. As often as the hub is to know it.
func (n *Node) OfferProgram(ctx context.Context, hub edge.ID, tree chunks.Hash) (chunks.Bitmap, error) {
	h, err := n.askHolding(ctx, hub, programRequest{Op: opProgram, Tree: tree, Has: true}, func([]edge.ID) {})
	return h.Have, err
}
