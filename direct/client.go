// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// Config is the operator's part of a session.
type Config struct {
	Signer journal.Signer // whom the channel has proven to the device
	Device edge.ID        // whom it has proven to the operator

	Silence time.Duration // after which a device that shows no life counts as lost. 0 = 45 s, three times what it should take
	Stall   time.Duration // how long the device may not read. 0 = 10 s
}

// Request is one thing to ask for.
type Request struct {
	ID       RequestID // zero = a new one. To ask once more for the same, take the same
	Op       Op
	Name     string
	Value    any                             // argument, as the device's description wants it; nil = none
	Sign     bool                            // singly, as destructive actions want it
	Progress func(done float64, text string) // may be nil; done below 0 = not known. It must not wait for the session
	Data     io.Writer                       // where what is streamed goes; nil = away

	live  func(Live)       // of a watch
	heard func(Occurrence) // of a subscription
}

// DefaultDeadline is that of a request whose context has none.
const DefaultDeadline = 30 * time.Second

// Session is the operator's side of one. Safe for concurrent use. Close it.
type Session struct {
	c      Config
	stream Stream
	out    *writer
	nonce  Nonce
	thing  uint64
	began  time.Time
	tasks  sync.WaitGroup
	quiet  *time.Timer

	mu      sync.Mutex
	waiting map[RequestID]*waiter
	over    error         // why no request can be made any more; nil = they can
	ended   chan struct{} // closed when over is set
}

// waiter is a request whose result has not come.
type waiter struct {
	r    *Request
	done chan result // has room for one
	bad  error       // of Data, known before done
}

// Open takes part in the session that the device opens on the stream. ctx bounds the opening alone. The session closes the stream. An error is a *Refusal of the
// device's, or wraps ErrFrame or ErrLost.
func Open(ctx context.Context, stream Stream, c Config) (*Session, error) {
	if c.Silence == 0 {
		c.Silence = 45 * time.Second
	}
	if c.Stall == 0 {
		c.Stall = 10 * time.Second
	}
	s := &Session{c: c, stream: stream, out: &writer{stream: stream, stall: c.Stall, limit: MaxAsk}, waiting: map[RequestID]*waiter{}, ended: make(chan struct{})}
	in := bufio.NewReader(stream)
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	err := s.greet(in)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = stream.Close()
		if ReasonOf(err) == 0 && !errors.Is(err, ErrFrame) { // the device ended the stream, or the network did
			err = fmt.Errorf("%w: %w", ErrLost, err)
		}
		return nil, fmt.Errorf("direct: opening session with %s: %w", c.Device.Short(), errors.Join(ctx.Err(), err))
	}
	s.quiet = time.AfterFunc(c.Silence, func() {
		s.fail(fmt.Errorf("direct: nothing heard of the device in %s: %w", c.Silence, ErrLost))
	})
	s.tasks.Go(func() { s.hear(in) })
	return s, nil
}

func (s *Session) greet(in io.Reader) error {
	kind, body, err := readFrame(in, MaxTell)
	if err != nil {
		return err
	}
	s.began = time.Now()
	var h hello
	switch kind {
	case kindHello:
		err = decode(body, &h)
	case kindEnd:
		return s.farewell(body)
	default:
		return fmt.Errorf("direct: frame %q where the session opens: %w", kind, ErrFrame)
	}
	switch {
	case err != nil:
		return err
	case h.Version != Protocol:
		return refuse(BadRequest, "the device speaks version %d of the protocol, this program %d", h.Version, Protocol)
	}
	s.nonce, s.thing = h.Nonce, h.Thing
	return s.out.send(kindOpen, opening{Version: Protocol, Nonce: h.Nonce})
}

// farewell is the device's word on why the session ends.
func (s *Session) farewell(body []byte) error {
	var e ending
	if err := decode(body, &e); err != nil {
		return err
	}
	if e.Reason == 0 || len(e.Detail) > maxDetail {
		return fmt.Errorf("direct: an end without a reason: %w", ErrFrame)
	}
	return &Refusal{e.Reason, e.Detail}
}

// hear takes the device's frames until the session is over.
func (s *Session) hear(in io.Reader) {
	for {
		kind, body, err := readFrame(in, MaxTell)
		if err == nil {
			s.quiet.Reset(s.c.Silence)
			err = s.take(kind, body)
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

func (s *Session) take(kind byte, body []byte) error {
	switch kind {
	case kindAlive:
		return nil
	case kindResult:
		return s.takeResult(body)
	case kindProgress:
		var p progress
		if err := decode(body, &p); err != nil {
			return err
		}
		if len(p.Text) > maxDetail {
			return fmt.Errorf("direct: progress of %d bytes: %w", len(p.Text), ErrFrame)
		}
		if w := s.waiter(p.ID); w != nil && w.r.Progress != nil {
			done := -1.0
			if p.Done <= 1000 {
				done = float64(p.Done) / 1000
			}
			w.r.Progress(done, p.Text)
		}
		return nil
	case kindData:
		var d data
		if err := decode(body, &d); err != nil {
			return err
		}
		if w := s.waiter(d.ID); w != nil && w.r.Data != nil && w.bad == nil {
			_, w.bad = w.r.Data.Write(d.Part)
		}
		return nil
	case kindWatched:
		return s.takeWatched(body)
	case kindHeard:
		return s.takeHeard(body)
	case kindEnd:
		return s.farewell(body)
	}
	return fmt.Errorf("direct: frame %q from the device: %w", kind, ErrFrame)
}

func (s *Session) takeResult(body []byte) error {
	var r result
	if err := decode(body, &r); err != nil {
		return err
	}
	if len(r.Detail) > maxDetail {
		return fmt.Errorf("direct: a detail of %d bytes: %w", len(r.Detail), ErrFrame)
	}
	var err error
	if r.Value, err = plain(r.Value, maxLevels); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.waiting[r.ID]; w != nil { // else nobody waits for it any more
		delete(s.waiting, r.ID)
		w.done <- r
	}
	return nil
}

func (s *Session) waiter(id RequestID) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[id]
}

// fail ends the session. The first reason counts.
func (s *Session) fail(err error) {
	s.mu.Lock()
	if s.over == nil {
		if err == io.EOF { //nolint:errorlint // readFrame's clean end, itself
			err = errors.New("direct: the device has ended the stream")
		}
		s.over = err
		close(s.ended)
	}
	s.mu.Unlock()
	_ = s.stream.Close()
}

// Thing returns the version of the description that the device has now.
func (s *Session) Thing() uint64 { return s.thing }

// Do asks for one thing and waits for what comes of it: a value as the description says (nil, bool, a number, string, []any, map[string]any), or an error.
// A *Refusal is the device's answer. An error that wraps ErrLost says that the session ended, or ctx did, and nobody here knows whether it was done:
// ask again, in another session, with the same id. The device cancels what is under way when ctx ends.
func (s *Session) Do(ctx context.Context, r Request) (any, error) {
	if r.ID == (RequestID{}) {
		r.ID = NewID()
	}
	q, err := s.ask(ctx, &r)
	if err != nil {
		return nil, err
	}
	w := &waiter{r: &r, done: make(chan result, 1)}
	s.mu.Lock()
	over, twice := s.over, s.waiting[r.ID] != nil
	if over == nil && !twice {
		s.waiting[r.ID] = w
	}
	s.mu.Unlock()
	switch {
	case over != nil:
		return nil, fmt.Errorf("direct: %s %s: %w", r.Op, r.Name, over)
	case twice:
		return nil, fmt.Errorf("direct: %s %s: a request with this id is under way", r.Op, r.Name)
	}
	defer s.drop(r.ID, w)
	if err := s.out.send(kindAsk, q); err != nil {
		return nil, fmt.Errorf("direct: %s %s: %w: %w", r.Op, r.Name, ErrLost, err)
	}
	return s.await(ctx, w)
}

func (s *Session) drop(id RequestID, w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[id] == w {
		delete(s.waiting, id)
	}
}

// ask makes the frame of a request, signed if that is wanted.
func (s *Session) ask(ctx context.Context, r *Request) (*ask, error) {
	left := DefaultDeadline
	if deadline, ok := ctx.Deadline(); ok {
		left = min(time.Until(deadline), MaxAhead-time.Minute)
	}
	if r.Op == Watch || r.Op == Subscribe {
		left = watchLife // it is cancelled when ctx ends
	}
	if left <= 0 {
		return nil, fmt.Errorf("direct: %s %s: %w", r.Op, r.Name, context.DeadlineExceeded)
	}
	q := &ask{ID: r.ID, Op: r.Op, Name: r.Name, Deadline: uint64((time.Since(s.began) + left).Milliseconds()), Value: r.Value}
	if !r.Sign {
		return q, nil
	}
	payload, err := journal.Encode(command{Device: s.c.Device, Nonce: s.nonce, ID: q.ID, Op: q.Op, Name: q.Name, Deadline: q.Deadline, Value: q.Value})
	if err == nil {
		q.Signed, err = journal.SignRecord(s.c.Signer, TypeCommand, payload)
	}
	if err != nil {
		return nil, fmt.Errorf("direct: signing %s: %w", r.Name, err)
	}
	return q, nil
}

// grace is how much longer than ctx the answer to a cancellation may take.
const grace = 2 * time.Second

func (s *Session) await(ctx context.Context, w *waiter) (any, error) {
	ending := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case got := <-w.done:
			if got.Reason != 0 {
				return nil, fmt.Errorf("%w", &Refusal{got.Reason, got.Detail})
			}
			if w.bad != nil {
				return got.Value, fmt.Errorf("direct: writing what was streamed: %w", w.bad)
			}
			return got.Value, nil
		case <-s.ended:
			select {
			case got := <-w.done: // it came just before
				w.done <- got
				continue
			default:
			}
			return nil, fmt.Errorf("direct: %s %s: %w: %w", w.r.Op, w.r.Name, ErrLost, s.over)
		case <-ending:
			ending = nil
			if err := s.out.send(kindCancel, w.r.ID); err != nil {
				s.fail(err)
			}
			t := time.NewTimer(grace)
			defer t.Stop()
			late = t.C
		case <-late:
			return nil, fmt.Errorf("direct: %s %s: no answer in time, %w: %w", w.r.Op, w.r.Name, ErrLost, context.Cause(ctx))
		}
	}
}

// Describe fetches the device's signed description and proves it.
func (s *Session) Describe(ctx context.Context) (*thing.Description, []byte, error) {
	var b limited
	if _, err := s.Do(ctx, Request{Op: Describe, Data: &b}); err != nil {
		return nil, nil, err
	}
	d, err := thing.OpenSigned(s.c.Device, b.b)
	return d, b.b, err
}

// limited takes as much as a description may be.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > thing.MaxRecord {
		return 0, journal.ErrOversize
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

// Close ends the session. What acts and is under way goes on at the device.
func (s *Session) Close() error {
	s.fail(errors.New("direct: the session is closed"))
	s.tasks.Wait()
	s.quiet.Stop()
	return nil
}
