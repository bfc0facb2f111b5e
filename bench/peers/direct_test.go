// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge/bench/peers/load"
)

// micros is the median of a run in µs.
func micros(r run) float64 { return float64(r.P50.Nanoseconds()) / 1e3 }

// benchCommand asks for a value and waits for it, one request at a time on what is open already: of a real streembitd, directly; of a responder, by a NATS server.
// Beside it, a command by ssh, which opens a connection each time.
func benchCommand(b *testing.B, e extent, r *report) {
	s := newSwarm(b, 1, "[[sensor]]\nname = \"machine\"\ndriver = \"host\"\ninterval = \"1s\"\n")
	s.Start(append(s.Hubs, s.Device)...)
	ours := startClient(b, load.Spec{Role: "commander", States: []string{s.Reader.State}, Fleet: fleetFile(s)}, nil)
	server := jetStream(b, r, 1, "")
	startClient(b, load.Spec{Role: "responder", Addr: server.addr, CA: server.ca}, nil)
	theirs := startClient(b, load.Spec{Role: "requester", Addr: server.addr, CA: server.ca}, nil)
	n := e.of(4000, 1)
	ssh, why := openSSH(b)
	var mine, peer, shell []float64
	for range e.rounds {
		mine = append(mine, micros(ours.do(load.Task{Do: "ask", Readings: n})))
		peer = append(peer, micros(theirs.do(load.Task{Do: "ask", Readings: n})))
		if why == nil {
			shell = append(shell, float64(ssh(b, 10).Nanoseconds())/1e3)
		}
	}
	r.judge(goal{what: "command RTT p50, open session", load: "a value of streembitd, TCP and Noise", ours: spreadOf(slices.Clone(mine)...),
		peer: "NATS request, TLS", theirs: spreadOf(peer...), unit: "µs", aim: 0.5})
	if why != nil {
		r.note("SKIPPED, %s: ssh: %v", b.Name(), why)
		return
	}
	r.judge(goal{what: "command RTT p50, open session", load: "a value of streembitd, TCP and Noise", ours: spreadOf(mine...),
		peer: "ssh host true", theirs: spreadOf(shell...), unit: "µs", aim: 1.0 / 40})
}

// benchLive measures how long a reading is on its way from the device that takes it to who watches, each in a process of its own: where readings come thick and fast, and
// where each finds all processes asleep.
func benchLive(b *testing.B, e extent, r *report) {
	s := newSwarm(b, 1, "")
	s.Start(s.Hubs...)
	since := time.Now()
	feeder := startClient(b, load.Spec{Role: "feeder", States: []string{s.Device.State}, Fleet: fleetFile(s), Began: since}, nil)
	watcher := startClient(b, load.Spec{Role: "watcher", States: []string{s.Reader.State}, Fleet: fleetFile(s), Began: since}, nil)
	broker := mosquitto(b, r)
	pusher := startClient(b, load.Spec{Role: "pusher", Addr: broker.addr, CA: broker.ca, Began: since}, nil)
	subscriber := startClient(b, load.Spec{Role: "subscriber", Addr: broker.addr, CA: broker.ca, Began: since}, nil)
	push := func(from, to *client, task load.Task) float64 {
		to.begin(task)
		from.do(task)
		return micros(to.finish())
	}
	for _, t := range []load.Task{{Do: "push", Pace: 300 * time.Microsecond, Readings: e.of(5000, 1)}, {Do: "push", Pace: 5 * time.Millisecond, Readings: e.of(500, 1)}} {
		var mine, peer []float64
		for range e.rounds {
			mine = append(mine, push(feeder, watcher, t))
			peer = append(peer, push(pusher, subscriber, t))
		}
		r.judge(goal{what: "live push p50", load: fmt.Sprintf("device → watcher, TCP and Noise, one each %s", t.Pace), ours: spreadOf(mine...),
			peer: "mosquitto QoS1 TLS", theirs: spreadOf(peer...), unit: "µs", aim: 0.6})
	}
}

// openSSH starts an sshd of the benchmark's own on loopback, for this user, by a key of its own. run gives the median of n commands that do nothing.
func openSSH(b *testing.B) (run func(b *testing.B, n int) time.Duration, err error) {
	b.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err == nil {
		_, err = exec.LookPath("ssh")
	}
	if err != nil {
		return nil, fmt.Errorf("sshd is missing: apt-get install --no-install-recommends openssh-server openssh-client (%w)", err)
	}
	who, err := user.Current()
	must(b, err)
	dir := b.TempDir()
	for _, name := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	s := &server{addr: "127.0.0.1:" + freePort(b)}
	conf := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n"+
		"PermitRootLogin prohibit-password\nUseDNS no\n", port(s.addr), dir, dir)
	file := filepath.Join(dir, "sshd_config")
	must(b, os.WriteFile(file, []byte(conf), 0o600))
	cmd := exec.Command(sshd, "-D", "-e", "-f", file)
	if os.Getuid() == 0 { // it wants a folder below /run, which is made where nobody else sees it
		cmd = exec.Command("unshare", "--mount", "--kill-child", "sh", "-c", "mount -t tmpfs none /run && mkdir /run/sshd && exec "+sshd+" -D -e -f "+file)
	}
	if out, err := exec.Command(sshd, "-t", "-f", file).CombinedOutput(); err != nil && os.Getuid() != 0 {
		return nil, fmt.Errorf("sshd: %w: %s", err, out)
	}
	s.start(b, cmd, s.addr)
	args := []string{"-F", "none", "-i", filepath.Join(dir, "user"), "-p", port(s.addr), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", who.Username + "@127.0.0.1", "true"}
	return func(b *testing.B, n int) time.Duration {
		b.Helper()
		took := make([]time.Duration, n)
		for i := range took {
			began := time.Now()
			if out, err := exec.Command("ssh", args...).CombinedOutput(); err != nil {
				b.Fatalf("ssh: %v: %s", err, out)
			}
			took[i] = time.Since(began)
		}
		slices.Sort(took)
		return took[n/2]
	}, nil
}
