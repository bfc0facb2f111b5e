// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

// streembit pull --follow starts before there is anything to pull, shows what a device publishes as it comes, each reading once, also while a hub dies
// and comes back, and ends well at Ctrl-C.
func TestPullFollow(t *testing.T) {
	s := swarm.New(t, 3, swarm.FastSensors)
	s.Start(s.Hubs...)
	cmd := exec.CommandContext(t.Context(), swarm.Program(t, "streembit"), "pull", "--follow", "--state", s.Reader.State)
	var log swarm.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	rows := make(chan row, 1<<16)
	go readRows(out, rows)
	s.Start(s.Device)
	seen := map[string]row{}
	await := func(what string, published int) {
		t.Helper()
		s.AwaitReceipts(published)
		swarm.WaitFor(t, what, func() error { return catchUp(t, rows, seen, s) })
	}
	await("what is published to be shown", 5)
	s.Kill(s.Hubs[2]) // one of two on its site: a majority needs both sites
	await("what is published while a hub is dead to be shown", len(s.Receipts())+5)
	s.Start(s.Hubs[2])
	await("what is published after it is back to be shown", len(s.Receipts())+5)
	s.Kill(s.Device)
	swarm.WaitFor(t, "the last to be shown", func() error { return catchUp(t, rows, seen, s) })
	must(t, cmd.Process.Signal(syscall.SIGINT))
	for r := range rows { // ends when the program does
		take(t, seen, r)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("pull --follow ended with %v: %s", err, log.Tail(20))
	}
	requireAll(t, s.Receipts(), seen)
}

func readRows(out io.Reader, rows chan<- row) {
	defer close(rows)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var r row
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			rows <- r
		}
	}
}

func take(t *testing.T, seen map[string]row, r row) {
	t.Helper()
	if _, twice := seen[r.ID]; twice {
		t.Fatalf("%s was shown twice", r.ID)
	}
	seen[r.ID] = r
}

// catchUp takes what was shown, and says what of the published segments is missing.
func catchUp(t *testing.T, rows <-chan row, seen map[string]row, s *swarm.Swarm) error {
	published := s.Receipts()
	for quiet := time.After(50 * time.Millisecond); ; {
		select {
		case r, ok := <-rows:
			if !ok {
				t.Fatal("pull --follow ended by itself")
			}
			take(t, seen, r)
		case <-quiet:
			have := map[string]uint32{}
			for _, r := range seen {
				have[segmentOf(r)]++
			}
			for _, n := range published {
				if got := have[fmt.Sprintf("%s/%d", n.Chain, n.Seq)]; got != n.Readings {
					return fmt.Errorf("%s seq %d: %d of %d readings", n.Chain, n.Seq, got, n.Readings)
				}
			}
			return nil
		}
	}
}
