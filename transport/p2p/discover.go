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

	"golang.org/x/net/ipv4"
	"golang.org/x/time/rate"

	"github.com/streembit/edge"
)

// Discovery on a LAN: multicast DNS (RFC 6762) with the record names of DNS-SD (RFC 6763), IPv4 only. An unclaimed device answers, whoever looks asks from a
// port of its own and gets the answers there. It is a hint and proves nothing: an offer goes to a key, and the handshake proves the key.
func mdnsGroup() *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: mdnsPort} }

const mdnsPort = 5353

const (
	askEvery  = time.Second      // while looking
	joinEvery = 20 * time.Second // a network that comes up later is joined within this
	maxFound  = 256              // devices that one Discover returns
)

// lookable returns the interfaces on which devices may be: all that are up and have an IPv4 address, loopback for those on this machine.
func lookable() ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("p2p: listing network interfaces: %w", err)
	}
	return slices.DeleteFunc(all, func(i net.Interface) bool {
		return i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagMulticast|net.FlagLoopback) == 0 || len(prefixes(i)) == 0
	}), nil
}

func prefixes(i net.Interface) []*net.IPNet {
	addrs, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []*net.IPNet
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			out = append(out, n)
		}
	}
	return out
}

// announcement answers those that look for devices.
type announcement struct {
	conn  *net.UDPConn
	self  func() Found
	log   *slog.Logger
	rate  *rate.Limiter // answers, all together
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// announce answers until it is closed. self is asked for each answer.
func announce(ctx context.Context, self func() Found, log *slog.Logger) (io.Closer, error) {
	ifs, err := lookable()
	if err != nil || len(ifs) == 0 {
		return nil, fmt.Errorf("p2p: announcing: %w", errors.Join(errors.New("no network"), err))
	}
	conn, err := net.ListenMulticastUDP("udp4", &ifs[0], mdnsGroup()) // shares the port with other responders
	if err != nil {
		return nil, fmt.Errorf("p2p: announcing: %w", err)
	}
	a := &announcement{conn: conn, self: self, log: log, rate: rate.NewLimiter(10, 20)}
	pc := ipv4.NewPacketConn(conn)
	if err := errors.Join(pc.SetControlMessage(ipv4.FlagInterface, true), pc.SetMulticastLoopback(true)); err != nil {
		return nil, fmt.Errorf("p2p: announcing: %w", errors.Join(err, conn.Close()))
	}
	ctx, a.stop = context.WithCancel(ctx)
	a.tasks.Go(func() { a.joinAll(ctx, pc) })
	a.tasks.Go(func() { a.serve(pc) })
	return a, nil
}

// Close ends it and waits.
func (a *announcement) Close() error {
	a.stop()
	err := a.conn.Close()
	a.tasks.Wait()
	if err != nil {
		return fmt.Errorf("p2p: ending announcement: %w", err)
	}
	return nil
}

// joinAll listens on every network there is, those that come up later included.
func (a *announcement) joinAll(ctx context.Context, pc *ipv4.PacketConn) {
	t := time.NewTicker(joinEvery)
	defer t.Stop()
	for {
		ifs, err := lookable()
		if err != nil {
			a.log.Debug("networks not listed", "err", err)
		}
		for _, i := range ifs {
			_ = pc.JoinGroup(&i, mdnsGroup()) // fails where it has joined already
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *announcement) serve(pc *ipv4.PacketConn) {
	buf := make([]byte, maxDNS)
	for {
		n, cm, from, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		src, ok := from.(*net.UDPAddr)
		if err != nil || !ok || cm == nil || !onLink(src.IP, cm.IfIndex) {
			continue
		}
		query, err := parseLook(buf[:n])
		if err != nil || !a.rate.Allow() {
			continue
		}
		answer, err := query.answer(a.self(), src.Port != mdnsPort)
		if err != nil {
			a.log.Debug("not announced", "err", err)
			continue
		}
		to := src
		if src.Port == mdnsPort { // a full responder: it listens to the group
			to = mdnsGroup()
		}
		if _, err := pc.WriteTo(answer, &ipv4.ControlMessage{IfIndex: cm.IfIndex}, to); err != nil {
			a.log.Debug("not announced", "to", to, "err", err)
		}
	}
}

// onLink keeps answers from going to where a forged address points (RFC 6762 section 11).
func onLink(ip net.IP, index int) bool {
	i, err := net.InterfaceByIndex(index)
	return err == nil && slices.ContainsFunc(prefixes(*i), func(p *net.IPNet) bool { return p.Contains(ip) })
}

// Discover looks for unclaimed devices on the LANs of this machine until ctx ends, and returns those found, by key; two seconds find nearly all. The end of
// ctx is no error.
func Discover(ctx context.Context) ([]Found, error) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, fmt.Errorf("p2p: looking for devices: %w", err)
	}
	defer conn.Close()
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	sent := make(chan error, 1)
	asking.Go(func() { lookAround(ctx, conn, sent) })
	if err := <-sent; err != nil {
		return nil, err
	}
	found := map[edge.ID]Found{}
	buf := make([]byte, maxDNS)
	for ctx.Err() == nil && len(found) < maxFound {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			continue // the deadline that the end of ctx sets; nothing else fails a bound socket for long
		}
		if f, err := parseFound(buf[:n]); err == nil {
			found[f.ID] = f
		}
	}
	out := make([]Found, 0, len(found))
	for _, f := range found {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Found) int { return a.ID.Compare(b.ID) })
	return out, nil
}

// lookAround asks on every network again and again; sent gets the outcome of the first time.
func lookAround(ctx context.Context, conn *net.UDPConn, sent chan<- error) {
	pc := ipv4.NewPacketConn(conn)
	t := time.NewTicker(askEvery)
	defer t.Stop()
	for {
		err := lookOnce(pc)
		if sent != nil {
			sent <- err
			sent = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func lookOnce(pc *ipv4.PacketConn) error {
	query, err := look()
	if err != nil {
		return err
	}
	ifs, err := lookable()
	asked, errs := 0, []error{err}
	for _, i := range ifs {
		err := pc.SetMulticastInterface(&i)
		if err == nil {
			_, err = pc.WriteTo(query, nil, mdnsGroup())
		}
		if err == nil {
			asked++
		} else {
			errs = append(errs, fmt.Errorf("%s: %w", i.Name, err))
		}
	}
	if asked == 0 {
		return fmt.Errorf("p2p: looking for devices: no network takes the question: %w", errors.Join(errs...))
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
