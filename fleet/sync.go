// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/sha256"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Digest says what a member knows of a fleet, small enough for every handshake of a fleet with few operators.
type Digest struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	State   journal.Hash // of the newest signed state
	Logs    []LogDigest
}

// LogDigest says how much of one log is known.
type LogDigest struct {
	_           struct{} `cbor:",toarray"`
	Writer      edge.ID
	Incarnation journal.Incarnation
	Length      uint64       // segments
	Tip         journal.Hash // of the last one
}

type logKey struct {
	writer edge.ID
	life   journal.Incarnation
}

// Digest returns what f knows.
func (f *Fleet) Digest() Digest {
	d := Digest{Version: f.state.Version, State: sha256.Sum256(f.states[len(f.states)-1]), Logs: make([]LogDigest, len(f.logs))}
	for i, l := range f.logs {
		d.Logs[i] = LogDigest{Writer: l.chain.Device, Incarnation: l.chain.Incarnation, Length: uint64(len(l.raw)), Tip: l.tip().Hash}
	}
	return d
}

// Hash is the digest in 32 bytes: two members with one hash know the same.
func (d Digest) Hash() journal.Hash {
	enc, err := journal.Encode(d)
	if err != nil { // fixed types encode
		return journal.Hash{}
	}
	return sha256.Sum256(enc)
}

// Delta returns what f knows and a member with the digest does not, for its Merge. Of a log in which the two differ it returns all, so that the
// other one sees the fork. An empty bundle means that f has nothing for it.
func (f *Fleet) Delta(d Digest) Bundle {
	var b Bundle
	if d.Version < uint64(len(f.states)) {
		b.States = f.states[d.Version:]
	} else if d.Version == uint64(len(f.states)) && d.State != sha256.Sum256(f.states[len(f.states)-1]) {
		b.States = f.states[len(f.states)-1:]
	}
	known := make(map[logKey]LogDigest, len(d.Logs))
	for _, l := range d.Logs {
		known[logKey{l.Writer, l.Incarnation}] = l
	}
	for _, l := range f.logs {
		k := known[logKey{l.chain.Device, l.chain.Incarnation}]
		switch {
		case k.Length == 0 || k.Length <= uint64(len(l.raw)) && l.links[k.Length-1].Hash != k.Tip:
			b.Logs = append(b.Logs, l.raw)
		case k.Length < uint64(len(l.raw)):
			b.Logs = append(b.Logs, l.raw[k.Length:])
		}
	}
	return b
}

// Empty reports whether a bundle holds nothing.
func (b Bundle) Empty() bool { return len(b.States) == 0 && len(b.Logs) == 0 }
