// SPDX-License-Identifier: Apache-2.0

// Package audit keeps a member's append-only record of what was decided and what was refused: JSON lines in a folder, each durable before
// Add returns, all together bounded.
//
// There are two sets of files, since anybody who reaches the network can make this member refuse something: refusals are limited in rate and
// have a quarter of the space, so that no stranger pushes out the record of grants.
//
// Start with Open to write and with Read to read. Whoever is root on the machine can change the files; a record that such a person cannot
// change is one that was sent elsewhere.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// Event is one line.
type Event struct {
	Time    time.Time `json:"time"`              // as this machine's clock showed it
	Synced  bool      `json:"time_synced"`       // whether that clock was known to be right
	Boot    string    `json:"boot,omitempty"`    // of the kernel, where it is known
	Seq     uint64    `json:"seq"`               // counts the lines of this folder, from 1; a gap is a line that was removed, by age or otherwise
	Event   string    `json:"event"`             // kind: grant, revoke, refused-claim, …
	Who     string    `json:"who,omitempty"`     // who did it or tried to: an id as a rule
	What    string    `json:"what,omitempty"`    // about whom or what
	Detail  string    `json:"detail,omitempty"`  // for people
	Dropped uint64    `json:"dropped,omitempty"` // refusals of this kind that were counted and not written since the line before of this kind
}

// Options of Open.
type Options struct {
	Dir    string      // made if need be, for its owner alone
	Max    int64       // bytes of all files together; 0 = DefaultMax
	Boot   string      // boot id of the kernel; "" = not known
	Synced func() bool // whether the clock is right now; nil = yes
}

// DefaultMax is the size of a full log in bytes.
const DefaultMax = 8 << 20

// ErrLocked is wrapped when another program writes to the folder.
var ErrLocked = errors.New("another program writes to this audit log")

// Limits.
const (
	maxWord   = 256 // bytes of Who and What
	maxDetail = 600 // bytes of Detail
	minMax    = 64 << 10
	burst     = 10              // refusals of one kind that are written at once …
	every     = 6 * time.Second // … and afterwards one in this time
	maxKinds  = 256             // kinds whose rate is known; the rest share one
)

// Log writes. Safe for concurrent use. Close it.
type Log struct {
	o    Options
	lock *os.File

	mu      sync.Mutex
	seq     uint64 // of the last line
	decided files
	refused files
	rates   map[string]*rate
}

// rate is how often one kind of refusal was written of late (a token bucket).
type rate struct {
	left    float64
	at      time.Time
	dropped uint64
}

// Open goes on where the folder's log ends. A last line that a power cut tore is cut off. The error wraps ErrLocked when another program has
// the log open.
func Open(o Options) (*Log, error) {
	if o.Max == 0 {
		o.Max = DefaultMax
	}
	o.Max = max(o.Max, minMax)
	if o.Synced == nil {
		o.Synced = func() bool { return true }
	}
	l := &Log{o: o, rates: map[string]*rate{}}
	l.decided = files{dir: o.Dir, prefix: decidedPrefix, max: o.Max / 4 * 3}
	l.refused = files{dir: o.Dir, prefix: refusedPrefix, max: o.Max / 4}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("audit: opening %s: %w", o.Dir, errors.Join(err, l.Close()))
	}
	return l, nil
}

func (l *Log) open() error {
	if err := os.MkdirAll(l.o.Dir, 0o700); err != nil {
		return err
	}
	var err error
	if l.lock, err = os.Open(l.o.Dir); err != nil {
		return err
	}
	err = syscall.Flock(int(l.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: stop it, or use another state folder", ErrLocked)
	}
	if err != nil {
		return err
	}
	for _, f := range []*files{&l.decided, &l.refused} {
		last, err := f.resume()
		if err != nil {
			return err
		}
		l.seq = max(l.seq, last)
	}
	return nil
}

// Add writes a line about something that was decided here: a grant, a command, a new state. It is durable when Add returns nil. Time, Seq,
// Boot and Synced are set here unless Time is given.
func (l *Log) Add(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(&l.decided, e)
}

// Refused writes a line about something that others caused and that did not happen. At most 10 of one kind are written at once, then one in 6 s;
// the next line says how many were not.
func (l *Log) Refused(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rate(&e)
	now := time.Now()
	r.left = min(burst, r.left+now.Sub(r.at).Seconds()/every.Seconds())
	r.at = now
	if r.left < 1 {
		r.dropped++
		return nil
	}
	r.left--
	e.Dropped, r.dropped = r.dropped, 0
	return l.write(&l.refused, e)
}

// rate finds the event's kind. Kinds are the program's own words; should one come from outside after all, the table stays small.
func (l *Log) rate(e *Event) *rate {
	r := l.rates[e.Event]
	if r == nil && len(l.rates) >= maxKinds {
		e.Event = "refused"
		r = l.rates[e.Event]
	}
	if r == nil {
		r = &rate{left: burst, at: time.Now()}
		l.rates[e.Event] = r
	}
	return r
}

func (l *Log) write(f *files, e Event) error {
	if l.lock == nil {
		return fmt.Errorf("audit: writing: %w", os.ErrClosed)
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time, e.Synced, e.Boot, e.Seq = e.Time.UTC().Truncate(time.Millisecond), l.o.Synced(), l.o.Boot, l.seq+1
	e.Who, e.What, e.Detail = clip(e.Who, maxWord), clip(e.What, maxWord), clip(e.Detail, maxDetail)
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit: writing: %w", err)
	}
	if err := f.append(e.Seq, append(line, '\n')); err != nil {
		return fmt.Errorf("audit: writing: %w", err)
	}
	l.seq = e.Seq
	return nil
}

// clip shortens s to at most n bytes of whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Close writes down what was counted and not written, and lets others open the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	var errs []error
	for kind, r := range l.rates {
		if r.dropped > 0 {
			errs = append(errs, l.write(&l.refused, Event{Event: kind, Detail: "not written one by one", Dropped: r.dropped}))
		}
	}
	errs = append(errs, l.decided.close(), l.refused.close(), l.lock.Close())
	l.lock = nil
	return errors.Join(errs...)
}
