// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// fleetProtocol is the one protocol that strangers may speak. The asker writes requests, each answered before the next; every frame begins with the byte
// of its kind, and its body is deterministic CBOR, but for chunks and statuses.
const fleetProtocol = "/streembit/fleet/1"

// The requests.
const (
	askHello   = 'h' // hello → welcome
	askSync    = 's' // fleet.Digest → tellDigest, chunks, status; then the asker's chunks and status → status
	askClaim   = 'c' // enroll.Claim → status
	askPoll    = 'p' // nothing → tellPoll, and chunks when granted; status
	askClaims  = 'l' // nothing → tellClaim each, status; operators
	askDrop    = 'd' // edge.ID → status; operators
	askDeposit = 'a' // enroll.Approval → status; operators
	askOffer   = 'o' // enroll.Approval → status; then chunks and status → status; to an unclaimed device
)

// The answers.
const (
	tellWelcome = 'W'
	tellDigest  = 'D'
	tellChunk   = 'B' // a part of an encoded fleet.Bundle, in both directions
	tellPoll    = 'P'
	tellClaim   = 'C'
	tellStatus  = 'E' // see encodeStatus; ends what comes in parts
)

const (
	memberFrame    = 1 << 20   // bytes of a frame among members
	memberChunk    = 512 << 10 // of a chunk, kind byte not counted
	strangerFrame  = 16 << 10  // of a frame that a stranger may send …
	strangerChunk  = 15 << 10
	strangerBundle = 64 << 10 // … and of what it may offer in all
	talkRequests   = 8        // on one stream
)

const (
	helloLimit    = 10 * time.Second // for the first answer
	talkLimit     = 2 * time.Minute  // for a stream among members
	strangerLimit = 20 * time.Second // for a stranger's stream
)

type hello struct {
	_       struct{} `cbor:",toarray"`
	Boot    journal.BootID
	Version string
	Hash    journal.Hash // of the fleet.Digest
}

type welcome struct {
	_        struct{} `cbor:",toarray"`
	Standing Standing
	Boot     journal.BootID // zero for strangers, as all that follows
	Version  string
	Hash     journal.Hash
}

type pollAnswer struct {
	_        struct{} `cbor:",toarray"`
	Standing Standing
	Approval *enroll.Approval // members only
}

// maxWord bounds the texts in hellos and claims, in bytes.
const maxWord = 64

// ask is one decoded request; which field is set follows from Kind.
type ask struct {
	Kind     byte
	Hello    hello
	Digest   fleet.Digest
	Claim    enroll.Claim
	Device   edge.ID
	Approval enroll.Approval
}

// decodeAsk reads a request's frame.
func decodeAsk(frame []byte) (ask, error) {
	a := ask{Kind: frame[0]}
	into := map[byte]any{askHello: &a.Hello, askSync: &a.Digest, askClaim: &a.Claim, askDrop: &a.Device, askDeposit: &a.Approval,
		askOffer: &a.Approval, askPoll: nil, askClaims: nil}
	v, known := into[a.Kind]
	switch {
	case !known:
		return a, fmt.Errorf("p2p: reading request of kind %q: update this program: %w", a.Kind, ErrFrame)
	case v == nil && len(frame) > 1:
		return a, fmt.Errorf("p2p: reading request of kind %q with %d bytes too many: %w", a.Kind, len(frame)-1, ErrFrame)
	case v == nil:
		return a, nil
	}
	if err := journal.Decode(frame[1:], v); err != nil {
		return a, fmt.Errorf("p2p: reading request of kind %q: %w: %w", a.Kind, ErrFrame, err)
	}
	for _, word := range []string{a.Hello.Version, a.Claim.Name} {
		if !plain(word) {
			return a, fmt.Errorf("p2p: reading request of kind %q: want at most %d bytes of printable text: %w", a.Kind, maxWord, ErrFrame)
		}
	}
	return a, nil
}

// talk is one stream of the fleet protocol, at either end.
type talk struct {
	s      network.Stream
	r      *bufio.Reader
	w      *bufio.Writer
	frame  int // largest frame that is taken, in bytes
	bundle int // largest bundle
	chunk  int // size of the chunks that are sent
}

func newTalk(s network.Stream) *talk {
	return &talk{s: s, r: bufio.NewReaderSize(s, 4<<10), w: bufio.NewWriterSize(s, 4<<10), frame: memberFrame, bundle: fleet.MaxBundle, chunk: memberChunk}
}

// restrain makes the limits those for a stranger at the other end.
func (t *talk) restrain() { t.frame, t.bundle = strangerFrame, strangerBundle }

// within sets the time by which everything that follows must be over.
func (t *talk) within(d time.Duration) error {
	if err := t.s.SetDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("p2p: setting deadline: %w", err)
	}
	return nil
}

func (t *talk) write(kind byte, body []byte) error { return writeFrame(t.w, []byte{kind}, body) }

// say writes one frame and sends it.
func (t *talk) say(kind byte, v any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = journal.Encode(v); err != nil {
			return err
		}
	}
	if err := t.write(kind, body); err != nil {
		return err
	}
	return t.flush()
}

func (t *talk) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("p2p: writing frame: %w", err)
	}
	return nil
}

// end writes a status and sends all.
func (t *talk) end(status error) error {
	if err := t.write(tellStatus, encodeStatus(status)); err != nil {
		return err
	}
	return t.flush()
}

// give sends a bundle and the status that ends it. An empty one is no chunk.
func (t *talk) give(b fleet.Bundle) error {
	if !b.Empty() {
		enc, err := b.Encode()
		if err != nil {
			return err
		}
		for len(enc) > 0 {
			n := min(len(enc), t.chunk)
			if err := t.write(tellChunk, enc[:n]); err != nil {
				return err
			}
			enc = enc[n:]
		}
	}
	return t.end(nil)
}

// hear reads one frame: of the kind (decoded into v), or a status, which is an error here.
func (t *talk) hear(kind byte, v any, from edge.ID) error {
	frame, err := readFrame(t.r, t.frame)
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("p2p: the answer is missing: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return err
	case frame[0] == tellStatus:
		status, ok := decodeStatus(frame[1:], from)
		if ok && status != nil {
			return status
		}
		return fmt.Errorf("p2p: status in place of an answer of kind %q: %w", kind, ErrFrame)
	case frame[0] != kind:
		return fmt.Errorf("p2p: answer of kind %q in place of %q: %w", frame[0], kind, ErrFrame)
	}
	if err := journal.Decode(frame[1:], v); err != nil {
		return fmt.Errorf("p2p: reading answer of kind %q: %w: %w", kind, ErrFrame, err)
	}
	return nil
}

// settled reads a status and returns it.
func (t *talk) settled(from edge.ID) error {
	none := func([]byte) error { return fmt.Errorf("p2p: content in place of a status: %w", ErrFrame) }
	return t.parts(0, from, none)
}

// parts hands the bodies of frames of one kind to visit until a status comes, which it returns.
func (t *talk) parts(kind byte, from edge.ID, visit func(body []byte) error) error {
	for {
		frame, err := readFrame(t.r, t.frame)
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("p2p: the answer has no end: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return err
		case frame[0] == tellStatus:
			status, ok := decodeStatus(frame[1:], from)
			if !ok {
				return fmt.Errorf("p2p: reading status: %w", ErrFrame)
			}
			return status
		case frame[0] != kind:
			return fmt.Errorf("p2p: frame of kind %q in place of %q: %w", frame[0], kind, ErrFrame)
		}
		if err := visit(frame[1:]); err != nil {
			return err
		}
	}
}

// bulk is how much of a bundle may be gathered without one of the few places for large ones.
const bulk = 1 << 20

// take gathers a bundle whose parts a status ends. It proves nothing. place, when not nil, gets a place for a large one.
func (t *talk) take(from edge.ID, place func() (free func(), err error)) (fleet.Bundle, error) {
	var enc []byte
	free := func() {}
	defer func() { free() }()
	err := t.parts(tellChunk, from, func(body []byte) error {
		if len(enc)+len(body) > t.bundle {
			return fmt.Errorf("p2p: bundle of more than %d bytes: %w: %w", t.bundle, ErrFrame, journal.ErrOversize)
		}
		if place != nil && len(enc) <= bulk && len(enc)+len(body) > bulk {
			f, err := place()
			if err != nil {
				return err
			}
			free = f
		}
		enc = append(enc, body...)
		return nil
	})
	if err != nil || len(enc) == 0 {
		return fleet.Bundle{}, err
	}
	return fleet.DecodeBundle(enc)
}

// refuse is an answer that says why not.
func refuse(why transport.Reason, format string, args ...any) error {
	return &transport.Refusal{Reason: why, Detail: fmt.Sprintf(format, args...)}
}

// during resets the stream when ctx ends. The returned function undoes it.
func (t *talk) during(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { _ = t.s.Reset() })
}
