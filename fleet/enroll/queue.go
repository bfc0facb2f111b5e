// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Bounds of a Queue.
const (
	MaxQueue = 256                // claims, and as many approvals
	KeepFor  = 7 * 24 * time.Hour // then both are forgotten
	perAddr  = 64                 // claims that wait from one IP address (IPv6: /64): a site of that many gateways fits
)

// ErrQueueFull is returned when there is no room for a claim or an approval.
var ErrQueueFull = errors.New("the hub's queue is full: have an operator look at the claims, and try again later")

// Waiting is a claim in a queue.
type Waiting struct {
	_     struct{} `cbor:",toarray"`
	Claim Claim
	Addr  string // multiaddr from which it came
	At    int64  // ms since 1970 UTC by the hub's clock: when it came last
}

// deposit is an approval in a queue.
type deposit struct {
	_        struct{} `cbor:",toarray"`
	Approval Approval
	At       int64
}

// queued is the file.
type queued struct {
	_        struct{} `cbor:",toarray"`
	Format   uint8
	Claims   []Waiting
	Deposits []deposit
}

// Queue is a hub's durable list of those who want to become members, one claim a device, and of the approvals that wait for their devices. It
// is bounded in number and time. Safe for concurrent use.
type Queue struct {
	path string

	mu sync.Mutex
	q  queued
}

// OpenQueue reads the queue from a file, which need not be there. What waits for another fleet is left out.
func OpenQueue(path string, id journal.FleetID) (*Queue, error) {
	q := &Queue{path: path, q: queued{Format: 1}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return q, nil
	}
	if err == nil {
		err = journal.Decode(data, &q.q)
	}
	if err == nil && q.q.Format != 1 {
		err = fmt.Errorf("format %d is unknown: update this program", q.q.Format)
	}
	if err != nil {
		return nil, fmt.Errorf("enroll: reading queue %s: %w", path, err)
	}
	q.q.Claims = slices.DeleteFunc(q.q.Claims, func(w Waiting) bool { return w.Claim.Fleet != id })
	q.q.Deposits = slices.DeleteFunc(q.q.Deposits, func(d deposit) bool { return d.Approval.Fleet != id })
	return q, nil
}

// Add queues a claim; a device's newer claim takes the place of its older one. The same claim again writes nothing, so that a device that asks
// again and again wears out no card; added is false then. It is durable when Add returns nil. The error wraps ErrQueueFull.
func (q *Queue) Add(w Waiting, now time.Time) (added bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.IndexFunc(q.q.Claims, func(o Waiting) bool { return o.Claim.Device == w.Claim.Device })
	if at >= 0 && q.q.Claims[at].Claim == w.Claim {
		q.q.Claims[at].Addr, q.q.Claims[at].At = w.Addr, w.At
		return false, nil
	}
	next := q.fresh(now)
	next.Claims = slices.DeleteFunc(next.Claims, func(o Waiting) bool { return o.Claim.Device == w.Claim.Device })
	from, same := network(w.Addr), 0
	for _, o := range next.Claims {
		if network(o.Addr) == from {
			same++
		}
	}
	if len(next.Claims) >= MaxQueue || same >= perAddr {
		return false, fmt.Errorf("enroll: queueing claim of %s: %w", w.Claim.Device, ErrQueueFull)
	}
	next.Claims = append(next.Claims, w)
	if err := q.save(next); err != nil {
		return false, err
	}
	return true, nil
}

// Waiting returns the claims, oldest first.
func (q *Queue) Waiting(now time.Time) []Waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fresh(now).Claims
}

// Drop forgets the claims of devices; there reports whether there was one.
func (q *Queue) Drop(now time.Time, devices ...edge.ID) (there bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := q.fresh(now)
	n := len(next.Claims)
	next.Claims = slices.DeleteFunc(next.Claims, func(w Waiting) bool { return slices.Contains(devices, w.Claim.Device) })
	if len(next.Claims) == n {
		return false, nil
	}
	return true, q.save(next)
}

// Deposit keeps an approval for its device, durably; a newer one takes the place of an older one. The error wraps ErrQueueFull.
func (q *Queue) Deposit(a Approval, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := q.fresh(now)
	next.Deposits = slices.DeleteFunc(next.Deposits, func(d deposit) bool { return d.Approval.Device == a.Device })
	if len(next.Deposits) >= MaxQueue {
		return fmt.Errorf("enroll: keeping approval of %s: %w", a.Device, ErrQueueFull)
	}
	next.Deposits = append(next.Deposits, deposit{Approval: a, At: now.UnixMilli()})
	return q.save(next)
}

// Approval returns what waits for a device.
func (q *Queue) Approval(device edge.ID, now time.Time) (Approval, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range q.fresh(now).Deposits {
		if d.Approval.Device == device {
			return d.Approval, true
		}
	}
	return Approval{}, false
}

// fresh copies what is not too old. What seems to come from the future came before the clock was put right, and stays until the clock gets
// there and a week on: a bound that the number of places keeps anyway.
func (q *Queue) fresh(now time.Time) queued {
	old := now.Add(-KeepFor).UnixMilli()
	next := queued{Format: 1}
	for _, w := range q.q.Claims {
		if w.At > old {
			next.Claims = append(next.Claims, w)
		}
	}
	for _, d := range q.q.Deposits {
		if d.At > old {
			next.Deposits = append(next.Deposits, d)
		}
	}
	return next
}

// save makes next the queue once it is on disk.
func (q *Queue) save(next queued) error {
	enc, err := journal.Encode(next)
	if err != nil {
		return err
	}
	if err := fleet.WriteFile(q.path, enc, 0o600); err != nil {
		return err
	}
	q.q = next
	return nil
}

// network is what counts as one address in a multiaddr: /ip4/192.0.2.7/tcp/32321 is 192.0.2.7. Those without an IP address count as one.
func network(multiaddr string) netip.Prefix {
	words := strings.Split(multiaddr, "/")
	for i := 1; i+1 < len(words); i++ {
		if words[i] != "ip4" && words[i] != "ip6" {
			continue
		}
		a, err := netip.ParseAddr(words[i+1])
		if err != nil {
			break
		}
		bits := 64
		if a = a.Unmap().WithZone(""); a.Is4() {
			bits = 32
		}
		p, _ := a.Prefix(bits)
		return p
	}
	return netip.Prefix{}
}
