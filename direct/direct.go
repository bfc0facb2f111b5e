// SPDX-License-Identifier: Apache-2.0

// Package direct is the session protocol of commands: one stream of bytes between an operator and a device, on which properties are read and written and
// actions invoked, as the device's Thing Description says.
//
// The channel below has proven who the peer is; the fleet's log says what it may. The device opens the session with a fresh nonce that the operator's
// first frame repeats. Each request has an id of its own: what acts on the world is noted durably before it is done and never done twice, whatever
// is repeated, lost or torn by a power cut. docs/wire.md has the frames, docs/decisions/0020-direct-sessions.md the reasons.
//
// On a device start with NewServer and Serve, elsewhere with Open and Session.Do.
package direct

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Stream carries a session. Close ends both directions and wakes a Read or Write that waits; what was written before is delivered if it can be.
type Stream = io.ReadWriteCloser

// Protocol is the version that the first frames of both sides name.
const Protocol = 1

// TypeCommand is the content type of a request that is signed singly.
const TypeCommand = "application/vnd.streembit.command+cbor"

// Limits of the protocol, on both sides.
const (
	MaxAsk    = 16 << 10 // bytes of a frame to the device
	MaxTell   = 64 << 10 // bytes of a frame to the operator
	maxData   = 32 << 10 // bytes of data in one frame
	maxResult = 32 << 10 // bytes of an encoded result
	maxDetail = 512      // bytes of a text that explains
	maxName   = 128      // bytes of a property's or action's name
	maxLevels = 4        // of values in values

	// MaxAhead is how far ahead of its session's present a request may set its deadline.
	MaxAhead = time.Hour
)

// RequestID names a request for good: who repeats one after a lost connection takes the same again.
type RequestID [16]byte

// NewID returns a random id.
func NewID() (id RequestID) {
	rand.Read(id[:])
	return id
}

func (id RequestID) String() string { return hex.EncodeToString(id[:]) }

// Nonce is what makes a session one of its own.
type Nonce [16]byte

// Op is what a request wants.
type Op uint8

// The operations.
const (
	Describe Op = 1 // the device's signed Thing Description
	Get      Op = 2 // read a property
	Set      Op = 3 // write a property
	Call     Op = 4 // invoke an action
	Watch    Op = 5 // follow readings as they are taken
	// Subscribe hears of events as they take place.
	Subscribe Op = 6
)

func (o Op) String() string {
	if s, ok := map[Op]string{Describe: "describe", Get: "get", Set: "set", Call: "call", Watch: "watch", Subscribe: "subscribe"}[o]; ok {
		return s
	}
	return fmt.Sprintf("operation %d", o)
}

// Reason is why a request was not done, or a session ended.
type Reason uint8

// The reasons, as they stand on the wire. All but Failed, Unknown and Cancelled mean that nothing was done.
const (
	BadRequest  Reason = 1  // not understood
	BadArgument Reason = 2  // the Thing Description does not allow the value
	NoRight     Reason = 3  // the fleet's log does not allow it
	NotThere    Reason = 4  // the device has no such property or action
	Expired     Reason = 5  // its deadline, or the session's, has passed
	Busy        Reason = 6  // too much at once: come again
	Failed      Reason = 7  // it was tried
	Unknown     Reason = 8  // begun before a restart of the device; nobody knows what came of it
	Cancelled   Reason = 9  // ended on the way
	NotSigned   Reason = 10 // it wants a signature of its own, and has none that fits
	Conflict    Reason = 11 // the id was used for another request
	Stopping    Reason = 12 // the device stops
)

func (r Reason) String() string {
	if s, ok := map[Reason]string{BadRequest: "not understood", BadArgument: "bad argument", NoRight: "no right", NotThere: "not there", Expired: "expired",
		Busy: "busy", Failed: "failed", Unknown: "outcome unknown", Cancelled: "cancelled", NotSigned: "not signed", Conflict: "id used twice",
		Stopping: "the device stops"}[r]; ok {
		return s
	}
	return fmt.Sprintf("reason %d", r)
}

// Refusal is the device's answer that is no result.
type Refusal struct {
	Reason Reason
	Detail string // for people; from the device
}

func (r *Refusal) Error() string {
	if r.Detail == "" {
		return "direct: " + r.Reason.String()
	}
	return fmt.Sprintf("direct: %s: %s", r.Reason, r.Detail)
}

// refuse makes a refusal.
func refuse(r Reason, format string, args ...any) *Refusal {
	return &Refusal{r, fmt.Sprintf(format, args...)}
}

// ReasonOf returns the reason of an error that wraps a Refusal, else 0.
func ReasonOf(err error) Reason {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason
	}
	return 0
}

// Errors of both sides.
var (
	ErrFrame = errors.New("not a frame of this protocol")
	ErrLost  = errors.New("the session was lost") // whether the request was done is not known: repeat it with its id
)

// command is what a signature of its own covers: this request, in this session, to this device.
type command struct {
	_        struct{} `cbor:",toarray"`
	Device   edge.ID
	Nonce    Nonce
	ID       RequestID
	Op       Op
	Name     string
	Deadline uint64
	Value    any
}

// digest tells two requests apart that have one id.
func digest(peer edge.ID, q *ask) ([sha256.Size]byte, error) {
	b, err := journal.Encode([]any{peer, q.Op, q.Name, q.Value})
	return sha256.Sum256(b), err
}
