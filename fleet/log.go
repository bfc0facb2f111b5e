// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// logStream is the stream name of fleet logs; devices cannot publish under it.
const logStream = "fleet"

// chainLog is one proven chain of the fleet log. It is replaced, never changed.
type chainLog struct {
	chain journal.Chain
	raw   [][]byte // segments from seq 0
	said  []said   // what they say, in order
	links []journal.Link
}

// said is the content of one segment and when its signer says it was made.
type said struct {
	wall    int64
	entries []Entry
}

func (l *chainLog) each(f func(wall int64, e Entry)) {
	for _, s := range l.said {
		for _, e := range s.entries {
			f(s.wall, e)
		}
	}
}

func (l *chainLog) tip() *journal.Link {
	if len(l.links) == 0 {
		return nil
	}
	return &l.links[len(l.links)-1]
}

// cut returns the log up to n segments.
func (l *chainLog) cut(n int) *chainLog {
	return &chainLog{chain: l.chain, raw: l.raw[:n:n], said: l.said[:n:n], links: l.links[:n:n]}
}

func (f *Fleet) ownerChain() journal.Chain {
	return journal.Chain{Fleet: f.id, Device: f.state.LogWriter, Stream: logStream, Incarnation: f.state.LogLife}
}

// fork is a segment that contradicts a known one.
type fork struct {
	chain journal.Chain
	seq   uint64
}

// addLog proves the segments of one chain that are new, up to a fork if there is one.
func (f *Fleet) addLog(segments [][]byte) (forked *fork, err error) {
	var log *chainLog
	at, known := -1, 0 // known: how many from the second on are there already
	for i, raw := range segments {
		if i > 0 && i <= known {
			continue
		}
		seg, err := journal.Open(raw, f.id)
		if err != nil {
			return nil, fmt.Errorf("fleet: opening log entry %d: %w", i, err)
		}
		if seg.Chain.Stream != logStream || seg.Kind != journal.KindFleet {
			return nil, fmt.Errorf("fleet: opening log entry %d: stream %q is no fleet log: %w", i, seg.Chain.Stream, ErrBadGrant)
		}
		if log == nil {
			at = slices.IndexFunc(f.logs, func(l *chainLog) bool { return l.chain == seg.Chain })
			log = &chainLog{chain: seg.Chain}
			if at >= 0 {
				log = f.logs[at].cut(len(f.logs[at].raw))
				known = log.follows(segments)
			}
		}
		switch {
		case seg.Chain != log.chain:
			return nil, fmt.Errorf("fleet: opening log entry %d: of another chain than the one before: %w", i, ErrBadGrant)
		case seg.Seq < uint64(len(log.raw)):
			if !bytes.Equal(log.raw[seg.Seq], raw) {
				f.put(at, log)
				return &fork{log.chain, seg.Seq}, nil
			}
			continue
		}
		if err := log.add(raw, seg); err != nil {
			return nil, err
		}
	}
	f.put(at, log)
	return nil, nil
}

// follows spares the proof of segments whose bytes are there already: it counts those that follow a known first one in order.
func (l *chainLog) follows(segments [][]byte) (n int) {
	start := slices.IndexFunc(l.raw, func(k []byte) bool { return bytes.Equal(k, segments[0]) })
	for start >= 0 && n+1 < len(segments) && start+n+1 < len(l.raw) && bytes.Equal(l.raw[start+n+1], segments[n+1]) {
		n++
	}
	return n
}

func (l *chainLog) add(raw []byte, seg *journal.Segment) error {
	if err := l.tip().Check(&seg.Header); err != nil {
		return fmt.Errorf("fleet: opening log entry %d of %s: %w", seg.Seq, seg.Chain.Device, err)
	}
	var entries []Entry
	if err := journal.Decode(seg.Plain(), &entries); err != nil {
		return fmt.Errorf("fleet: opening log entry %d: %w", seg.Seq, err)
	}
	if len(entries) != int(seg.Count) {
		return fmt.Errorf("fleet: opening log entry %d: it counts %d and holds %d: %w", seg.Seq, seg.Count, len(entries), ErrBadGrant)
	}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("fleet: opening log entry %d: %w", seg.Seq, err)
		}
	}
	l.raw = append(l.raw, raw)
	l.said = append(l.said, said{wall: seg.Wall, entries: entries})
	l.links = append(l.links, seg.Link())
	return nil
}

func (f *Fleet) put(at int, log *chainLog) {
	switch {
	case log == nil || len(log.raw) == 0:
	case at >= 0:
		f.logs[at] = log
	default:
		f.logs = append(f.logs, log)
	}
}

// settleForks makes the error about the forks of logs that count. What a stranger or a revoked member says against itself is no alarm.
func (f *Fleet) settleForks(forks []fork) (err error) {
	for _, k := range forks {
		if slices.ContainsFunc(f.logs, func(l *chainLog) bool { return l.chain == k.chain && k.seq < uint64(len(l.raw)) }) {
			err = errors.Join(err, fmt.Errorf("fleet: log of %s: a second entry %d, the first stays: its key is used by two: %w", k.chain.Device, k.seq, ErrFork))
		}
	}
	return err
}

// settle drops the logs, and the ends of logs, that do not count, brings them into their one order and makes the view.
func (f *Fleet) settle() {
	owner := f.ownerChain()
	slices.SortFunc(f.logs, func(a, b *chainLog) int { return compareChains(owner, a.chain, b.chain) })
	for {
		f.view = makeView(f.state.Owners, owner, f.logs)
		kept := bound(owner, f.prune(owner))
		if len(kept) == len(f.logs) && slices.Equal(kept, f.logs) {
			break
		}
		f.logs = kept
	}
	f.now = f.state.Time
}

func (f *Fleet) prune(owner journal.Chain) []*chainLog {
	var kept []*chainLog
	for _, l := range f.logs {
		if l.chain == owner {
			kept = append(kept, l)
			continue
		}
		cut, ok := f.view.limit(l.chain)
		switch {
		case !ok || f.isOwner(l.chain.Device): // nobody's log, or one that a state replaced
		case cut == nil:
			kept = append(kept, l)
		case cut.Seq < uint64(len(l.links)) && l.links[cut.Seq].Hash != cut.Hash: // the other branch of a fork
		case cut.Seq+1 < uint64(len(l.links)):
			kept = append(kept, l.cut(int(cut.Seq)+1))
		default:
			kept = append(kept, l)
		}
	}
	return kept
}

// What one signer other than the owner may put on everybody's disk.
const (
	maxLives  = 64      // chains
	maxSigner = 8 << 20 // bytes of them all: some 30 000 grants of devices
)

// bound drops what is beyond a signer's share: of its chains in their order the first, so that all members keep the same.
func bound(owner journal.Chain, logs []*chainLog) []*chainLog {
	var kept []*chainLog
	var signer edge.ID
	lives, size := 0, 0
	for _, l := range logs {
		if l.chain == owner {
			kept = append(kept, l)
			continue
		}
		if l.chain.Device != signer {
			signer, lives, size = l.chain.Device, 0, 0
		}
		n := 0
		for lives < maxLives && n < len(l.raw) && size+len(l.raw[n]) <= maxSigner {
			size += len(l.raw[n])
			n++
		}
		switch lives++; {
		case n == len(l.raw):
			kept = append(kept, l)
		case n > 0:
			kept, size = append(kept, l.cut(n)), maxSigner
		default:
			size = maxSigner
		}
	}
	return kept
}

// compareChains is the one order of logs: the owner's first, then by signer and life.
func compareChains(owner, a, b journal.Chain) int {
	switch {
	case a == b:
		return 0
	case a == owner:
		return -1
	case b == owner:
		return 1
	}
	if c := a.Device.Compare(b.Device); c != 0 {
		return c
	}
	return bytes.Compare(a.Incarnation[:], b.Incarnation[:])
}
