// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Spot is a point of the space in which distances are measured: a SHA-256 as four big-endian words.
type Spot [sha256.Size / 8]uint64

// SpotOf returns where the hubs of a bucket are looked for.
func SpotOf(key journal.Hash) Spot { return spotOf([]byte(key.DHTName())) }

func spotOfHub(id edge.ID) Spot { return spotOf(id.Bytes()) }

func spotOf(data []byte) (s Spot) {
	sum := sha256.Sum256(data)
	for i := range s {
		s[i] = binary.BigEndian.Uint64(sum[8*i:])
	}
	return s
}

// compare tells which of two points is closer to s: -1 if a is. The distance is kad-dht's, XOR as a number.
func (s Spot) compare(a, b Spot) int {
	for i := range s {
		if c := cmp.Compare(s[i]^a[i], s[i]^b[i]); c != 0 {
			return c
		}
	}
	return 0
}

// Placing answers of many buckets and one list of hubs whether a hub is in Place. Safe for concurrent use.
type Placing struct {
	spots map[edge.ID]Spot
	list  []Spot
}

// NewPlacing prepares a list of hubs.
func NewPlacing(hubs []edge.ID) *Placing {
	p := &Placing{spots: make(map[edge.ID]Spot, len(hubs))}
	for _, id := range hubs {
		p.spots[id] = spotOfHub(id)
		p.list = append(p.list, p.spots[id])
	}
	return p
}

// Holds reports whether Place would name hub for the bucket of this spot: no sorting, one comparison for each hub.
func (p *Placing) Holds(bucket Spot, hub edge.ID) bool {
	at, ok := p.spots[hub]
	if !ok || len(p.list) <= MaxCopies {
		return ok
	}
	closer := 0
	for _, o := range p.list {
		if bucket.compare(o, at) < 0 {
			if closer++; closer == MaxCopies {
				return false
			}
		}
	}
	return true
}

// Everyone reports whether each hub holds each bucket.
func (p *Placing) Everyone() bool { return len(p.list) <= MaxCopies }
