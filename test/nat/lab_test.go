// SPDX-License-Identifier: Apache-2.0

// Package nat puts members of a fleet behind real NATs: Linux network namespaces whose routers masquerade with nftables. No packet leaves the machine; the
// addresses are public ones so that the members take them for such.
package nat_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mapping is how a router chooses the outer port of a connection.
type mapping string

const (
	cone   mapping = ""              // keeps the inner port, whoever is spoken to: a hole can be punched
	random mapping = " fully-random" // another port for each destination: it cannot
)

// lab is an internet of namespaces. It belongs to one test.
type lab struct {
	t      *testing.T
	prefix string
	made   []string
	routed int
}

// newLab makes the bridge that stands for the internet.
func newLab(t *testing.T) *lab {
	t.Helper()
	need := func(why string) {
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Geteuid() != 0 {
		need("network namespaces need root: run this test as root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			need(program + " is missing: apt-get install iproute2 nftables")
		}
	}
	l := &lab{t: t, prefix: fmt.Sprintf("sb%06x", rand.N(1<<24))}
	t.Cleanup(func() {
		for _, ns := range l.made {
			_ = exec.Command("ip", "netns", "del", ns).Run()
		}
	})
	l.namespace("inet")
	l.in("inet", "ip link add br0 type bridge", "ip link set br0 up")
	return l
}

func (l *lab) ns(name string) string { return l.prefix + name }

func (l *lab) namespace(name string) {
	l.t.Helper()
	l.run("ip", "netns", "add", l.ns(name))
	l.made = append(l.made, l.ns(name))
	l.in(name, "ip link set lo up")
}

func (l *lab) run(args ...string) string {
	l.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in runs commands in a namespace.
func (l *lab) in(name string, commands ...string) {
	l.t.Helper()
	for _, c := range commands {
		l.run(append([]string{"ip", "netns", "exec", l.ns(name)}, strings.Fields(c)...)...)
	}
}

// plug connects a namespace to the internet as wan with an address.
func (l *lab) plug(name, wan, addr string) {
	l.t.Helper()
	port := "p" + strconv.Itoa(len(l.made)) + name
	length, now := "/24", ""
	if strings.Contains(addr, ":") {
		length, now = "/64", " nodad" // without the second in which others could object
	}
	l.in(name, fmt.Sprintf("ip link add %s type veth peer name %s netns %s", wan, port, l.ns("inet")),
		"ip addr add "+addr+length+" dev "+wan+now, "ip link set "+wan+" up")
	l.in("inet", "ip link set "+port+" master br0", "ip link set "+port+" up")
}

// host puts a machine on the internet itself.
func (l *lab) host(name, addr string) {
	l.t.Helper()
	l.namespace(name)
	l.plug(name, "eth0", addr)
}

// behind puts a machine behind a router of its own, as a home or a site is.
func (l *lab) behind(name, addr string, m mapping) {
	l.t.Helper()
	l.routed++
	router, lan := "r"+name, fmt.Sprintf("10.%d.0", l.routed)
	l.namespace(router)
	l.plug(router, "wan", addr)
	l.namespace(name)
	l.in(router, fmt.Sprintf("ip link add lan type veth peer name eth0 netns %s", l.ns(name)), "ip addr add "+lan+".1/24 dev lan", "ip link set lan up",
		"sysctl -qw net.ipv4.ip_forward=1")
	l.in(name, "ip addr add "+lan+".2/24 dev eth0", "ip link set eth0 up", "ip route add default via "+lan+".1")
	l.rules(router, m)
}

// rules has a router masquerade, and drop what nobody inside has asked for.
func (l *lab) rules(router string, m mapping) {
	l.t.Helper()
	file := filepath.Join(l.t.TempDir(), router+".nft")
	text := fmt.Sprintf(`flush ruleset
table ip nat {
	chain post { type nat hook postrouting priority 100; oifname "wan" masquerade%s; }
}
table ip filter {
	chain own { type filter hook input priority 0; iifname "wan" ct state != { established, related } drop; }
	chain pass { type filter hook forward priority 0; iifname "wan" ct state != { established, related } drop; }
}
`, m)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.in(router, "nft -f "+file)
}

// received is how many bytes a machine's interface has taken in, all protocols together.
func (l *lab) received(name string) int {
	l.t.Helper()
	text := l.run("ip", "netns", "exec", l.ns(name), "cat", "/sys/class/net/eth0/statistics/rx_bytes")
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}
