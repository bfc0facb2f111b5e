// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// Why says in plain words why a step led nowhere; "" if it led there.
func (s Step) Why() string {
	switch {
	case s.Err == nil:
		return ""
	case errors.Is(s.Err, errNoAddress):
		return "none"
	}
	var each []string
	for _, err := range causes(s.Err) {
		if text := plainly(err); !slices.Contains(each, text) {
			each = append(each, text)
		}
	}
	return strings.Join(each, ", ")
}

// causes returns why each address failed, or the error itself.
func causes(err error) []error {
	d, ok := errors.AsType[*swarm.DialError](err)
	if !ok || len(d.DialErrors) == 0 {
		return []error{err}
	}
	var out []error
	for _, e := range d.DialErrors {
		out = append(out, e.Cause)
	}
	return out
}

func plainly(err error) string {
	for _, known := range []struct {
		err  error
		text string
	}{
		{routing.ErrNotFound, "the hubs know none"},
		{swarm.ErrNoGoodAddresses, "none that this side can dial: other IP version, or nothing but a relay"},
		{syscall.ECONNREFUSED, "refused: nothing listens there"},
		{syscall.EHOSTUNREACH, "no route to it"},
		{syscall.ENETUNREACH, "no route to its network"},
		{syscall.EACCES, "a firewall here forbids it"},
		{syscall.EPERM, "a firewall here forbids it"},
		{swarm.ErrGaterDisallowedConnection, "it is no member"},
		{network.ErrNoConn, "the connection ended"},
	} {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	text := err.Error()
	for status, words := range map[pb.Status]string{
		pb.Status_NO_RESERVATION:          "it holds no place at this hub: it is off, or has no connection to it",
		pb.Status_PERMISSION_DENIED:       "this hub does not relay between these two: it knows one of them for no member",
		pb.Status_RESOURCE_LIMIT_EXCEEDED: "this hub relays as much as it may",
		pb.Status_CONNECTION_FAILED:       "the hub has a place for it, and it does not answer there",
	} {
		if strings.Contains(text, status.String()) {
			return words
		}
	}
	var net interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &net) && net.Timeout() {
		return "no answer"
	}
	return strings.Join(strings.Fields(strings.TrimPrefix(text, "p2p: ")), " ")
}

// NoHole says why a relayed connection of this node does not become direct, as far as this side can know it.
func (r NetReport) NoHole() string {
	const there = "streembitd net check on the device says how it stands there"
	switch {
	case len(r.Listen) == 0:
		return "this side does not listen, and only a port that is listened on can be the end of a hole"
	case r.UDP == MappingRandom:
		return "this side's NAT takes another port for each destination: no hole can be punched from here, unless the device can be reached directly; " + there
	case r.UDP == MappingUnknown && r.TCP == MappingUnknown:
		return "no hub has said under which address it sees this side"
	case r.UDP == MappingUnknown:
		return "this side reaches no hub over QUIC: UDP is closed here, or the hubs announce no /udp/…/quic-v1 address; holes over TCP need luck"
	}
	return fmt.Sprintf("this side could (its NAT: %s): the device's NAT takes another port for each destination, or a filter drops UDP there; %s", r.UDP, there)
}
