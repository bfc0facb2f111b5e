// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"encoding/binary"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// A frame of the log begins with one byte that says what follows. Integers are little-endian.
const (
	frameSegment    = 'S' // meta, then the segment
	frameGapNote    = 'N' // meta, length u16 and CBOR of the gap that it tells, then the segment
	frameAck        = 'A' // incarnation, seq u64, hash, state u8, hubs
	frameGap        = 'G' // CBOR of a gap that no segment tells yet
	frameCheckpoint = 'C' // CBOR of a checkpoint
)

// meta stands before a segment, so that opening a log of many small segments parses none of them.
type meta struct {
	tag         [8]byte // of the chain's key: tells a log of another device or fleet
	incarnation journal.Incarnation
	stream      string
	kind        journal.Kind
	seq, epoch  uint64
	order       uint64 // counts the segments of all streams as they were made
	spooled     uint64 // readings of the stream that had gone from the spool into segments, this one included
	count       uint32
	hash        journal.Hash
}

// metaSize is the size of an encoded meta but for the stream's name.
const metaSize = 8 + 16 + 1 + 1 + 4*8 + 4 + 32

// maxFrame is more than any frame here needs: the largest segment, its meta and a gap.
const maxFrame = journal.MaxSegment + 4096

func metaOf(s *journal.Segment, order, spooled uint64) meta {
	return meta{tag: tagOf(s.Chain), incarnation: s.Chain.Incarnation, stream: s.Chain.Stream, kind: s.Kind, seq: s.Seq,
		epoch: s.Epoch, order: order, spooled: spooled, count: s.Count, hash: s.Hash}
}

func tagOf(c journal.Chain) [8]byte {
	k := c.Key()
	return [8]byte(k[:8])
}

func (m meta) append(b []byte) []byte {
	b = append(b, m.tag[:]...)
	b = append(b, m.incarnation[:]...)
	b = append(b, byte(len(m.stream)))
	b = append(b, m.stream...)
	b = append(b, byte(m.kind))
	for _, n := range []uint64{m.seq, m.epoch, m.order, m.spooled} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = binary.LittleEndian.AppendUint32(b, m.count)
	return append(b, m.hash[:]...)
}

// segmentFrame encodes a segment's frame; gap is nil unless the segment is the note that tells it.
func segmentFrame(m meta, gap *gap, raw []byte) ([]byte, error) {
	b := make([]byte, 0, 1+metaSize+len(m.stream)+256+len(raw))
	if gap == nil {
		return append(m.append(append(b, frameSegment)), raw...), nil
	}
	enc, err := journal.Encode(gap)
	if err != nil {
		return nil, err
	}
	b = m.append(append(b, frameGapNote))
	b = append(binary.LittleEndian.AppendUint16(b, uint16(len(enc))), enc...)
	return append(b, raw...), nil
}

// parseSegment reads what segmentFrame wrote; raw is part of frame.
func parseSegment(frame []byte) (m meta, told *gap, raw []byte, err error) {
	bad := func() (meta, *gap, []byte, error) {
		return meta{}, nil, nil, fmt.Errorf("outbox: reading segment frame of %d bytes: %w", len(frame), journal.ErrMalformed)
	}
	if len(frame) < 1+metaSize {
		return bad()
	}
	kind, b := frame[0], frame[1:]
	m.tag, m.incarnation = [8]byte(b), journal.Incarnation(b[8:24])
	n := int(b[24])
	if len(frame) < 1+metaSize+n {
		return bad()
	}
	m.stream, b = string(b[25:25+n]), b[25+n:]
	m.kind, b = journal.Kind(b[0]), b[1:]
	for _, p := range []*uint64{&m.seq, &m.epoch, &m.order, &m.spooled} {
		*p, b = binary.LittleEndian.Uint64(b), b[8:]
	}
	m.count, m.hash, b = binary.LittleEndian.Uint32(b), journal.Hash(b[4:36]), b[36:]
	if kind == frameSegment {
		return m, nil, b, nil
	}
	if len(b) < 2 || len(b) < 2+int(binary.LittleEndian.Uint16(b)) {
		return bad()
	}
	n = int(binary.LittleEndian.Uint16(b))
	told = &gap{}
	if err := journal.Decode(b[2:2+n], told); err != nil {
		return meta{}, nil, nil, err
	}
	return m, told, b[2+n:], nil
}

// ack says where a segment got to.
type ack struct {
	incarnation journal.Incarnation
	link        journal.Link
	state       state
	hubs        []edge.ID
}

const ackSize = 1 + 16 + 8 + 32 + 1

func (a ack) frame() []byte {
	b := make([]byte, 0, ackSize+len(a.hubs)*len(edge.ID{}))
	b = append(append(b, frameAck), a.incarnation[:]...)
	b = binary.LittleEndian.AppendUint64(b, a.link.Seq)
	b = append(append(b, a.link.Hash[:]...), byte(a.state))
	for _, h := range a.hubs {
		b = append(b, h[:]...)
	}
	return b
}

func parseAck(frame []byte) (ack, error) {
	var a ack
	if len(frame) < ackSize || (len(frame)-ackSize)%len(edge.ID{}) != 0 {
		return a, fmt.Errorf("outbox: reading ack of %d bytes: %w", len(frame), journal.ErrMalformed)
	}
	a.incarnation = journal.Incarnation(frame[1:17])
	a.link = journal.Link{Seq: binary.LittleEndian.Uint64(frame[17:]), Hash: journal.Hash(frame[25:57])}
	a.state = state(frame[57])
	for b := frame[ackSize:]; len(b) > 0; b = b[len(edge.ID{}):] {
		a.hubs = append(a.hubs, edge.ID(b[:len(edge.ID{})]))
	}
	return a, nil
}

// gap is a run of segments that are lost, until a segment of the stream tells its readers.
type gap struct {
	_      struct{} `cbor:",toarray"`
	ID     uint64   // the same gap, grown, has the same one
	Stream string
	Note   journal.GapNote
}

// checkpoint keeps what is needed of a chain when the files that said it are dropped.
type checkpoint struct {
	_           struct{} `cbor:",toarray"`
	Tag         [8]byte
	Stream      string
	Incarnation journal.Incarnation
	Tip         journal.Link
	Order       uint64 // of the newest segment
	Spooled     uint64
	Live        []transport.Span // what is not done of 0..Tip.Seq
}

// cborFrame encodes a gap or a checkpoint.
func cborFrame(kind byte, v any) ([]byte, error) {
	enc, err := journal.Encode(v)
	if err != nil {
		return nil, err
	}
	return append([]byte{kind}, enc...), nil
}
