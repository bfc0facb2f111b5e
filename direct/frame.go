// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/streembit/edge/journal"
)

// The kinds of frames: the first byte of each.
const (
	kindHello    = 'H' // device: hello
	kindOpen     = 'O' // operator: opening
	kindAsk      = 'Q' // operator: ask
	kindCancel   = 'C' // operator: the id
	kindResult   = 'R' // device: result
	kindProgress = 'P' // device: progress
	kindData     = 'D' // device: data
	kindWatched  = 'W' // device: watched
	kindHeard    = 'V' // device: heard
	kindAlive    = 'K' // device: nothing
	kindEnd      = 'E' // device: ending
)

const frameHead = 4 // bytes of the length, big endian

// hello is the device's first frame.
type hello struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Nonce   Nonce
	Life    uint64 // ms until the session ends
	Thing   uint64 // version of the device's description
}

// opening is the operator's first frame.
type opening struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Nonce   Nonce
}

// ask is a request.
type ask struct {
	_        struct{} `cbor:",toarray"`
	ID       RequestID
	Op       Op
	Name     string
	Deadline uint64 // ms after the device's hello
	Value    any    // argument; null = none
	Signed   []byte // the record of a request that is signed singly, else empty
}

// result ends a request.
type result struct {
	_      struct{} `cbor:",toarray"`
	ID     RequestID
	Reason Reason // 0 = done
	Detail string
	Value  any
}

// progress tells how far a request is.
type progress struct {
	_    struct{} `cbor:",toarray"`
	ID   RequestID
	Done uint64 // thousandths; above 1000 = not known
	Text string
}

// data is a part of what a request streams.
type data struct {
	_    struct{} `cbor:",toarray"`
	ID   RequestID
	Part []byte
}

// ending is why the device ends the session.
type ending struct {
	_      struct{} `cbor:",toarray"`
	Reason Reason
	Detail string
}

// readFrame reads one frame of at most limit bytes; the length is judged before anything is allocated. io.EOF is the end between two frames.
func readFrame(r io.Reader, limit int) (kind byte, body []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF { // ReadFull's contract: EOF itself is the clean end
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("direct: reading frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	switch {
	case n == 0:
		return 0, nil, fmt.Errorf("direct: reading frame of no bytes: %w", ErrFrame)
	case uint64(n) > uint64(limit):
		return 0, nil, fmt.Errorf("direct: reading frame of %d bytes, at most %d: %w: %w", n, limit, ErrFrame, journal.ErrOversize)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, fmt.Errorf("direct: reading frame: %w", errors.Join(io.ErrUnexpectedEOF, err))
	}
	return b[0], b[1:], nil
}

// decode reads a frame's body in its one canonical form.
func decode(body []byte, v any) error {
	if err := journal.Decode(body, v); err != nil {
		return fmt.Errorf("direct: %w: %w", ErrFrame, err)
	}
	return nil
}

// writer writes frames, one at a time. A peer that does not read for stall loses the stream: it holds up nothing but its own session.
type writer struct {
	stream Stream
	stall  time.Duration
	limit  int

	mu     sync.Mutex
	failed error
}

func (w *writer) send(kind byte, v any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = journal.Encode(v); err != nil {
			return err
		}
	}
	if len(body)+1 > w.limit {
		return fmt.Errorf("direct: writing frame of %d bytes, at most %d: %w", len(body)+1, w.limit, journal.ErrOversize)
	}
	b := make([]byte, 0, frameHead+1+len(body))
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(body)))
	b = append(append(b, kind), body...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	watch := time.AfterFunc(w.stall, func() { _ = w.stream.Close() })
	_, err := w.stream.Write(b)
	watch.Stop()
	if err != nil {
		w.failed = fmt.Errorf("direct: writing frame: %w", err)
	}
	return w.failed
}

// plain turns a decoded value into what Thing Descriptions speak of: nil, bool, numbers, text, lists and objects with names.
func plain(v any, levels int) (any, error) {
	switch v := v.(type) {
	case nil, bool, uint64, int64, float64:
		return v, nil
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("direct: text that is not UTF-8: %w", ErrFrame)
		}
		return v, nil
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = deeper(e, levels); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			name, ok := k.(string)
			if !ok {
				return nil, fmt.Errorf("direct: a field named by a %T: %w", k, ErrFrame)
			}
			var err error
			if out[name], err = deeper(e, levels); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("direct: a value of type %T: %w", v, ErrFrame)
}

func deeper(v any, levels int) (any, error) {
	if levels <= 1 {
		return nil, fmt.Errorf("direct: values in more than %d levels: %w", maxLevels, ErrFrame)
	}
	return plain(v, levels-1)
}

// clip shortens a text to what a frame takes, in whole characters.
func clip(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	n := maxDetail
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
