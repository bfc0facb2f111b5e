// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// ReceiptNote is one line of a receipts file: a segment that a majority of its hubs has fsynced.
type ReceiptNote struct {
	Chain    string       `json:"chain"` // DEVICE/STREAM/INCARNATION
	Seq      uint64       `json:"seq"`
	Kind     journal.Kind `json:"kind"`
	Readings uint32       `json:"readings"`
	Hash     string       `json:"hash"` // of the signed header, hexadecimal
	Copies   int          `json:"copies"`
	Time     int64        `json:"time"` // ms since 1970, by the system clock, right or not
}

// Receipts notes every published segment in a file of its own, durably and one JSON line each: for audits, and for
// whoever wants to hold the device's word against what a server received. After a crash the last line may be torn, and
// a segment may be noted twice. Safe for concurrent use.
type Receipts struct {
	mu   sync.Mutex
	file *os.File
}

// OpenReceipts appends to path, which should lie outside the device's state folder.
func OpenReceipts(path string) (*Receipts, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("agent: opening receipts: %w", err)
	}
	if err := endLine(f); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: opening receipts: %w", err), f.Close())
	}
	return &Receipts{file: f}, nil
}

// endLine ends a last line that a power cut or a full disk tore, so that the next one stands alone.
func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.WriteString("\n")
	return err
}

// Note writes one line and waits until it is on the disk.
func (r *Receipts) Note(seg *journal.Segment, receipt transport.Receipt) error {
	line, err := json.Marshal(ReceiptNote{Chain: seg.Chain.String(), Seq: seg.Seq, Kind: seg.Kind, Readings: seg.Count,
		Hash: seg.Hash.String(), Copies: len(receipt.Acked), Time: time.Now().UnixMilli()})
	if err != nil {
		return fmt.Errorf("agent: noting receipt: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("agent: noting receipt: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("agent: noting receipt: %w", err)
	}
	return nil
}

// Close closes the file.
func (r *Receipts) Close() error { return r.file.Close() }
