// SPDX-License-Identifier: Apache-2.0

package nat_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport/transporttest"
)

// board is a real streembitd in a namespace, with a simulated board.
type board struct {
	l           *lab
	name, state string
	config      string
	key         journal.SoftKey
	cmd         *exec.Cmd
	log         *swarm.Buffer
}

func (l *lab) board(name, addr, config string) *board {
	l.t.Helper()
	l.host(name, addr)
	b := &board{l: l, name: name, state: l.t.TempDir()}
	var err error
	b.key, err = fleet.LoadOrCreateKey(filepath.Join(b.state, fleet.KeyFile))
	check(l.t, err)
	b.config = filepath.Join(b.state, "config.toml")
	check(l.t, os.WriteFile(b.config, fmt.Appendf(nil, "state = %q\n[board]\nname = \"sim\"\n%s", b.state, config), 0o600))
	return b
}

func (b *board) start() {
	b.l.t.Helper()
	b.log = &swarm.Buffer{}
	cmd, log := exec.Command("ip", "netns", "exec", b.l.ns(b.name), swarm.Program(b.l.t, "streembitd"), "run", "--config", b.config), b.log
	cmd.Stderr = log
	check(b.l.t, cmd.Start())
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	b.cmd = cmd
	b.l.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-done
		if b.l.t.Failed() {
			b.l.t.Logf("%s: %s", b.name, log.Tail(20))
		}
	})
}

func (b *board) kill() {
	b.l.t.Helper()
	check(b.l.t, b.cmd.Process.Kill())
}

// audited counts the lines of the audit of one event that say so.
func (b *board) audited(event, says string) (n int) {
	out, err := exec.Command(swarm.Program(b.l.t, "streembitd"), "audit", "--state", b.state, "--event", event).CombinedOutput()
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, says) {
			n++
		}
	}
	return n
}

// TestLANRule: a rule of one device switches an output of another on the same network, with neither hub nor internet, over each IP version; and again after both programs
// have started anew, on other ports.
func TestLANRule(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{"IPv4": "10.78.0.", "IPv6": "fd78::"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			warm := l.board("warm", prefix+"10", `
[[sensor]]
name = "air"
driver = "bme280"
interval = "1s"
[[rule]]
name = "hot"
do = "when air/temperature > -100 for 1s then set lamp/switch on at pi-2"
`)
			lit := l.board("lit", prefix+"11", "[[sensor]]\nname = \"lamp\"\ndriver = \"gpio-out\"\npin = \"GPIO22\"\n")
			owner, _, err := fleet.NewKey()
			check(t, err)
			spare, _, err := fleet.NewKey()
			check(t, err)
			recovery, err := journal.GenerateReaderKey()
			check(t, err)
			f, err := fleet.Found(fleet.Founding{Name: "lan", Owner: owner, Spare: spare.ID(), Recovery: recovery.Public()}, time.Now())
			check(t, err)
			f, err = f.Grant(fleet.Author{Key: owner}, time.Now(), fleet.Grant{Member: lit.key.ID(), Name: "pi-2", Roles: fleet.Device},
				fleet.Grant{Member: warm.key.ID(), Name: "pi-1", Roles: fleet.Device, Rights: []fleet.Right{{Do: fleet.Command, On: []string{"pi-2"}, What: []string{"lamp/*"}}}})
			check(t, err)
			for _, b := range []*board{warm, lit} {
				check(t, f.Save(filepath.Join(b.state, "fleet.cbor")))
			}
			for turn := 1; turn <= 2; turn++ {
				began := time.Now()
				lit.start()
				warm.start()
				transporttest.WaitFor(t, "the rule to act on the other device", func() (bool, string) {
					n := lit.audited("call-ended", "done")
					return n >= turn && lit.audited("call", warm.key.ID().String()) >= turn, fmt.Sprintf("%d calls are done; %s", n, warm.log.Tail(2))
				})
				t.Logf("acted %s after the start of both", time.Since(began).Round(10*time.Millisecond))
				lit.kill()
				warm.kill()
			}
			if n := warm.audited("rule", "true at pi-2"); n != 2 {
				t.Errorf("the rule's device has noted %d acts, want 2", n)
			}
		})
	}
}
