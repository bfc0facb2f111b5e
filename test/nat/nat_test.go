// SPDX-License-Identifier: Apache-2.0

package nat_test

import (
	"os"
	"path/filepath"
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
	var addrs, any4 []string
	for _, p := range protocols {
		addrs, any4 = append(addrs, "/ip4/"+hubAddr+p), append(any4, "/ip4/0.0.0.0"+p)
	}
	hub, dev, op := id("hub"), id("dev"), id("op")
	f, err = f.Grant(fleet.Author{Key: owner}, time.Now(), fleet.Grant{Member: hub, Name: "hub", Roles: fleet.Hub, Addrs: addrs},
		fleet.Grant{Member: dev, Name: "dev", Roles: fleet.Device}, fleet.Grant{Member: op, Name: "op", Roles: fleet.Operator, Rights: fleet.Everything()})
	check(t, err)
	check(t, f.Save(file("fleet.cbor")))
	s.start("hub", hub, role{Key: file("hub"), Fleet: file("fleet.cbor"), Store: file("store"), Listen: any4, Announce: addrs})
	s.device = s.start("dev", dev, role{Key: file("dev"), Fleet: file("fleet.cbor"), Listen: any4, Device: true})
	s.operator = s.start("op", op, role{Key: file("op"), Fleet: file("fleet.cbor"), Listen: any4})
	transporttest.WaitFor(t, "the device's place at the relay", func() (bool, string) {
		return len(s.device.do(order{Do: "relays"}).Steps) > 0, ""
	})
	return s
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
	s := newSite(t, cone, cone)
	if first := s.reach(); first.Route.Direct {
		t.Log("the hole was there at once")
	}
	up := s.operator.do(order{Do: "upgrade", To: s.device.id})
	if up.Err != "" {
		t.Fatalf("no hole was punched: %s", up.Err)
	}
	t.Logf("direct after %s at %s", up.Took.Round(time.Millisecond), up.Route.Addr)
	before := s.received("hub")
	if a := s.echo(megabyte); a.Relayed {
		t.Error("the session goes through the relay although there is a direct connection")
	}
	if passed := s.received("hub") - before; passed > megabyte/50 {
		t.Errorf("%d bytes came to the relay while %d went directly", passed, 2*megabyte)
	}
}

// TestRandomPorts: two NATs that take another port for each destination. No hole can be punched; the relay carries more than libp2p's 128 KiB.
func TestRandomPorts(t *testing.T) {
	s := newSite(t, random, random)
	if a := s.reach(); a.Route.Direct {
		t.Fatalf("reached directly through two random NATs at %s: the lab is not what it should be", a.Route.Addr)
	}
	before := s.received("hub")
	if a := s.echo(megabyte); !a.Relayed {
		t.Error("the session is called direct")
	}
	if passed := s.received("hub") - before; passed < 2*megabyte {
		t.Errorf("only %d bytes came to the relay: the measure of the other test measures nothing", passed)
	}
}

// TestMovedAddress: the device's line, or the device itself, gets another address. It can be reached again without anybody's help: over QUIC the connection
// goes on, over TCP it is missed at the next keep-alive, half a minute later at most.
func TestMovedAddress(t *testing.T) {
	for name, moves := range map[string][]string{
		"line":   {"rdev", "ip addr del " + siteAddr + "/24 dev wan", "ip addr add 11.0.0.21/24 dev wan"},
		"device": {"dev", "ip addr del 10.1.0.2/24 dev eth0", "ip addr add 10.1.0.3/24 dev eth0", "ip route add default via 10.1.0.1"},
	} {
		for _, protocol := range []string{tcp, quic} {
			t.Run(name+protocol[:4], func(t *testing.T) {
				s := newSite(t, cone, cone, protocol)
				s.reach()
				s.in(moves[0], moves[1:]...)
				began := time.Now()
				for {
					a := s.operator.do(order{Do: "echo", To: s.device.id, Bytes: 1000})
					if a.Err == "" {
						break
					}
					if time.Since(began) > 4*time.Minute {
						t.Fatalf("the device cannot be reached at its new address: %s", a.Err)
					}
				}
				t.Logf("reached again after %s", time.Since(began).Round(time.Millisecond))
			})
		}
	}
}
