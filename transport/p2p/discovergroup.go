// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const mdnsPort = 5353

// The two groups of multicast DNS.
func mdnsGroup() *net.UDPAddr  { return &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: mdnsPort} }
func mdnsGroup6() *net.UDPAddr { return &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: mdnsPort} }

// groupConn is a UDP socket of one IP version that knows from which network a packet came; one of v4 and v6 is nil.
type groupConn struct {
	*net.UDPConn
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
}

// newGroupConn takes the socket over, and closes it if it cannot be used.
func newGroupConn(c *net.UDPConn, is6 bool) (groupConn, error) {
	g := groupConn{UDPConn: c}
	var err error
	if is6 {
		g.v6 = ipv6.NewPacketConn(c)
		err = errors.Join(g.v6.SetControlMessage(ipv6.FlagInterface, true), g.v6.SetMulticastLoopback(true))
	} else {
		g.v4 = ipv4.NewPacketConn(c)
		err = errors.Join(g.v4.SetControlMessage(ipv4.FlagInterface, true), g.v4.SetMulticastLoopback(true))
	}
	if err != nil {
		return g, errors.Join(err, c.Close())
	}
	return g, nil
}

// listenGroups listens to the groups of both versions, those that this machine has; the port is shared with other responders.
func listenGroups() ([]groupConn, error) {
	ifs, err := lookable()
	if err != nil || len(ifs) == 0 {
		return nil, errors.Join(errors.New("no network"), err)
	}
	return bothVersions(func(network string, is6 bool) (*net.UDPConn, error) {
		group := mdnsGroup()
		if is6 {
			group = mdnsGroup6()
		}
		return net.ListenMulticastUDP(network, firstOf(ifs, is6), group)
	})
}

// bothVersions opens a socket of IPv4 and one of IPv6; the error is that of both, when neither opens.
func bothVersions(open func(network string, is6 bool) (*net.UDPConn, error)) (out []groupConn, err error) {
	var errs []error
	for _, is6 := range []bool{false, true} {
		network := "udp4"
		if is6 {
			network = "udp6"
		}
		c, err := open(network, is6)
		var g groupConn
		if err == nil {
			g, err = newGroupConn(c, is6)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, g)
	}
	if len(out) == 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// firstOf returns a network on which a version is spoken: the group must be joined on one at the start, and on the others later.
func firstOf(ifs []net.Interface, is6 bool) *net.Interface {
	for i := range ifs {
		if slices.ContainsFunc(prefixes(ifs[i]), func(p *net.IPNet) bool { return (p.IP.To4() == nil) == is6 }) {
			return &ifs[i]
		}
	}
	return &ifs[0]
}

// askingConns returns sockets to ask from, with ports of their own.
func askingConns() ([]groupConn, error) {
	return bothVersions(func(network string, _ bool) (*net.UDPConn, error) { return net.ListenUDP(network, nil) })
}

func (g groupConn) group() *net.UDPAddr {
	if g.v6 != nil {
		return mdnsGroup6()
	}
	return mdnsGroup()
}

// join fails where it has joined already.
func (g groupConn) join(i net.Interface) error {
	if g.v6 != nil {
		return g.v6.JoinGroup(&i, g.group())
	}
	return g.v4.JoinGroup(&i, g.group())
}

// read returns a packet and the number of the network on which it came; from is nil for one of which that is not known.
func (g groupConn) read(buf []byte) (n, index int, from *net.UDPAddr, err error) {
	var src net.Addr
	if g.v6 != nil {
		var cm *ipv6.ControlMessage
		if n, cm, src, err = g.v6.ReadFrom(buf); cm != nil {
			index = cm.IfIndex
		}
	} else {
		var cm *ipv4.ControlMessage
		if n, cm, src, err = g.v4.ReadFrom(buf); cm != nil {
			index = cm.IfIndex
		}
	}
	if err != nil {
		return 0, 0, nil, err
	}
	if index > 0 {
		from, _ = src.(*net.UDPAddr)
	}
	return n, index, from, nil
}

// send sends a packet out of one network.
func (g groupConn) send(packet []byte, index int, to *net.UDPAddr) (err error) {
	if g.v6 != nil {
		_, err = g.v6.WriteTo(packet, &ipv6.ControlMessage{IfIndex: index}, to)
	} else {
		_, err = g.v4.WriteTo(packet, &ipv4.ControlMessage{IfIndex: index}, to)
	}
	return err
}

// ask sends a question to the group on one network.
func (g groupConn) ask(question []byte, i net.Interface) error {
	if !slices.ContainsFunc(prefixes(i), func(p *net.IPNet) bool { return (p.IP.To4() == nil) == (g.v6 != nil) }) {
		return fmt.Errorf("%s: no address", i.Name)
	}
	var err error
	if g.v6 != nil {
		err = g.v6.SetMulticastInterface(&i)
	} else {
		err = g.v4.SetMulticastInterface(&i)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	if _, err := g.WriteTo(question, g.group()); err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	return nil
}

// lookable returns the interfaces on which others may be: all that are up and have an address, loopback for those on this machine.
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
		if n, ok := a.(*net.IPNet); ok {
			out = append(out, n)
		}
	}
	return out
}

// onLink reports whether an address is of a network itself: answers must not go where a forged one points (RFC 6762 section 11). On loopback all addresses of this
// machine are: Linux sends multicast there from another network's address.
func onLink(ip net.IP, index int) bool {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return false
	}
	if slices.ContainsFunc(prefixes(*i), func(p *net.IPNet) bool { return p.Contains(ip) }) {
		return true
	}
	if i.Flags&net.FlagLoopback == 0 {
		return false
	}
	own, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(own, func(a net.Addr) bool { p, ok := a.(*net.IPNet); return ok && p.IP.Equal(ip) })
}
