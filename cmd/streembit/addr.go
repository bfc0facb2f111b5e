// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/streembit/edge"
)

// checkAddr reads a hub's multiaddr and drops a trailing /p2p part, which the grant says anyway. It accepts what a member can
// dial: an address or a name, then TCP or QUIC. The multiaddr library stays inside transport/p2p, and a grant with a typing
// error would reach every member.
func checkAddr(addr string, id edge.ID) (string, error) {
	bare, peer, named := strings.Cut(addr, "/p2p/")
	if named && peer != id.String() {
		return "", fmt.Errorf("--addr %q names another member than %s", addr, id)
	}
	parts := strings.Split(bare, "/")
	if len(parts) < 5 || parts[0] != "" || !validHost(parts[1], parts[2]) || !validPort(parts[3:]) {
		return "", fmt.Errorf("--addr %q: want for example /ip4/192.0.2.7/tcp/32321 or /dns4/hub.example/udp/32321/quic-v1", addr)
	}
	return bare, nil
}

func validHost(kind, host string) bool {
	ip, err := netip.ParseAddr(host)
	switch kind {
	case "ip4":
		return err == nil && ip.Is4()
	case "ip6":
		return err == nil && ip.Is6() && ip.Zone() == ""
	case "dns", "dns4", "dns6":
		return err != nil && host != ""
	}
	return false
}

// validPort reads tcp/PORT or udp/PORT/quic-v1.
func validPort(p []string) bool {
	port, err := strconv.ParseUint(p[1], 10, 16)
	tcp := len(p) == 2 && p[0] == "tcp"
	quic := len(p) == 3 && p[0] == "udp" && p[2] == "quic-v1"
	return err == nil && port != 0 && (tcp || quic)
}
