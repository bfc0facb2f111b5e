// SPDX-License-Identifier: Apache-2.0

// Package rules lets a device act by itself on what its sensors give: few, plain rules of its config, which need no server and no network. A rule
// fires once when its conditions have held for long enough, and again only after they have not.
//
// Start with Parse and Check, then New; hand every reading to Engine.Offer.
package rules

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/internal/nap"
)

// What keeps a rule from doing harm when its conditions flutter, or when the rules of several devices set each other off: after bursts of firings it
// rests, and says so.
const (
	burst    = 6
	refill   = 10 * time.Second // for one firing more
	restTime = 10 * time.Minute

	atOnce   = 8                // acts under way
	actLimit = 30 * time.Second // for one try
	tries    = 3
	tryAgain = 2 * time.Second // after the first try, then four times that

	// stale is how many intervals of a sensor may pass without a reading before nobody knows what it would give.
	stale      = 4
	staleLeast = 10 * time.Second
)

// ErrFlood is noted when a rule fires too often.
var ErrFlood = errors.New("it fires too often and rests: its conditions flutter, or rules of several devices set each other off")

// ErrBusy is noted when too many acts are under way.
var ErrBusy = errors.New("too many acts are under way, this one was left out")

// Doer carries an act out; ctx has its limit. Tries of one firing have the same id, so that what was done is not done twice. It is called concurrently.
type Doer interface {
	Do(ctx context.Context, id [16]byte, a Act) error
}

// Options of an Engine. Do is required.
type Options struct {
	Do       Doer
	Interval func(sensor string) time.Duration      // of a sensor's readings; nil or 0 = not known, and nothing gets stale
	Note     func(rule string, what Act, err error) // of each act that is over, and of rules that rest (an empty Act); called concurrently, must not block
	Logger   *slog.Logger
}

// Engine judges readings. Safe for concurrent use. Close it.
type Engine struct {
	o     Options
	life  context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup
	slots chan struct{}

	mu     sync.Mutex
	closed bool
	values map[string]seen
	rules  []*state
}

// seen is the last value of a quantity and when it was read, in ms since boot.
type seen struct {
	sample edge.Sample
	mono   int64
}

type state struct {
	Rule
	since  int64 // when all conditions began to hold; -1 = they do not
	fired  bool
	pace   *rate.Limiter
	rests  time.Time
	status Status
}

// Status is how a rule gets on.
type Status struct {
	Name  string    `json:"name"`
	Text  string    `json:"text"`
	State string    `json:"state"` // waiting, holding, fired, resting
	Fired uint64    `json:"fired"`
	Last  time.Time `json:"last,omitzero"` // by this machine's clock
	Error string    `json:"error,omitempty"`
}

// New returns an engine for checked rules.
func New(rules []Rule, o Options) *Engine {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Note == nil {
		o.Note = func(string, Act, error) {}
	}
	if o.Interval == nil {
		o.Interval = func(string) time.Duration { return 0 }
	}
	e := &Engine{o: o, values: map[string]seen{}, slots: make(chan struct{}, atOnce)}
	e.life, e.stop = context.WithCancel(context.Background())
	for _, r := range rules {
		e.rules = append(e.rules, &state{Rule: r, since: -1, pace: rate.NewLimiter(rate.Every(refill), burst),
			status: Status{Name: r.Name, Text: r.Text}})
	}
	return e
}

// Close abandons what is under way and waits for it.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.tasks.Wait()
	return nil
}

// Status returns how each rule gets on.
func (e *Engine) Status() []Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Status
	for _, r := range e.rules {
		s := r.status
		switch {
		case time.Now().Before(r.rests):
			s.State = "resting"
		case r.fired:
			s.State = "fired"
		case r.since >= 0:
			s.State = "holding"
		default:
			s.State = "waiting"
		}
		out = append(out, s)
	}
	return out
}

// Offer judges what one sensor gave at one time. It does not block.
func (e *Engine) Offer(readings []edge.Reading) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(readings) == 0 {
		return
	}
	resumed := map[string]bool{} // after a silence for which nobody knows what the sensor would have given
	for _, r := range readings {
		name := r.Name()
		old, known := e.values[name]
		resumed[name] = known && e.isStale(name, r.At.Mono-old.mono)
		e.values[name] = seen{r.Sample, r.At.Mono}
	}
	for _, r := range e.rules {
		e.offer(r, resumed, readings[0].At.Mono)
	}
}

// offer judges a rule if some of what it watches has come. The caller holds mu.
func (e *Engine) offer(r *state, resumed map[string]bool, now int64) {
	watched := false
	for _, c := range r.When {
		if silent, came := resumed[c.Of]; came {
			watched = true
			if silent {
				r.since = -1
			}
		}
	}
	if watched {
		e.judge(r, now)
	}
}

// judge moves one rule on. The caller holds mu.
func (e *Engine) judge(r *state, now int64) {
	if !e.holds(r, now) {
		r.since = -1
		if r.fired {
			r.fired = false
			e.act(r, r.Otherwise)
		}
		return
	}
	if r.since < 0 {
		r.since = now
	}
	if !r.fired && now-r.since >= r.For.Milliseconds() && e.mayFire(r) {
		r.fired = true
		r.status.Fired++
		r.status.Last = time.Now()
		e.act(r, r.Then)
	}
}

// mayFire keeps a rule within its pace.
func (e *Engine) mayFire(r *state) bool {
	now := time.Now()
	if now.Before(r.rests) {
		return false
	}
	if r.pace.Allow() {
		return true
	}
	r.rests = now.Add(restTime)
	r.status.Error = ErrFlood.Error()
	e.o.Logger.Error("ALARM: a rule rests", "rule", r.Name, "for", restTime, "err", ErrFlood)
	e.o.Note(r.Name, Act{}, ErrFlood)
	return false
}

func (e *Engine) holds(r *state, now int64) bool {
	for _, c := range r.When {
		v, known := e.values[c.Of]
		if !known || e.isStale(c.Of, now-v.mono) || !c.holds(v.sample) {
			return false
		}
	}
	return true
}

func (e *Engine) isStale(name string, age int64) bool {
	sensor, _, _ := strings.Cut(name, "/")
	every := e.o.Interval(sensor)
	return every > 0 && age > max(stale*every, staleLeast).Milliseconds()
}

func (c *Condition) holds(s edge.Sample) bool {
	switch want := c.Value.(type) {
	case bool:
		return ((s.Value != 0) == want) == (c.Is == "==")
	case string:
		return (s.Text == want) == (c.Is == "==")
	case float64:
		return compare(c.Is, s.Value, want)
	}
	return false
}

func compare(operator string, a, b float64) bool {
	switch operator {
	case ">":
		return a > b
	case ">=":
		return a >= b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case "!=":
		return a != b
	}
	return a == b
}

// act begins a list of acts, which do not wait for each other. The caller holds mu.
func (e *Engine) act(r *state, list []Act) {
	for _, a := range list {
		select {
		case e.slots <- struct{}{}:
		default:
			r.status.Error = ErrBusy.Error()
			e.o.Note(r.Name, a, ErrBusy)
			continue
		}
		e.tasks.Go(func() {
			defer func() { <-e.slots }()
			e.carryOut(r, a)
		})
	}
}

// carryOut tries until it is done, the tries are over or the engine is closed.
func (e *Engine) carryOut(r *state, a Act) {
	var id [16]byte
	rand.Read(id[:])
	var err error
	pause := tryAgain
	for try := range tries {
		if try > 0 {
			if !nap.For(e.life, pause) {
				return
			}
			pause *= 4
		}
		ctx, cancel := context.WithTimeout(e.life, actLimit)
		err = e.o.Do.Do(ctx, id, a)
		cancel()
		if err == nil || e.life.Err() != nil {
			break
		}
	}
	e.mu.Lock()
	r.status.Error = ""
	if err != nil {
		r.status.Error = fmt.Sprintf("%s: %v", a, err)
	}
	e.mu.Unlock()
	if err != nil {
		e.o.Logger.Error("a rule's act failed", "rule", r.Name, "act", a.String(), "err", err)
	}
	e.o.Note(r.Name, a, err)
}

// String shows an act as it is written in a rule.
func (a Act) String() string {
	verb := "call"
	if a.Set {
		verb = "set"
	}
	words := []string{verb, a.Name}
	if a.Value != nil {
		words = append(words, fmt.Sprint(a.Value))
	}
	for _, k := range slices.Sorted(maps.Keys(a.Args)) {
		words = append(words, fmt.Sprintf("%s=%v", k, a.Args[k]))
	}
	if a.For > 0 {
		words = append(words, "for", a.For.String())
	}
	if a.Device != "" {
		words = append(words, "at", a.Device)
	}
	return strings.Join(words, " ")
}
