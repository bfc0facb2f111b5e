// SPDX-License-Identifier: Apache-2.0

// Package transport moves segments between members: where a bucket's copies live (Place), when a segment counts as
// published (Publisher), and the words that all transports share. transport/p2p is the real one and the only folder
// that imports libp2p; transport/mem is for tests; transport/store is what a hub keeps on its disk.
package transport

import (
	"errors"
	"fmt"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// MaxCopies is r of design §4.4: a bucket lives on the MaxCopies closest enrolled hubs, or on all if there are fewer.
const MaxCopies = 20

// Errors of the package; test with errors.Is.
var (
	ErrUnreachable = errors.New("hub cannot be reached")
	ErrNotQuorum   = errors.New("not durable on a majority of its hubs yet")
	ErrNoHubs      = errors.New("the fleet has no enrolled hub: add one with streembit fleet add --role hub")
	ErrClosed      = errors.New("publisher is closed")
	ErrNoHead      = errors.New("no head is known")
)

// Reason is why a hub refused a segment or a question; it travels on the wire.
type Reason uint8

// The reasons.
const (
	RefusedInvalid    Reason = 1  // not a proven segment of this fleet (Detail names the journal error)
	RefusedNotAllowed Reason = 2  // its device may not publish
	RefusedFork       Reason = 3  // another segment stands in its place already
	RefusedFull       Reason = 4  // quota or disk; nothing acknowledged is ever evicted for it
	RefusedFailed     Reason = 5  // the hub's disk failed
	RefusedBusy       Reason = 6  // queue full, try again later
	RefusedNoRight    Reason = 7  // the asker has no right to what it asks for
	RefusedRevoked    Reason = 8  // its device was revoked, and the segment is beyond what stays valid
	RefusedPast       Reason = 9  // the chain's part that it belongs to was let go: too old, or every required collector has it
	RefusedRate       Reason = 10 // its device writes more than its share: try again later
)

func (r Reason) String() string {
	names := []string{"", "invalid segment", "device may not publish", "fork", "hub is full", "hub's disk failed", "hub is busy", "no right to it", "device was revoked",
		"no longer held", "device writes too fast"}
	if int(r) >= len(names) {
		return fmt.Sprintf("reason %d", r)
	}
	return names[r]
}

// Refusal is a hub's answer that it will not keep a segment, or not answer a question.
type Refusal struct {
	Hub    edge.ID
	Reason Reason
	Detail string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("transport: hub %s refused: %s: %s", r.Hub.Short(), r.Reason, r.Detail)
}

// Span is a run of seqs, both ends included.
type Span struct {
	_           struct{} `cbor:",toarray"`
	First, Last uint64
}

// Held is what one hub holds of one chain: sorted runs that do not touch. What is below Floor it held once and let go, for the reason in Past; a
// chain that was let go wholly has a Floor and no Spans.
type Held struct {
	_     struct{} `cbor:",toarray"`
	Chain journal.Chain
	Spans []Span
	Floor uint64
	Past  Past
}

// Last returns the highest seq held; ok is false when there is none.
func (h Held) Last() (seq uint64, ok bool) {
	if len(h.Spans) == 0 {
		return 0, false
	}
	return h.Spans[len(h.Spans)-1].Last, true
}

// Place returns the hubs that a bucket's copies live on, closest first: XOR distance between SHA-256(key) and
// SHA-256(peer id), which is kad-dht's metric, so a DHT look-up for the key walks towards the same hubs.
func Place(key journal.Hash, hubs []edge.ID) []edge.ID {
	type placed struct {
		id edge.ID
		at Spot
	}
	all, bucket := make([]placed, 0, len(hubs)), SpotOf(key)
	for _, id := range hubs {
		all = append(all, placed{id: id, at: spotOfHub(id)})
	}
	slices.SortFunc(all, func(a, b placed) int { return bucket.compare(a.at, b.at) })
	out := make([]edge.ID, 0, min(len(all), MaxCopies))
	for _, p := range all[:min(len(all), MaxCopies)] {
		out = append(out, p.id)
	}
	return out
}
