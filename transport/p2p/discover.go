// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
)

// Discovery on a LAN: multicast DNS (RFC 6762) with the record names of DNS-SD (RFC 6763). An unclaimed device answers, whoever looks asks from a port of its own
// and gets the answers there. It is a hint and proves nothing: an offer goes to a key, and the handshake proves the key. Members find each other alike: discoverlan.go.

const (
	askEvery  = time.Second      // while looking
	joinEvery = 20 * time.Second // a network that comes up later is joined within this
	maxFound  = 256              // devices that one Discover returns
)

// responder answers questions on the LAN. It returns false if a packet is none for it; single: the answer goes to the asker alone.
type responder func(packet []byte, index int, single bool) (answer []byte, ok bool)

// announcement answers those that ask.
type announcement struct {
	conns []groupConn
	reply responder
	log   *slog.Logger
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// announce answers until it is closed.
func announce(ctx context.Context, reply responder, log *slog.Logger) (io.Closer, error) {
	conns, err := listenGroups()
	if err != nil {
		return nil, fmt.Errorf("p2p: announcing: %w", err)
	}
	a := &announcement{conns: conns, reply: reply, log: log}
	ctx, a.stop = context.WithCancel(ctx)
	for _, c := range conns {
		a.tasks.Go(func() { a.serve(c) })
	}
	a.tasks.Go(func() { a.joinAll(ctx) })
	return a, nil
}

// announceNewcomer answers those that look for unclaimed devices. self is asked for each answer.
func announceNewcomer(ctx context.Context, self func() Found, log *slog.Logger) (io.Closer, error) {
	pace := rate.NewLimiter(10, 20) // answers, all together
	return announce(ctx, func(packet []byte, _ int, single bool) ([]byte, bool) {
		query, err := parseLook(packet)
		if err != nil || !pace.Allow() {
			return nil, false
		}
		answer, err := query.answer(self(), single)
		if err != nil {
			log.Debug("not announced", "err", err)
		}
		return answer, err == nil
	}, log)
}

// Close ends it and waits.
func (a *announcement) Close() error {
	a.stop()
	var errs []error
	for _, c := range a.conns {
		errs = append(errs, c.Close())
	}
	a.tasks.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("p2p: ending announcement: %w", err)
	}
	return nil
}

// joinAll listens on every network there is, those that come up later included.
func (a *announcement) joinAll(ctx context.Context) {
	t := time.NewTicker(joinEvery)
	defer t.Stop()
	for {
		ifs, err := lookable()
		if err != nil {
			a.log.Debug("networks not listed", "err", err)
		}
		for _, i := range ifs {
			for _, c := range a.conns {
				_ = c.join(i) // fails where it has joined already
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *announcement) serve(c groupConn) {
	buf := make([]byte, maxDNS)
	for {
		n, index, src, err := c.read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || src == nil || !onLink(src.IP, index) {
			continue
		}
		answer, ok := a.reply(buf[:n], index, src.Port != mdnsPort)
		if !ok {
			continue
		}
		to := src
		if src.Port == mdnsPort { // a full responder: it listens to the group
			to = c.group()
		}
		if err := c.send(answer, index, to); err != nil {
			a.log.Debug("not announced", "to", to, "err", err)
		}
	}
}

// Discover looks for unclaimed devices on the LANs of this machine until ctx ends, and returns those found, by key; two seconds find nearly all. The end of
// ctx is no error.
func Discover(ctx context.Context) ([]Found, error) {
	question, err := look()
	if err != nil {
		return nil, err
	}
	found := map[edge.ID]Found{}
	err = inquire(ctx, askEvery, func() ([]byte, error) { return question, nil }, func(packet []byte, _ int) bool {
		if f, err := parseFound(packet); err == nil {
			found[f.ID] = f
		}
		return len(found) < maxFound
	})
	if err != nil {
		return nil, fmt.Errorf("p2p: looking for devices: %w", err)
	}
	out := make([]Found, 0, len(found))
	for _, f := range found {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Found) int { return a.ID.Compare(b.ID) })
	return out, nil
}

// inquire asks on every network again and again, one question for each packet, and gives what comes to heard, one after the other, until that returns false or ctx ends.
// An error says that no network takes the question.
func inquire(ctx context.Context, every time.Duration, question func() ([]byte, error), heard func(packet []byte, index int) bool) error {
	conns, err := askingConns()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	var one sync.Mutex // heard
	for _, c := range conns {
		defer func() { _ = c.Close() }() // ends listen
		tasks.Go(func() { listen(ctx, c, &one, heard, cancel) })
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for first := true; ; first = false {
		if err := askOnce(conns, question); err != nil && first {
			return err
		}
		select {
		case <-ctx.Done():
			one.Lock()
			defer one.Unlock()
			return nil
		case <-t.C:
		}
	}
}

func listen(ctx context.Context, c groupConn, one *sync.Mutex, heard func([]byte, int) bool, end func()) {
	buf := make([]byte, maxDNS)
	for ctx.Err() == nil {
		n, index, src, err := c.read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || src == nil || !onLink(src.IP, index) {
			continue // nothing fails a bound socket for long
		}
		one.Lock()
		if ctx.Err() == nil && !heard(buf[:n], index) {
			end()
		}
		one.Unlock()
	}
}

func askOnce(conns []groupConn, question func() ([]byte, error)) error {
	ifs, err := lookable()
	asked, errs := 0, []error{err}
	for _, i := range ifs {
		for _, c := range conns {
			packet, err := question()
			if err != nil {
				return err
			}
			if err := c.ask(packet, i); err != nil {
				errs = append(errs, err)
			} else {
				asked++
			}
		}
	}
	if asked == 0 {
		return fmt.Errorf("no network takes the question: %w", errors.Join(errs...))
	}
	return nil
}

// reachable leaves out what others on a LAN cannot use, unless there is nothing else.
func reachable(addrs []string) []string {
	out := slices.DeleteFunc(slices.Clone(addrs), func(a string) bool {
		return strings.HasPrefix(a, "/ip4/127.") || strings.HasPrefix(a, "/ip6/::1/")
	})
	if len(out) == 0 {
		return addrs
	}
	return out
}
