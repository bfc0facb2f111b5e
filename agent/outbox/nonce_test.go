// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"bytes"
	"crypto/hpke"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
)

// nonces finds two different plaintexts under one key and nonce, which is a seq. It unwraps the keys by itself.
type nonces struct {
	t      testing.TB
	key    hpke.PrivateKey
	epochs map[journal.Hash][]byte // by the hash of the epoch's first segment
	used   map[string]journal.Hash // key and seq to what was sealed
	reuses int
}

func newNonces(t testing.TB, k journal.ReaderKey) *nonces {
	t.Helper()
	raw, err := k.Bytes()
	check(t, err)
	key, err := hpke.MLKEM768X25519().NewPrivateKey(raw)
	check(t, err)
	return &nonces{t: t, key: key, epochs: map[journal.Hash][]byte{}, used: map[string]journal.Hash{}}
}

// note is one encryption.
func (n *nonces) note(key []byte, seq uint64, sealed journal.Hash) {
	use := fmt.Sprintf("%x %d", key, seq)
	if old, there := n.used[use]; there && old != sealed {
		n.reuses++
	}
	n.used[use] = sealed
}

// add takes all segments of one log.
func (n *nonces) add(segs []*journal.Segment) {
	n.t.Helper()
	keys := map[journal.Chain]map[uint64][]byte{}
	for _, s := range segs {
		if s.Kind == journal.KindEpoch {
			if keys[s.Chain] == nil {
				keys[s.Chain] = map[uint64][]byte{}
			}
			keys[s.Chain][s.Seq] = n.unwrap(s)
		}
	}
	for _, s := range segs {
		if s.Kind == journal.KindEpoch {
			continue
		}
		key := keys[s.Chain][s.Epoch]
		if key == nil {
			n.t.Fatalf("%s seq %d: its epoch is not in the log", s.Chain, s.Seq)
		}
		n.note(key, s.Seq, s.Payload)
	}
}

func (n *nonces) unwrap(s *journal.Segment) []byte {
	n.t.Helper()
	if key := n.epochs[s.Hash]; key != nil {
		return key
	}
	var epoch struct {
		_     struct{} `cbor:",toarray"`
		After any
		Wraps [][2][]byte
	}
	check(n.t, cbor.Unmarshal(s.Plain(), &epoch))
	info, err := journal.Encode([]any{"streembit/epoch/1", s.Chain, s.Epoch})
	check(n.t, err)
	key, err := hpke.Open(n.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, epoch.Wraps[0][1])
	check(n.t, err)
	for _, old := range n.epochs {
		if bytes.Equal(old, key) {
			n.t.Errorf("%s seq %d: the epoch's key was another one's before", s.Chain, s.Seq)
		}
	}
	n.epochs[s.Hash] = key
	return key
}

// logged returns all segments of a log in which nothing was acknowledged, without touching it.
func logged(t testing.TB, dir string) []*journal.Segment {
	t.Helper()
	to := t.TempDir()
	copyLog(t, dir, to, func(_ string, data []byte) []byte { return data })
	b, _, err := outbox.Open(ctx, options(to))
	check(t, err)
	segs := drain(t, b, receipt(3))
	check(t, b.Close())
	return segs
}

func (n *nonces) verdict(least int) {
	n.t.Helper()
	if n.reuses > 0 || len(n.used) < least {
		n.t.Errorf("%d nonces used twice among %d", n.reuses, len(n.used))
	}
	n.note([]byte("k"), 1, journal.Hash{1})
	n.note([]byte("k"), 1, journal.Hash{1})
	if before := n.reuses; before == 0 {
		if n.note([]byte("k"), 1, journal.Hash{2}); n.reuses != 1 {
			n.t.Error("the test cannot fail")
		}
	}
}

// A device is killed again and again, wherever it is, and goes on with what is on the disk.
func TestSeal_NonceNeverReusedAcrossCrash(t *testing.T) {
	k, _ := readerKey(t)
	n := newNonces(t, k)
	dir := t.TempDir()
	for round := range 12 {
		runChild(t, dir, hex.EncodeToString(k.Public()), 10_000*round, 3+rand.IntN(20))
		n.add(logged(t, dir))
	}
	n.verdict(30)
}

// The power goes in the middle of a write: what is on the disk ends anywhere. The device, with the same log, goes on from each such place.
func TestSeal_NonceNeverReusedWhereverTheLogWasCut(t *testing.T) {
	k, rs := readerKey(t)
	n := newNonces(t, k)
	dir := t.TempDir()
	n.add(small(t, dir, rs, false, false))
	const log = "0000000000000001.wal"
	data, err := os.ReadFile(filepath.Join(dir, "log", log))
	check(t, err)
	for cut := 0; cut < len(data); cut += 61 {
		to := t.TempDir()
		copyLog(t, dir, to, func(name string, data []byte) []byte { return data[:min(cut, len(data))] })
		b, _, err := outbox.Open(ctx, options(to))
		check(t, err)
		n.add([]*journal.Segment{start(t, b, "main", rs), seal(t, b, "main", 1000+cut, 2)})
		check(t, b.Close())
	}
	n.verdict(40)
}

// Clones of one card, by copying files and by copying blocks, go on at the same time.
func TestSeal_NonceNeverReusedByClones(t *testing.T) {
	k, rs := readerKey(t)
	n := newNonces(t, k)
	dir := t.TempDir()
	n.add(small(t, dir, rs, true, true))
	dirs := []string{dir, t.TempDir(), t.TempDir(), t.TempDir()}
	cloneCard(t, dir, dirs[1])
	cloneCard(t, dir, dirs[2])
	copyLog(t, dir, dirs[3], func(_ string, data []byte) []byte { return data })
	resumed := 0
	for i, d := range dirs {
		b, rec := open(t, options(d))
		if rec.Clean {
			resumed++
		}
		segs := []*journal.Segment{start(t, b, "main", rs)}
		for j := range 5 {
			segs = append(segs, seal(t, b, "main", 1000*i+10*j, 3))
		}
		n.add(segs)
	}
	if resumed != 3 {
		t.Errorf("%d of the 3 that have the blocks go on in the old chain: the test shows less than it says", resumed)
	}
	n.verdict(20)
}

// Older copies of the folder are put back, by files and by blocks, again and again, with work and crashes between.
func TestSeal_NonceNeverReusedAfterBackupRestore(t *testing.T) {
	k, rs := readerKey(t)
	n := newNonces(t, k)
	dir := t.TempDir()
	small(t, dir, rs, true, false)
	backups := []string{}
	first := 1000
	for round := range 24 {
		b, _ := open(t, options(dir))
		segs := []*journal.Segment{start(t, b, "main", rs)}
		for range 1 + rand.IntN(4) {
			segs = append(segs, seal(t, b, "main", first, 2))
			first += 2
		}
		if rand.IntN(3) == 0 {
			segs = append(segs, start(t, b, "main", rs), seal(t, b, "main", first, 2))
			first += 2
		}
		n.add(segs)
		check(t, b.Close())
		if rand.IntN(2) == 0 {
			backup := t.TempDir()
			cloneCard(t, dir, backup)
			backups = append(backups, backup)
		}
		if len(backups) == 0 || round%2 == 0 {
			continue
		}
		from := backups[rand.IntN(len(backups))]
		dir = t.TempDir()
		if rand.IntN(2) == 0 {
			cloneCard(t, from, dir)
		} else {
			copyLog(t, from, dir, func(_ string, data []byte) []byte { return data })
		}
	}
	n.verdict(30)
}

// A clone that is refused seals its readings again: under another key.
func TestSeal_NonceNeverReusedByRenewal(t *testing.T) {
	k, rs := readerKey(t)
	n := newNonces(t, k)
	dir, copied := t.TempDir(), t.TempDir()
	hub := newPlace(t)
	b, _ := open(t, options(dir))
	start(t, b, "main", rs)
	hub.publish(b)
	check(t, b.Close())
	cloneCard(t, dir, copied)
	one, _ := open(t, options(dir))
	two, _ := open(t, options(copied))
	n.add([]*journal.Segment{start(t, one, "main", rs), seal(t, one, "main", 0, 3)})
	n.add([]*journal.Segment{start(t, two, "main", rs), seal(t, two, "main", 0, 3), seal(t, two, "main", 3, 3)})
	hub.publish(one)
	hub.publish(two)
	if two.Status().Resealed != 2 {
		t.Errorf("%+v", two.Status())
	}
	n.add(hub.took)
	n.verdict(5)
}
