// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"

	"github.com/streembit/edge"
)

// TypeWatermarks is the content type of a signed Watermarks.
const TypeWatermarks = "application/vnd.streembit.watermarks+cbor"

// Bounds of a Watermarks.
const (
	MaxWatermarks      = 512      // chains in one record
	MaxWatermarkRecord = 96 << 10 // bytes of one signed record
)

// Watermarks is a collector's word, signed by it, that all up to these links is in its sink for good: hubs need not hold it for that collector any
// more. Each chain's mark stands for itself; of several the highest counts, so old records do no harm.
type Watermarks struct {
	_         struct{} `cbor:",toarray"`
	Fleet     FleetID
	Collector edge.ID
	Marks     []Watermark
}

// Watermark is how far one chain was taken.
type Watermark struct {
	_     struct{} `cbor:",toarray"`
	Chain Chain
	Link  Link // the last segment that was taken, all before it being taken, or given up and recorded as a gap
}

// SignWatermarks signs marks as the collector s.
func SignWatermarks(s Signer, fleet FleetID, marks []Watermark) ([]byte, error) {
	w := Watermarks{Fleet: fleet, Collector: s.ID(), Marks: marks}
	if err := w.check(fleet); err != nil {
		return nil, err
	}
	payload, err := Encode(w)
	if err != nil {
		return nil, err
	}
	return SignRecord(s, TypeWatermarks, payload)
}

// OpenWatermarks proves a signed record: size, form, signature by the collector that it names. Whether that collector counts is for the caller.
func OpenWatermarks(signed []byte, fleet FleetID) (Watermarks, error) {
	var w Watermarks
	if len(signed) > MaxWatermarkRecord {
		return w, fmt.Errorf("journal: watermarks of %d bytes: %w", len(signed), ErrOversize)
	}
	_, err := openRecord(TypeWatermarks, signed, func(payload []byte) (edge.ID, error) {
		if err := Decode(payload, &w); err != nil {
			return edge.ID{}, err
		}
		return w.Collector, w.check(fleet)
	})
	if err != nil {
		return Watermarks{}, err
	}
	return w, nil
}

func (w *Watermarks) check(fleet FleetID) error {
	if w.Fleet != fleet {
		return fmt.Errorf("journal: watermarks of fleet %s: %w", w.Fleet, ErrWrongFleet)
	}
	if len(w.Marks) == 0 || len(w.Marks) > MaxWatermarks {
		return fmt.Errorf("journal: %d watermarks: want 1 to %d: %w", len(w.Marks), MaxWatermarks, ErrMalformed)
	}
	for i := range w.Marks {
		m := &w.Marks[i]
		if m.Chain.Fleet != fleet || !ValidStream(m.Chain.Stream) || m.Link.Seq > MaxSeq {
			return fmt.Errorf("journal: watermark of %s at seq %d: %w", m.Chain, m.Link.Seq, ErrMalformed)
		}
	}
	return nil
}
