// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// ErrFrame is wrapped when the other side sends what is no frame of the protocol.
var ErrFrame = errors.New("not a frame of this protocol")

// frameHeader is the length prefix: 4 bytes, big endian, of the bytes that follow.
const frameHeader = 4

// maxDetail bounds the text that explains a status, in bytes.
const maxDetail = 512

// maxStatus is the largest status: one byte of transport.Reason (0 = done) and the detail.
const maxStatus = 1 + maxDetail

// writeFrame writes one frame whose body is the parts in a row.
func writeFrame(w *bufio.Writer, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	var head [frameHeader]byte
	binary.BigEndian.PutUint32(head[:], uint32(n))
	if _, err := w.Write(head[:]); err != nil {
		return fmt.Errorf("p2p: writing frame: %w", err)
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("p2p: writing frame: %w", err)
		}
	}
	return nil
}

// readFrame reads one frame of 1 to limit bytes; the length is judged before anything is allocated for it. io.EOF
// means that the other side ended between two frames.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF { // ReadFull's contract: EOF itself, unwrapped, is the clean end
			return nil, io.EOF
		}
		return nil, fmt.Errorf("p2p: reading frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	switch {
	case n == 0:
		return nil, fmt.Errorf("p2p: reading frame of no bytes: %w", ErrFrame)
	case uint64(n) > uint64(limit):
		return nil, fmt.Errorf("p2p: reading frame of %d bytes, at most %d allowed: %w: %w", n, limit, ErrFrame, journal.ErrOversize)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("p2p: reading frame of %d bytes: %w", n, err)
	}
	return body, nil
}

// encodeStatus turns a storer's answer into its wire form.
func encodeStatus(err error) []byte {
	if err == nil {
		return []byte{0}
	}
	reason, detail := transport.RefusedFailed, err.Error()
	if r := (*transport.Refusal)(nil); errors.As(err, &r) && r.Reason != 0 {
		reason, detail = r.Reason, r.Detail
	}
	return append([]byte{byte(reason)}, detail[:min(len(detail), maxDetail)]...)
}

// decodeStatus reverses encodeStatus: nil or a *transport.Refusal of hub. ok is false for what is no status.
func decodeStatus(raw []byte, hub edge.ID) (status error, ok bool) {
	switch {
	case len(raw) == 0 || len(raw) > maxStatus || (raw[0] == 0 && len(raw) > 1):
		return nil, false
	case raw[0] == 0:
		return nil, true
	}
	return &transport.Refusal{Hub: hub, Reason: transport.Reason(raw[0]), Detail: string(raw[1:])}, true
}
