// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// confirmProtocol serves devices whose uplink is metered: one request frame, then frames 'P' (the first bytes of a storer's id, then its signature
// of a journal.Custody) as they come, then frameEnd with a status. Asked by a device, a hub hands the run on to the bucket's other hubs and returns
// their proofs; asked by a hub, it returns its own.
const confirmProtocol = "/streembit/confirm/1"

const (
	frameProof   = 'P'
	proofID      = 8                // bytes of the storer's id: who asked knows the hubs of the bucket
	maxProof     = 1 + proofID + 64 // with an Ed25519 signature
	handOnLimit  = 25 * time.Second // for all that one request wants
	confirmReply = 40 * time.Second // silence after which the hub counts as gone
)

func decodeConfirm(raw []byte) (journal.Custody, error) {
	var c journal.Custody
	if err := journal.Decode(raw, &c); err != nil {
		return c, fmt.Errorf("p2p: reading request for proofs: %w", err)
	}
	if c.From > c.To || c.To > journal.MaxSeq || c.From/journal.BucketSize != c.To/journal.BucketSize || !journal.ValidStream(c.Chain.Stream) {
		return c, fmt.Errorf("p2p: reading request for proofs of seq %d to %d of stream %q: %w", c.From, c.To, c.Chain.Stream, ErrFrame)
	}
	return c, nil
}

// Connected reports whether a direct connection to the member is open.
func (n *Node) Connected(id edge.ID) bool { return n.connected(id) }

// Confirm has a hub that holds a run of this device's segments hand it on to the other hubs of its bucket, and visits each one's signature of
// its journal.Custody (want with that Storer), unproven, until visit returns false. The error wraps transport.ErrUnreachable, is a *transport.Refusal, or
// that of ctx; nil means that the hub has no more to show.
func (n *Node) Confirm(ctx context.Context, hub edge.ID, want journal.Custody, visit func(storer edge.ID, signature []byte) bool) error {
	if !n.begin() {
		return fmt.Errorf("p2p: asking for proofs: %w", ErrClosed)
	}
	defer n.tasks.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	err := n.confirm(ctx, hub, want, visit)
	var refused *transport.Refusal
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("p2p: asking hub %s for proofs: %w", hub.Short(), ctx.Err())
	case errors.As(err, &refused):
		return refused
	}
	return fmt.Errorf("p2p: asking hub %s for proofs: %w: %w", hub.Short(), transport.ErrUnreachable, err)
}

func (n *Node) confirm(ctx context.Context, hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) error {
	raw, err := journal.Encode(want)
	if err != nil {
		return err
	}
	s, err := n.open(ctx, hub, confirmProtocol)
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }()
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	w := bufio.NewWriterSize(s, maxRequest+frameHeader)
	if err := errors.Join(s.SetWriteDeadline(time.Now().Add(requestLimit)), writeFrame(w, raw), w.Flush()); err != nil {
		return err
	}
	return n.readProofs(s, hub, want, visit)
}

// readProofs visits at most one proof of each hub of the bucket.
func (n *Node) readProofs(s network.Stream, hub edge.ID, want journal.Custody, visit func(edge.ID, []byte) bool) error {
	open := n.bucketOf(want)
	r := bufio.NewReaderSize(s, 4<<10)
	for {
		if err := s.SetReadDeadline(time.Now().Add(confirmReply)); err != nil {
			return fmt.Errorf("p2p: setting deadline: %w", err)
		}
		frame, err := readFrame(r, max(maxProof, 1+maxStatus))
		if err != nil {
			return err
		}
		switch kind, body := frame[0], frame[1:]; {
		case kind == frameEnd:
			status, ok := decodeStatus(body, hub)
			if !ok {
				return fmt.Errorf("p2p: reading status: %w", ErrFrame)
			}
			return status
		case kind != frameProof || len(frame) != maxProof:
			return fmt.Errorf("p2p: reading proof of %d bytes: %w", len(frame), ErrFrame)
		default:
			i := storerOf(open, body[:proofID])
			if i < 0 {
				return fmt.Errorf("p2p: proof of %x, which is no hub of this bucket or was shown before: %w", body[:proofID], ErrFrame)
			}
			storer := open[i]
			open = append(open[:i:i], open[i+1:]...)
			if !visit(storer, body[proofID:]) {
				return nil
			}
		}
	}
}

// bucketOf returns the hubs of the bucket that a custody speaks of.
func (n *Node) bucketOf(c journal.Custody) []edge.ID {
	var ids []edge.ID
	for _, g := range n.o.Fleet().Hubs() {
		ids = append(ids, g.Member)
	}
	return transport.Place(c.Chain.Bucket(c.From).Key(), ids)
}

func storerOf(hubs []edge.ID, prefix []byte) int {
	for i, id := range hubs {
		if bytes.HasPrefix(id[:], prefix) {
			return i
		}
	}
	return -1
}

// mayConfirm is the rule of who is given proofs: a chain's device, by whatever key, and hubs that it asked.
func mayConfirm(f *fleet.Fleet, who edge.ID, c journal.Chain) bool {
	return f.SameDevice(who, c.Device) || f.Is(who, fleet.Hub)
}
