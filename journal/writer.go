// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/streembit/edge"
)

// Stamp is when and in which boot a segment is made.
type Stamp struct {
	Boot BootID
	At   edge.Instant
}

// Writer makes the segments of one chain, one at a time: make one, put it on disk, Commit it, make the next. A seq
// belongs to a segment only once it is committed, and nothing may leave the device before that. After a failed or
// doubtful write the caller must call Abandon and begin a new incarnation: sealing other content under a seq that may
// be on the disk would use a nonce twice. Not safe for concurrent use.
type Writer struct {
	chain   Chain
	signer  Signer
	packer  packer
	tip     *Link
	epoch   uint64
	key     *epochKey
	pending *Segment
	newKey  *epochKey
	own     map[uint64]epochKey // of the epochs that it began
	spent   bool
}

// NewWriter begins a new incarnation of a stream.
func NewWriter(fleet FleetID, stream string, s Signer) (*Writer, error) {
	if !ValidStream(stream) {
		return nil, fmt.Errorf("journal: stream %q: want 1 to 32 of a-z 0-9 . _ -, the first a letter or digit", stream)
	}
	c := Chain{Fleet: fleet, Device: s.ID(), Stream: stream}
	rand.Read(c.Incarnation[:])
	return &Writer{chain: c, signer: s}, nil
}

// ResumeWriter goes on with a chain whose log is provably intact and ends at tip (nil: it is empty). What is sealed
// needs a new epoch first.
func ResumeWriter(c Chain, tip *Link, s Signer) (*Writer, error) {
	if c.Device != s.ID() {
		return nil, fmt.Errorf("journal: resuming %s with the key of %s: %w", c, s.ID(), ErrForeignSigner)
	}
	return &Writer{chain: c, signer: s, tip: tip}, nil
}

// Chain returns the chain that is written.
func (w *Writer) Chain() Chain { return w.chain }

// Tip returns the last committed place, nil before the first.
func (w *Writer) Tip() *Link { return w.tip }

// Epoch makes the segment that starts a new epoch: a fresh key, wrapped for every reader. At least one reader is
// required, so that data is never sealed to nobody. after may name what a former incarnation ended with.
func (w *Writer) Epoch(readers []Reader, after *Continuation, at Stamp) (*Segment, error) {
	if len(readers) == 0 {
		return nil, errors.New("journal: starting epoch: no reader, not even the recovery key: check the fleet state")
	}
	if err := w.ready(); err != nil {
		return nil, err
	}
	if after != nil && after.Incarnation == w.chain.Incarnation {
		return nil, fmt.Errorf("journal: starting epoch of %s: it cannot continue itself: %w", w.chain, ErrMalformed)
	}
	h := w.header(KindEpoch, at)
	h.Epoch = h.Seq
	key, wraps, err := wrapEpochKey(w.chain, h.Epoch, readers)
	if err != nil {
		return nil, err
	}
	seg, err := w.finish(h, mustEncode(epochPayload{After: after, Wraps: wraps}))
	if err != nil {
		return nil, err
	}
	w.newKey = &key
	return seg, nil
}

// Readings makes a segment of readings. They must be of one boot and one clock: for all of them Wall-Mono is the
// same, or no Wall is known; a batch is closed when the clock is set.
func (w *Writer) Readings(boot BootID, readings []edge.Reading) (*Segment, error) {
	if len(readings) == 0 || len(readings) > MaxReadings {
		return nil, fmt.Errorf("journal: sealing %d readings: want 1 to %d", len(readings), MaxReadings)
	}
	if err := w.readySealed(); err != nil {
		return nil, err
	}
	newest, span, err := oneClock(readings)
	if err != nil {
		return nil, err
	}
	h := w.header(KindReadings, Stamp{Boot: boot, At: newest})
	h.Span, h.Count = span, uint32(len(readings))
	pack, err := edge.MarshalSenML(w.chain.Device, newest.Mono, readings)
	if err != nil {
		return nil, fmt.Errorf("journal: sealing readings: %w", err)
	}
	return w.seal(h, pack)
}

// oneClock returns the newest instant and the ms from the oldest to it, if all readings have valid times of one clock.
func oneClock(readings []edge.Reading) (newest edge.Instant, span int64, err error) {
	newest = readings[0].At
	oldest := newest.Mono
	for i := range readings {
		r := &readings[i]
		if !validTime(r.At.Mono) || !validTime(r.At.Wall) {
			return newest, 0, fmt.Errorf("journal: sealing readings: time %+v of %q: %w", r.At, r.Name(), ErrMalformed)
		}
		if r.At.Synced() != newest.Synced() || (r.At.Synced() && r.At.Wall-r.At.Mono != newest.Wall-newest.Mono) {
			return newest, 0, fmt.Errorf("journal: sealing readings: the clock changed within the batch at %q", r.Name())
		}
		if r.At.Mono > newest.Mono {
			newest = r.At
		}
		oldest = min(oldest, r.At.Mono)
	}
	if newest.Synced() && newest.Wall-(newest.Mono-oldest) <= 0 {
		return newest, 0, fmt.Errorf("journal: sealing readings: wall time %d ms begins before 1970: %w", newest.Wall, ErrMalformed)
	}
	return newest, newest.Mono - oldest, nil
}

// Note makes a segment that tells readers about the log itself.
func (w *Writer) Note(n Note, at Stamp) (*Segment, error) {
	if err := w.readySealed(); err != nil {
		return nil, err
	}
	if err := n.check(); err != nil {
		return nil, fmt.Errorf("journal: sealing note: %w", err)
	}
	return w.seal(w.header(KindNote, at), mustEncode(n))
}

// Plain makes an unsealed segment that counts count entries, at most MaxReadings; the fleet log is written so.
func (w *Writer) Plain(payload []byte, count int, at Stamp) (*Segment, error) {
	if err := w.ready(); err != nil {
		return nil, err
	}
	if count < 0 || count > MaxReadings {
		return nil, fmt.Errorf("journal: writing %d entries in one segment: want at most %d: %w", count, MaxReadings, ErrOversize)
	}
	h := w.header(KindFleet, at)
	h.Count = uint32(count)
	return w.finish(h, payload)
}

// Commit says that the segment is durable: its seq is taken and the next one may be made.
func (w *Writer) Commit(s *Segment) error {
	if w.spent {
		return fmt.Errorf("journal: committing for %s: %w", w.chain, ErrSpent)
	}
	if s == nil || s != w.pending {
		return fmt.Errorf("journal: committing for %s: it is not the segment made last: call Abandon", w.chain)
	}
	l := s.Link()
	w.tip, w.pending = &l, nil
	if s.Kind == KindEpoch {
		w.epoch, w.key, w.newKey = s.Seq, w.newKey, nil
		w.remember()
	}
	return nil
}

// maxOwn is how many epochs of its own a Writer can still open: a month of daily ones.
const maxOwn = 32

func (w *Writer) remember() {
	if w.own == nil {
		w.own = map[uint64]epochKey{}
	}
	w.own[w.epoch] = *w.key
	if len(w.own) > maxOwn {
		delete(w.own, slices.Min(slices.Collect(maps.Keys(w.own))))
	}
}

// Own returns a keyring that opens what this Writer sealed in its last 32 epochs, and learns nothing: for a device that must seal the same again
// in another incarnation, because its place in this one is taken.
func (w *Writer) Own() *Keyring {
	return &Keyring{epochs: map[Chain]map[uint64]epochKey{w.chain: maps.Clone(w.own)}}
}

// Abandon makes the writer useless (ErrSpent), after a write that may or may not have reached the disk.
func (w *Writer) Abandon() { w.spent = true }

// ready refuses to begin a segment while another may hold its seq. It comes before anything is sealed, so that no two
// plaintexts are ever encrypted under one nonce for want of a Commit.
func (w *Writer) ready() error {
	if w.spent {
		return fmt.Errorf("journal: writing %s: %w", w.chain, ErrSpent)
	}
	if w.pending != nil {
		return fmt.Errorf("journal: writing %s: seq %d was neither committed nor abandoned", w.chain, w.pending.Seq)
	}
	return nil
}

func (w *Writer) readySealed() error {
	if err := w.ready(); err != nil {
		return err
	}
	if w.key == nil {
		return fmt.Errorf("journal: sealing for %s: no epoch was started", w.chain)
	}
	return nil
}

func (w *Writer) header(k Kind, at Stamp) Header {
	h := Header{Version: Version, Chain: w.chain, Kind: k, Boot: at.Boot, Mono: at.At.Mono, Wall: at.At.Wall}
	if w.tip != nil {
		h.Seq, h.Prev = w.tip.Seq+1, w.tip.Hash
	}
	if k != KindFleet && k != KindRewrap {
		h.Epoch = w.epoch
	}
	return h
}

func (w *Writer) seal(h Header, plain []byte) (*Segment, error) {
	packed, coding, err := w.packer.pack(plain)
	if err != nil {
		return nil, err
	}
	h.Coding = coding
	return w.finish(h, w.key.aead.Seal(nil, nonce(h.Seq), w.packer.pad(packed, coding), additional(h)))
}

// finish signs the header. What readers would refuse is refused here, before it has a signature.
func (w *Writer) finish(h Header, payload []byte) (*Segment, error) {
	if n := len(payload) + MaxHeader; n > MaxSegment {
		return nil, fmt.Errorf("journal: writing seq %d, %d bytes: %w: %s", h.Seq, n, ErrOversize, h.Kind.remedy())
	}
	h.Size, h.Payload = uint32(len(payload)), sha256.Sum256(payload)
	if err := h.check(w.chain.Fleet); err != nil {
		return nil, fmt.Errorf("journal: writing: %w", err)
	}
	enc := mustEncode(h)
	signed, err := SignRecord(w.signer, TypeSegment, enc)
	if err != nil {
		return nil, err
	}
	raw := encodeSegment(signed, payload)
	w.pending = &Segment{Header: h, Hash: sha256.Sum256(enc), signed: signed, payload: payload, raw: raw}
	return w.pending, nil
}
