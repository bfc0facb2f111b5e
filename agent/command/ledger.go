// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// Bounds of what a ledger remembers. Whoever repeats a request after so many others have it done again.
const (
	maxKnown   = 4096      // requests
	maxBytes   = 4 << 20   // on disk
	ledgerFile = 256 << 10 // bytes of one file of the log
	maxKept    = 4 << 10   // bytes of a result; a larger one is told once and not again
)

// Ledger is direct.Ledger on disk: an append-only log of what was begun and what came of it. Safe for concurrent use. Close it.
type Ledger struct {
	log    *wal.Log
	logger *slog.Logger

	mu    sync.Mutex
	known map[direct.RequestID]*noted
	order []direct.RequestID // by age
}

// noted is what is known of a request, and where the log begins to speak of it.
type noted struct {
	digest [32]byte
	ended  *direct.Outcome
	at     wal.Pos
}

// line is one frame of the log: an intent, or what came of it.
type line struct {
	_      struct{} `cbor:",toarray"`
	ID     direct.RequestID
	Ended  bool
	Digest [32]byte // of an intent
	Peer   [32]byte // of an intent, for whoever reads the file
	Name   string   // of an intent, likewise
	Reason direct.Reason
	Detail string
	Value  []byte
}

// OpenLedger opens the log in a folder, made if need be. An intent without an end is one that a crash or a power cut left.
func OpenLedger(dir string, logger *slog.Logger) (*Ledger, error) {
	l := &Ledger{logger: logger, known: map[direct.RequestID]*noted{}}
	log, rec, err := wal.Open(dir, wal.Options{FileSize: ledgerFile, MaxFrame: 64 << 10, Quota: 4 * maxBytes, Logger: logger}, l.load)
	if err != nil {
		return nil, fmt.Errorf("command: opening ledger: %w", err)
	}
	l.log = log
	if rec.Reason != "" {
		logger.Warn("part of the ledger of commands cannot be read", "bytes", rec.Dropped, "reason", rec.Reason)
	}
	return l, nil
}

func (l *Ledger) load(at wal.Pos, frame []byte) error {
	var e line
	if err := journal.Decode(frame, &e); err != nil {
		return fmt.Errorf("command: ledger at %s: %w", at, err)
	}
	if !e.Ended {
		l.add(e.ID, &noted{digest: e.Digest, at: at})
	} else if n := l.known[e.ID]; n != nil { // else its intent was forgotten
		n.ended = &direct.Outcome{Reason: e.Reason, Detail: e.Detail, Value: e.Value}
	}
	return nil
}

func (l *Ledger) add(id direct.RequestID, n *noted) {
	if l.known[id] == nil {
		l.order = append(l.order, id)
	}
	l.known[id] = n
}

// Begin implements direct.Ledger.
func (l *Ledger) Begin(i direct.Intent) (direct.Past, error) {
	l.mu.Lock()
	n := l.known[i.ID]
	l.mu.Unlock()
	if n != nil {
		return direct.Past{Known: true, Digest: n.digest, Ended: n.ended}, nil
	}
	at, err := l.append(line{ID: i.ID, Digest: i.Digest, Peer: i.Peer, Name: i.Name})
	if err != nil {
		return direct.Past{}, err
	}
	l.mu.Lock()
	l.add(i.ID, &noted{digest: i.Digest, at: at})
	l.mu.Unlock()
	return direct.Past{}, l.forget()
}

// End implements direct.Ledger.
func (l *Ledger) End(id direct.RequestID, o direct.Outcome) error {
	if len(o.Value) > maxKept {
		o.Value = nil
	}
	_, err := l.append(line{ID: id, Ended: true, Reason: o.Reason, Detail: o.Detail, Value: o.Value})
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.known[id]; n != nil {
		l.known[id] = &noted{digest: n.digest, at: n.at, ended: &o}
	}
	return err
}

// append writes one line durably. It waits for the disk whatever becomes of the caller: what is half written must not be done.
func (l *Ledger) append(e line) (wal.Pos, error) {
	raw, err := journal.Encode(e)
	if err != nil {
		return wal.Pos{}, err
	}
	at, err := l.log.Append(context.Background(), raw)
	if err != nil {
		return wal.Pos{}, fmt.Errorf("command: noting request: %w", err)
	}
	return at[0], nil
}

// forget drops the oldest requests when there are too many. One that is under way stays as long as those after it do.
func (l *Ledger) forget() error {
	l.mu.Lock()
	drop := max(0, len(l.order)-maxKnown)
	if l.log.Size() > maxBytes {
		drop = max(drop, len(l.order)/2)
	}
	for _, id := range l.order[:drop] {
		delete(l.known, id)
	}
	l.order = l.order[drop:]
	var before wal.Pos
	if drop > 0 && len(l.order) > 0 {
		before = l.known[l.order[0]].at
	}
	l.mu.Unlock()
	if before == (wal.Pos{}) {
		return nil
	}
	if _, err := l.log.Drop(before); err != nil && !errors.Is(err, wal.ErrGone) {
		l.logger.Warn("old commands are not dropped from the ledger", "err", err)
	}
	return nil
}

// Close ends the log in order.
func (l *Ledger) Close() error { return l.log.Close() }
