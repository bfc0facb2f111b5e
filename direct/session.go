// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// openLimit is how long the operator may take to repeat the nonce.
const openLimit = 10 * time.Second

// session is the device's side of one.
type session struct {
	s      *Server
	peer   edge.ID
	stream Stream
	in     *bufio.Reader
	out    *writer
	nonce  Nonce
	began  time.Time

	ctx context.Context //nolint:containedctx // the life of the session
	end context.CancelCauseFunc

	mu    sync.Mutex
	asks  map[*asked]struct{}
	told  map[string]bool // reads that are in the audit
	heard time.Time       // when something was asked for last
}

// asked is a request under way.
type asked struct {
	q    *ask
	need need
	end  context.CancelCauseFunc

	still func(*fleet.Fleet) bool // see target
}

func newSession(s *Server, stream Stream, peer edge.ID) *session {
	c := &session{s: s, peer: peer, stream: stream, in: bufio.NewReader(stream), out: &writer{stream: stream, stall: s.o.Stall, limit: MaxTell},
		asks: map[*asked]struct{}{}, told: map[string]bool{}}
	rand.Read(c.nonce[:])
	c.ctx, c.end = context.WithCancelCause(context.Background())
	return c
}

// errGone: the peer has ended the session.
var errGone = errors.New("the peer has ended the session")

func (c *session) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { c.end(refuse(Stopping, "the device stops or starts anew")) })()
	defer time.AfterFunc(c.s.o.Life, func() {
		c.end(refuse(Expired, "the session has lasted %s: open another", c.s.o.Life))
	}).Stop()
	var side, handlers sync.WaitGroup
	side.Go(c.farewell)
	err := c.greet()
	if err == nil {
		side.Go(c.beat)
		err = c.listen(&handlers)
	}
	if err == nil {
		err = errGone
	}
	c.end(err)
	c.s.leave(c) // what is still done is no reason to refuse the peer another session
	handlers.Wait()
	side.Wait()
	if cause := context.Cause(c.ctx); !errors.Is(cause, errGone) {
		return cause
	}
	return nil
}

// farewell says why the session ends, if the device ends it, and wakes whoever waits for the stream.
func (c *session) farewell() {
	<-c.ctx.Done()
	why, told := errors.AsType[*Refusal](context.Cause(c.ctx))
	if errors.Is(context.Cause(c.ctx), ErrFrame) {
		why, told = refuse(BadRequest, "%v", context.Cause(c.ctx)), true
	}
	if told {
		if err := c.out.send(kindEnd, ending{Reason: why.Reason, Detail: clip(why.Detail)}); err != nil {
			c.s.o.Logger.Debug("end of session not told", "peer", c.peer, "err", err)
		}
	}
	_ = c.stream.Close()
}

// greet sends the nonce and wants it back.
func (c *session) greet() error {
	d, _ := c.s.o.Thing()
	c.began = time.Now()
	c.heard = c.began
	if err := c.out.send(kindHello, hello{Version: Protocol, Nonce: c.nonce, Life: uint64(c.s.o.Life.Milliseconds()), Thing: d.Version.Number()}); err != nil {
		return err
	}
	defer time.AfterFunc(openLimit, func() { c.end(refuse(Expired, "the nonce was not repeated in %s", openLimit)) }).Stop()
	kind, body, err := readFrame(c.in, MaxAsk)
	if err != nil {
		return err
	}
	var o opening
	if kind != kindOpen {
		return fmt.Errorf("direct: frame %q where the session opens: %w", kind, ErrFrame)
	}
	if err := decode(body, &o); err != nil {
		return err
	}
	switch {
	case o.Version != Protocol:
		return refuse(BadRequest, "version %d of the protocol is unknown here: %d is spoken", o.Version, Protocol)
	case o.Nonce != c.nonce:
		return refuse(BadRequest, "that is the nonce of another session")
	}
	return nil
}

// beat shows that the device lives, and ends a session in which nothing happens.
func (c *session) beat() {
	t := time.NewTicker(c.s.o.Alive)
	defer t.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-t.C:
		}
		if c.idle() > c.s.o.Idle {
			c.end(refuse(Expired, "nothing was asked for in %s", c.s.o.Idle))
		} else if err := c.out.send(kindAlive, nil); err != nil {
			c.end(errGone)
		}
	}
}

func (c *session) idle() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asks) > 0 {
		return 0
	}
	return time.Since(c.heard)
}

// listen takes requests until the stream ends.
func (c *session) listen(handlers *sync.WaitGroup) error {
	for {
		kind, body, err := readFrame(c.in, MaxAsk)
		switch {
		case errors.Is(err, ErrFrame):
			return err
		case err != nil:
			return nil //nolint:nilerr // the stream is over: by the peer, the network or farewell
		}
		switch kind {
		case kindAsk:
			if err := c.take(body, handlers); err != nil {
				return err
			}
		case kindCancel:
			var id RequestID
			if err := decode(body, &id); err != nil {
				return err
			}
			c.cancel(id)
		default:
			return fmt.Errorf("direct: frame %q from the operator: %w", kind, ErrFrame)
		}
	}
}

// take begins a request, if there are not too many.
func (c *session) take(body []byte, handlers *sync.WaitGroup) error {
	q := &ask{}
	if err := decode(body, q); err != nil {
		return err
	}
	var err error
	if q.Value, err = plain(q.Value, maxLevels); err != nil {
		return err
	}
	c.mu.Lock()
	full := len(c.asks) >= c.s.o.AtOnce
	a := &asked{q: q}
	var ctx context.Context
	if !full {
		ctx, a.end = context.WithCancelCause(c.ctx)
		c.asks[a] = struct{}{}
	}
	c.heard = time.Now()
	c.mu.Unlock()
	if full {
		r := refuse(Busy, "%d requests are under way in this session", c.s.o.AtOnce)
		c.s.o.Audit.Refused(c.act(q), r)
		return c.out.send(kindResult, result{ID: q.ID, Reason: r.Reason, Detail: r.Detail})
	}
	handlers.Go(func() {
		defer a.end(nil)
		defer c.forget(a)
		c.answer(ctx, a)
	})
	return nil
}

func (c *session) forget(a *asked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asks, a)
}

// cancel ends the requests of an id; one that acts is told, and may be beyond being stopped.
func (c *session) cancel(id RequestID) {
	why := refuse(Cancelled, "as you asked")
	c.mu.Lock()
	for a := range c.asks {
		if a.q.ID == id {
			a.end(why)
		}
	}
	c.mu.Unlock()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if w := c.s.works[id]; w != nil && w.peer == c.peer {
		w.end(why)
	}
}

// review ends what the peer has lost the right to. The caller has seen that it still is a member.
func (c *session) review(f *fleet.Fleet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.asks {
		if !a.need.met(f, c.peer, c.s.o.Self) {
			a.end(refuse(NoRight, "the right to %s was taken while it was under way", a.q.Name))
		}
		if a.still != nil && !a.still(f) {
			a.end(refuse(NoRight, "the right to %s was taken meanwhile", a.q.what()))
		}
	}
}

func (c *session) act(q *ask) Act {
	return Act{Peer: c.peer, ID: q.ID, Op: q.Op, Name: clip(q.Name), Value: q.Value, Signed: q.Signed}
}
