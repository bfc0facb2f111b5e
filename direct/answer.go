// SPDX-License-Identifier: Apache-2.0

package direct

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// need is the right that a request takes: one of these, or if there is none that the peer is a member.
type need struct {
	what   string // commanding this
	stream string // reading this stream
}

func (n need) met(f *fleet.Fleet, who, device edge.ID) bool {
	return n == need{} || n.what != "" && f.May(who, fleet.Command, device, n.what) || n.stream != "" && f.May(who, fleet.Read, device, n.stream)
}

// target is what a request is about, as the device's description has it.
type target struct {
	need   need
	input  *thing.Schema
	acts   bool
	signed bool
	still  func(*fleet.Fleet) bool // of what goes on: the peer may have some part of it still; nil = it needs no more
	also   string                  // a stream that must be readable, too
}

// find looks a request up in the description.
func (c *session) find(q *ask) (target, *Refusal) {
	d, _ := c.s.o.Thing()
	switch q.Op {
	case Describe:
		return target{}, nil
	case Get, Set:
		p, ok := d.Properties[q.Name]
		switch {
		case !ok:
			return target{}, refuse(NotThere, "this device has no property %.80q", q.Name)
		case q.Op == Get && p.ReadOnly && p.Stream != "": // a reading: for readers, whoever may command something
			return target{need: need{stream: p.Stream}}, nil
		case q.Op == Get:
			return target{need: need{q.Name, p.Stream}}, nil
		case p.ReadOnly:
			return target{}, refuse(NotThere, "%s can be read and not set", q.Name)
		}
		return target{need: need{what: q.Name}, input: &p.Schema, acts: true}, nil
	case Call:
		a, ok := d.Actions[q.Name]
		if !ok {
			return target{}, refuse(NotThere, "this device has no action %.80q", q.Name)
		}
		return target{need: need{what: q.Name}, input: a.Input, acts: !a.Safe, signed: a.Signed, also: a.Stream}, nil
	}
	switch q.Op {
	case Watch:
		return c.findWatch(d, q)
	case Subscribe:
		return c.findEvents(d, q)
	}
	return target{}, refuse(BadRequest, "operation %d is unknown here", q.Op)
}

// judge says whether a request may be done; ctx is then bounded by its deadline.
func (c *session) judge(q *ask) (target, *Refusal) {
	now := uint64(time.Since(c.began).Milliseconds())
	switch {
	case q.Deadline < now:
		return target{}, refuse(Expired, "its deadline passed %d ms ago", now-q.Deadline)
	case q.Deadline-now > uint64(MaxAhead.Milliseconds()):
		return target{}, refuse(BadRequest, "its deadline is more than %s ahead", MaxAhead)
	case len(q.Name) > maxName:
		return target{}, refuse(BadRequest, "a name of %d bytes", len(q.Name))
	}
	t, no := c.find(q)
	if no != nil {
		return t, no
	}
	f := c.s.o.Fleet()
	switch {
	case !t.need.met(f, c.peer, c.s.o.Self), t.still != nil && !t.still(f):
		return t, refuse(NoRight, "the fleet's log gives you no right to %s here", q.what())
	case t.also != "" && !f.May(c.peer, fleet.Read, c.s.o.Self, t.also):
		return t, refuse(NoRight, "the fleet's log gives you no right to read %s here", t.also)
	}
	v := q.Value
	if v == nil && t.input != nil && t.input.Type == thing.Object { // no fields need no object
		v = map[string]any{}
	}
	if err := t.input.Check(argument(q), v); err != nil {
		return t, refuse(BadArgument, "%v", err)
	}
	if t.signed {
		return t, c.checkSigned(q)
	}
	return t, nil
}

// argument is what to call the value in a message.
func argument(q *ask) string {
	if q.Op == Set {
		return q.Name
	}
	return ""
}

// checkSigned wants the peer's signature over this request, in this session.
func (c *session) checkSigned(q *ask) *Refusal {
	if len(q.Signed) == 0 {
		return refuse(NotSigned, "%s is destructive: each request is signed singly", q.Name)
	}
	payload, err := journal.OpenRecord(c.peer, TypeCommand, q.Signed)
	if err != nil {
		return refuse(NotSigned, "%v", err)
	}
	want, err := journal.Encode(command{Device: c.s.o.Self, Nonce: c.nonce, ID: q.ID, Op: q.Op, Name: q.Name, Deadline: q.Deadline, Value: q.Value})
	if err != nil || !bytes.Equal(payload, want) {
		return refuse(NotSigned, "the signature is of another request, session or device")
	}
	return nil
}

// answer judges a request, has it done and tells what came of it.
func (c *session) answer(ctx context.Context, a *asked) {
	t, no := c.judge(a.q)
	if no != nil {
		c.s.o.Audit.Refused(c.act(a.q), no)
		c.reply(a.q.ID, outcomeOf(ctx, nil, no))
		return
	}
	c.mu.Lock()
	a.need, a.still = t.need, t.still
	c.mu.Unlock()
	ctx, stop := context.WithDeadline(ctx, c.began.Add(time.Duration(a.q.Deadline)*time.Millisecond))
	defer stop()
	if !t.acts {
		c.reply(a.q.ID, c.look(ctx, a.q))
		return
	}
	out, after := c.once(ctx, a.q)
	c.reply(a.q.ID, out)
	if after != nil {
		after()
	}
}

func (c *session) reply(id RequestID, o Outcome) {
	r := result{ID: id, Reason: o.Reason, Detail: clip(o.Detail)}
	if len(o.Value) > 0 {
		if err := journal.Decode(o.Value, &r.Value); err != nil {
			r.Reason, r.Detail, r.Value = Failed, "what came of it cannot be read any more", nil
		}
	}
	if err := c.out.send(kindResult, r); err != nil {
		c.s.o.Logger.Debug("result not told", "peer", c.peer, "request", id, "err", err)
	}
}

// look does what changes nothing. It is in the audit once for each name in a session.
func (c *session) look(ctx context.Context, q *ask) Outcome {
	if q.Op == Describe {
		_, record := c.s.o.Thing()
		order := &Order{Peer: c.peer, ID: q.ID, Op: q.Op, c: c}
		_, err := order.Write(record)
		return outcomeOf(ctx, nil, err)
	}
	c.mu.Lock()
	key := q.Op.String() + " " + q.Name
	known := c.told[key]
	c.told[key] = true
	c.mu.Unlock()
	if !known {
		act := c.act(q)
		act.Looks = true
		c.s.o.Audit.Called(act)
	}
	switch q.Op {
	case Watch:
		return outcomeOf(ctx, nil, c.watch(ctx, q))
	case Subscribe:
		return outcomeOf(ctx, nil, c.tell(ctx, q))
	}
	v, err := c.s.o.Doer.Do(ctx, &Order{Peer: c.peer, ID: q.ID, Op: q.Op, Name: q.Name, Value: q.Value, c: c})
	return outcomeOf(ctx, v, err)
}

// once does what acts on the world, or tells what came of it when it was done. It goes on when the session ends: whoever asks again with its id hears the rest.
func (c *session) once(ctx context.Context, q *ask) (out Outcome, after func()) {
	d, err := digest(c.peer, q)
	if err == nil && !c.s.mayAct(c.peer) {
		err = refuse(Busy, "too many requests that act: want at most %g a second", c.s.o.Acts)
	}
	var w *work
	var life context.Context
	var mine bool
	if err == nil {
		w, life, mine, err = c.s.claim(q.ID, d, c.peer, q.Name)
	}
	switch {
	case err != nil:
		c.s.o.Audit.Refused(c.act(q), err)
		return outcomeOf(ctx, nil, err), nil
	case !mine:
		select {
		case <-w.done:
			return w.out, nil
		case <-ctx.Done():
			return outcomeOf(ctx, nil, ctx.Err()), nil
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		var stop context.CancelFunc
		life, stop = context.WithDeadline(life, deadline)
		defer stop()
	}
	defer c.s.release(q.ID, w)
	w.out, after = c.begin(life, q, d)
	return w.out, after
}

// begin notes the intent, does it, and notes what came of it. All of that is durable before it returns.
func (c *session) begin(ctx context.Context, q *ask, d [32]byte) (out Outcome, after func()) {
	act := c.act(q)
	past, err := c.s.o.Ledger.Begin(Intent{ID: q.ID, Digest: d, Peer: c.peer, Op: q.Op, Name: q.Name})
	switch {
	case err != nil:
		err = refuse(Busy, "nothing was done, since it could not be noted: %v", err)
	case past.Known && past.Digest != d:
		err = refuse(Conflict, "the request's id is that of another one")
	case past.Known && past.Ended == nil:
		err = refuse(Unknown, "it was begun before the device's last start, and nobody knows what came of it: look, and ask anew if it is still wanted")
	case past.Known:
		act.Repeat = true
		c.s.o.Audit.Called(act)
		return *past.Ended, nil
	}
	if err != nil {
		c.s.o.Audit.Refused(act, err)
		return outcomeOf(ctx, nil, err), nil
	}
	c.s.o.Audit.Called(act)
	order := &Order{Peer: c.peer, ID: q.ID, Op: q.Op, Name: q.Name, Value: q.Value, c: c}
	v, err := c.s.o.Doer.Do(ctx, order)
	out = outcomeOf(ctx, v, err)
	if err := c.s.o.Ledger.End(q.ID, out); err != nil {
		c.s.o.Logger.Error("the outcome of a request is not noted: a repetition after a restart will be told that it is unknown", "request", q.ID, "err", err)
	}
	c.s.o.Audit.Ended(act, out.err())
	return out, order.after
}

func (o Outcome) err() error {
	if o.Reason == 0 {
		return nil
	}
	return &Refusal{o.Reason, o.Detail}
}

// outcomeOf turns what Do gave into what is told and noted.
func outcomeOf(ctx context.Context, v any, err error) Outcome {
	if err == nil {
		raw, eerr := journal.Encode(v)
		switch {
		case eerr != nil:
			return Outcome{Reason: Failed, Detail: clip(eerr.Error())}
		case len(raw) > maxResult:
			return Outcome{Reason: Failed, Detail: fmt.Sprintf("it was done, and its result of %d bytes is too large to be told", len(raw))}
		}
		return Outcome{Value: raw}
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		return Outcome{Reason: r.Reason, Detail: clip(r.Detail)}
	}
	if cause, ok := errors.AsType[*Refusal](context.Cause(ctx)); ok && ctx.Err() != nil {
		return Outcome{Reason: cause.Reason, Detail: clip(cause.Detail)}
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Outcome{Reason: Cancelled, Detail: clip(fmt.Sprintf("its deadline passed while it was under way: %v", err))}
	case ctx.Err() != nil:
		return Outcome{Reason: Cancelled, Detail: clip(fmt.Sprintf("the device stopped while it was under way: %v", err))}
	}
	return Outcome{Reason: Failed, Detail: clip(err.Error())}
}

// Order is a request as a Doer sees it.
type Order struct {
	Peer  edge.ID
	ID    RequestID
	Op    Op
	Name  string
	Value any // nil, or as the description says: bool, a number, string, map[string]any

	c     *session
	after func()
}

// Progress tells how far the order is: done from 0 to 1, below 0 = not known. It waits for the peer at most as long as Options.Stall.
func (o *Order) Progress(done float64, text string) {
	p := progress{ID: o.ID, Done: 1001, Text: clip(text)}
	if done >= 0 && done <= 1 {
		p.Done = uint64(done*1000 + 0.5)
	}
	if err := o.c.out.send(kindProgress, p); err != nil {
		o.c.s.o.Logger.Debug("progress not told", "request", o.ID, "err", err)
	}
}

// Write streams bytes to the peer, before the result.
func (o *Order) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(len(p), n+maxData)]
		if err := o.c.out.send(kindData, data{ID: o.ID, Part: part}); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// After has f run once the outcome is durable and was told, as far as it could be. For what ends the program.
func (o *Order) After(f func()) { o.after = f }
