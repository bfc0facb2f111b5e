// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// someHubs returns n identities that are the same in every run.
func someHubs(n int) []edge.ID {
	ids := make([]edge.ID, 0, n)
	for i := range n {
		ids = append(ids, sha256.Sum256(fmt.Appendf(nil, "hub %d", i)))
	}
	return ids
}

// distance is Kademlia's, from its definition: the XOR of two SHA-256, read as a number.
func distance(key journal.Hash, hub edge.ID) *big.Int {
	name := strings.TrimRight(strings.ToLower(base32.StdEncoding.EncodeToString(key[:])), "=")
	a, b := sha256.Sum256([]byte(name)), sha256.Sum256(append([]byte{0, 36, 8, 1, 18, 32}, hub[:]...))
	return new(big.Int).Xor(new(big.Int).SetBytes(a[:]), new(big.Int).SetBytes(b[:]))
}

// oracle takes the closest hub away, again and again.
func oracle(key journal.Hash, hubs []edge.ID) (out []edge.ID) {
	left := slices.Clone(hubs)
	for len(left) > 0 && len(out) < 20 {
		best := 0
		for i := range left {
			if distance(key, left[i]).Cmp(distance(key, left[best])) < 0 {
				best = i
			}
		}
		out = append(out, left[best])
		left = slices.Delete(left, best, best+1)
	}
	return out
}

func TestPlaceAgainstOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 19, 20, 21, 25, 60} {
		hubs := someHubs(n)
		for range 20 {
			var key journal.Hash
			for i := range key {
				key[i] = byte(rng.Uint32())
			}
			want := oracle(key, hubs)
			rng.Shuffle(n, func(i, j int) { hubs[i], hubs[j] = hubs[j], hubs[i] })
			given := slices.Clone(hubs)
			got := transport.Place(key, hubs)
			if !slices.Equal(got, want) {
				t.Fatalf("%d hubs, key %s:\ngot  %v\nwant %v", n, key, got, want)
			}
			if !slices.Equal(given, hubs) {
				t.Fatal("Place changed what it was given")
			}
			placing, bucket := transport.NewPlacing(hubs), transport.SpotOf(key)
			for _, id := range append(hubs, edge.ID{1}) {
				if placing.Holds(bucket, id) != slices.Contains(want, id) {
					t.Fatalf("%d hubs, key %s: Placing says otherwise of %s", n, key, id)
				}
			}
		}
	}
}

// TestPlaceVectors: the order was computed by another program in another language. If it changes, members of different
// versions look for copies in different places.
func TestPlaceVectors(t *testing.T) {
	for key, want := range map[string][]int{
		"first bucket":  {11, 6, 17, 14, 24, 2, 8, 7, 16, 20, 21, 12, 4, 10, 1, 19, 3, 18, 0, 23},
		"second bucket": {7, 16, 21, 20, 12, 4, 10, 1, 19, 3, 18, 0, 23, 15, 22, 9, 13, 5, 11, 6},
	} {
		hubs := someHubs(25)
		var got []int
		for _, id := range transport.Place(sha256.Sum256([]byte(key)), hubs) {
			got = append(got, slices.Index(hubs, id))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
}

// A hub that comes or goes moves only the copies that it takes or leaves: the order of the others stays.
func TestPlaceMovesLittle(t *testing.T) {
	hubs := someHubs(21)
	key := journal.Hash(sha256.Sum256([]byte("bucket")))
	before := transport.Place(key, hubs)
	gone := before[7]
	after := transport.Place(key, slices.DeleteFunc(slices.Clone(hubs), func(id edge.ID) bool { return id == gone }))
	if len(after) != transport.MaxCopies || !slices.Equal(after[:19], slices.Delete(slices.Clone(before), 7, 8)) {
		t.Errorf("without the hub at 7:\n%v\nbefore\n%v", after, before)
	}
}
