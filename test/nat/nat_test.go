// SPDX-License-Identifier: Apache-2.0

package nat_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/transporttest"
)

const (
	hubAddr      = "11.0.0.10"
	siteAddr     = "11.0.0.20"
	operatorAddr = "11.0.0.30"
	megabyte     = 1 << 20

	tcp  = "/tcp/32321"
	quic = "/udp/32321/quic-v1"
)

// own4 and own6 are where members listen.
func own4(protocols ...string) (out []string) {
	for _, p := range protocols {
		out = append(out, "/ip4/0.0.0.0"+p)
	}
	return out
}

func own6(protocols ...string) (out []string) {
	for _, p := range protocols {
		out = append(out, "/ip6/::"+p)
	}
	return out
}

// site is a fleet of one hub on the internet, a device and an operator, each behind a NAT of its own.
type site struct {
	*lab
	device, operator *member
}

func newSite(t *testing.T, device, operator mapping, protocols ...string) *site {
	t.Helper()
	t.Parallel()
	if len(protocols) == 0 {
		protocols = []string{tcp, quic}
	}
	s := &site{lab: newLab(t)}
	s.host("hub", hubAddr)
	s.behind("dev", siteAddr, device)
	s.behind("op", operatorAddr, operator)
	var addrs []string
	for _, p := range protocols {
		addrs = append(addrs, "/ip4/"+hubAddr+p)
	}
	s.found(addrs, own4(protocols...))
	return s
}

// keepAlive is shorter than the usual one, so that these tests are.
const keepAlive = 3 * time.Second

// found makes the fleet and starts its members. The hub listens under addrs; without any there is no hub.
func (s *site) found(addrs, listen []string) {
	t := s.t
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	id := func(name string) edge.ID {
		key, text, err := fleet.NewKey()
		check(t, err)
		check(t, os.WriteFile(file(name), text, 0o600))
		return key.ID()
	}
	owner, _, err := fleet.NewKey()
	check(t, err)
	spare, _, err := fleet.NewKey()
	check(t, err)
	recovery, err := journal.GenerateReaderKey()
	check(t, err)
	f, err := fleet.Found(fleet.Founding{Name: "nat", Owner: owner, Spare: spare.ID(), Recovery: recovery.Public()}, time.Now())
	check(t, err)
	hub, dev, op := id("hub"), id("dev"), id("op")
	grants := []fleet.Grant{{Member: dev, Name: "dev", Roles: fleet.Device}, {Member: op, Name: "op", Roles: fleet.Operator, Rights: fleet.Everything()}}
	if len(addrs) > 0 {
		grants = append(grants, fleet.Grant{Member: hub, Name: "hub", Roles: fleet.Hub, Addrs: addrs})
	}
	f, err = f.Grant(fleet.Author{Key: owner}, time.Now(), grants...)
	check(t, err)
	check(t, f.Save(file("fleet.cbor")))
	member := func(name string) role {
		return role{Key: file(name), Fleet: file("fleet.cbor"), Listen: listen, KeepAlive: keepAlive, MDNS: len(addrs) == 0}
	}
	device := member("dev")
	device.Device = true
	if len(addrs) > 0 {
		r := member("hub")
		r.Store, r.Announce = file("store"), addrs
		s.start("hub", hub, r)
	}
	s.device, s.operator = s.start("dev", dev, device), s.start("op", op, member("op"))
	if len(addrs) == 0 {
		return
	}
	transporttest.WaitFor(t, "the device's place at the relay", func() (bool, string) {
		return len(s.device.do(order{Do: "relays"}).Steps) > 0, ""
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reach has the operator reach the device by whatever way.
func (s *site) reach() answer {
	s.t.Helper()
	a := s.operator.do(order{Do: "reach", To: s.device.id})
	if a.Err != "" {
		s.t.Fatalf("the device cannot be reached: %s", a.Err)
	}
	s.t.Logf("reached in %s at %s, direct: %t", a.Took.Round(time.Millisecond), a.Route.Addr, a.Route.Direct)
	for _, step := range a.Steps {
		s.t.Log("tried ", step)
	}
	return a
}

func (s *site) echo(bytes int) answer {
	s.t.Helper()
	a := s.operator.do(order{Do: "echo", To: s.device.id, Bytes: bytes})
	if a.Err != "" {
		s.t.Fatalf("echo of %d bytes: %s", bytes, a.Err)
	}
	return a
}

// TestHolePunched: two cone-like NATs. The first connection goes through the relay, and becomes a direct one; then nothing that is said passes the relay.
func TestHolePunched(t *testing.T) {
	t.Parallel()
	for name, protocols := range map[string][]string{"QUIC and TCP": {tcp, quic}, "QUIC alone": {quic}, "TCP alone": {tcp}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, cone, cone, protocols...)
			began := time.Now()
			if first := s.reach(); first.Route.Direct {
				t.Log("the hole was there at once")
			}
			up := s.operator.do(order{Do: "upgrade", To: s.device.id})
			if up.Err != "" {
				t.Fatalf("no hole was punched: %s", up.Err)
			}
			t.Logf("direct %s after the first dial, at %s", time.Since(began).Round(time.Millisecond), up.Route.Addr)
			s.passesHub(t, false)
		})
	}
}

// passesHub sends a megabyte and counts all that the hub's interface took in meanwhile: a capture that has no room for the payload.
func (s *site) passesHub(t *testing.T, want bool) {
	t.Helper()
	before := s.received("hub")
	began := time.Now()
	a := s.echo(megabyte)
	took, passed := time.Since(began), s.received("hub")-before
	t.Logf("%d bytes there and back in %s; %d bytes came to the hub", megabyte, took.Round(time.Millisecond), passed)
	switch {
	case a.Relayed != want:
		t.Errorf("relayed: %t, want %t", a.Relayed, want)
	case want && passed < 2*megabyte:
		t.Errorf("only %d bytes came to the hub: this measures nothing", passed)
	case !want && passed > megabyte/50:
		t.Errorf("%d bytes came to the hub while %d went directly", passed, 2*megabyte)
	}
}

// TestRandomPorts: two NATs that take another port for each destination. No hole can be punched; the relay carries more than libp2p's 128 KiB.
func TestRandomPorts(t *testing.T) {
	s := newSite(t, random, random)
	if a := s.reach(); a.Route.Direct {
		t.Fatalf("reached directly through two random NATs at %s: the lab is not what it should be", a.Route.Addr)
	}
	s.passesHub(t, true)
}

// TestRelayed_TCPAlone: the same over TCP.
func TestRelayed_TCPAlone(t *testing.T) {
	s := newSite(t, random, random, tcp)
	if a := s.reach(); a.Route.Direct {
		t.Fatalf("reached directly at %s", a.Route.Addr)
	}
	s.passesHub(t, true)
}

// TestIPv6: hub and members have IPv6 alone, without any NAT, and reach each other directly.
func TestIPv6(t *testing.T) {
	t.Parallel()
	s := &site{lab: newLab(t)}
	for i, name := range []string{"hub", "dev", "op"} {
		s.host(name, fmt.Sprintf("2001:db8:77::%d", 10+i))
	}
	s.found([]string{"/ip6/2001:db8:77::10" + tcp, "/ip6/2001:db8:77::10" + quic}, own6(tcp, quic))
	s.reach()
	up := s.operator.do(order{Do: "upgrade", To: s.device.id})
	if up.Err != "" || !strings.HasPrefix(up.Route.Addr, "/ip6/") {
		t.Fatalf("not direct: %s, %s", up.Route.Addr, up.Err)
	}
	s.passesHub(t, false)
}

// TestLAN: two members on one network, with neither hub nor internet, over each IP version.
func TestLAN(t *testing.T) {
	t.Parallel()
	for name, net := range map[string]struct {
		prefix string
		listen []string
	}{"IPv4": {"10.77.0.", own4(tcp, quic)}, "IPv6": {"fd77::", own6(tcp, quic)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &site{lab: newLab(t)}
			for i, name := range []string{"dev", "op"} {
				s.host(name, fmt.Sprintf("%s%d", net.prefix, 10+i))
			}
			s.found(nil, net.listen)
			var a answer
			transporttest.WaitFor(t, "the device is reached", func() (bool, string) {
				a = s.operator.do(order{Do: "reach", To: s.device.id})
				return a.Err == "", a.Err
			})
			if !a.Route.Direct || !strings.Contains(a.Steps[len(a.Steps)-1], "local network") {
				t.Errorf("%+v", a)
			}
			t.Logf("reached in %s at %s", a.Took.Round(time.Millisecond), a.Route.Addr)
			if e := s.echo(megabyte); e.Relayed {
				t.Error("relayed")
			}
		})
	}
}

// TestSleep: the device, or who wants to reach it, is stopped for longer than anybody waits and goes on. The device can be reached again without anybody's help.
func TestSleep(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"device", "operator"} {
		for _, protocol := range []string{tcp, quic} {
			t.Run(who+protocol[:4], func(t *testing.T) {
				s := newSite(t, random, random, protocol)
				s.reach()
				s.echo(1000)
				sleeper := s.device
				if who == "operator" {
					sleeper = s.operator
				}
				sleeper.signal(syscall.SIGSTOP)
				time.Sleep(sleepFor(t)) // the sleep itself is what is tested
				sleeper.signal(syscall.SIGCONT)
				t.Logf("reached again %s after it woke", s.untilEcho(t))
			})
		}
	}
}

// sleepVariable makes TestSleep longer: "90s" is longer than all keep-alives.
const sleepVariable = "STREEMBIT_TEST_SLEEP"

func sleepFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(sleepVariable)
	if text == "" {
		return 4 * keepAlive
	}
	d, err := time.ParseDuration(text)
	check(t, err)
	return d
}

// untilEcho has the operator speak with the device again and again until that works.
func (s *site) untilEcho(t *testing.T) time.Duration {
	t.Helper()
	for began := time.Now(); ; {
		a := s.operator.do(order{Do: "echo", To: s.device.id, Bytes: 1000})
		if a.Err == "" {
			return time.Since(began).Round(time.Millisecond)
		}
		if time.Since(began) > 4*time.Minute {
			t.Fatalf("the device cannot be reached any more: %s", a.Err)
		}
	}
}

// TestMovedAddress: the device's line, or the device itself, gets another address. It can be reached again without anybody's help: over QUIC the connection
// goes on, over TCP it is missed at the next keep-alive.
func TestMovedAddress(t *testing.T) {
	t.Parallel()
	for name, moves := range map[string][]string{
		"line":   {"rdev", "ip addr del " + siteAddr + "/24 dev wan", "ip addr add 11.0.0.21/24 dev wan"},
		"device": {"dev", "ip addr del 10.1.0.2/24 dev eth0", "ip addr add 10.1.0.3/24 dev eth0", "ip route add default via 10.1.0.1"},
	} {
		for _, protocol := range []string{tcp, quic} {
			t.Run(name+protocol[:4], func(t *testing.T) {
				s := newSite(t, cone, cone, protocol)
				s.reach()
				s.in(moves[0], moves[1:]...)
				t.Logf("reached again after %s", s.untilEcho(t))
			})
		}
	}
}
