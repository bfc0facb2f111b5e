// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

// gateways is how many devices stand behind one address.
const gateways = 20

// TestSite_TwentyGatewaysBehindOneAddress: a site's gateways are switched on together, with a token on each card. All are enrolled and publish, and all come back after
// the hub's restart, with the hub's own limits for one address.
func TestSite_TwentyGatewaysBehindOneAddress(t *testing.T) {
	o := newOffice(t, swarm.Bare(t), "lab")
	o.at = oneAddress(t)
	hub := o.addHub("hub0")
	o.withReader(hub)
	token := o.token("--uses", fmt.Sprint(gateways), "--expires", "1h", "--executor", "hub0", "--site", "cellar")
	var site []*swarm.Member
	for i := range gateways {
		site = append(site, o.withToken(fmt.Sprintf("gateway%d", i), token))
	}
	began := time.Now()
	phase := func(what string) { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }
	o.Start(site...)
	phase("all run")
	for i, m := range site {
		o.awaitStanding(m, "member")
		if i == 0 || i == gateways/2 {
			phase(fmt.Sprintf("%s is enrolled", m.Name))
		}
	}
	phase("all are enrolled")
	for _, m := range site {
		o.awaitPublished(m)
	}
	phase("all publish")
	requireOneAddress(t, o, hub)

	o.Kill(hub)
	o.Start(hub)
	phase("the hub is back")
	for _, m := range site {
		o.awaitPublished(m)
	}
	phase("all publish again")
	requireOneAddress(t, o, hub)
	if text := hub.Log.String(); strings.Contains(text, "panic") {
		t.Errorf("the hub: %s", hub.Log.Tail(5))
	}
}

// oneAddress returns an address of this machine for which connections are counted, which they are not for loopback.
func oneAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Log("this machine has no address but loopback's: the limit of connections for one address is not reached")
	return "127.0.0.1"
}

// requireOneAddress makes sure that the hub sees what is to be shown: as many members as there are gateways, from one address.
func requireOneAddress(t *testing.T, o *office, hub *swarm.Member) {
	t.Helper()
	v, err := o.Status(hub)
	must(t, err)
	members := map[string]string{}
	for _, p := range v["peers"].([]any) {
		p := p.(map[string]any)
		if p["Member"] == true {
			members[p["ID"].(string)] = strings.Split(p["Addr"].(string), "/")[2]
		}
	}
	if len(members) < gateways {
		t.Errorf("the hub is connected with %d members, want %d", len(members), gateways)
	}
	for id, ip := range members {
		if ip != oneAddress(t) {
			t.Errorf("%s comes from %s", id, ip)
		}
	}
}
