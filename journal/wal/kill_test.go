// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/journal/wal"
)

const childDir = "STREEMBIT_WAL_TEST_DIR"

// TestKillChild is the process that TestKill kills: four writers that print what was acknowledged.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return // not a test of its own: TestKill runs it
	}
	l, _, err := wal.Open(dir, wal.Options{FileSize: 4096}, nil)
	must(t, err)
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				data := fmt.Sprintf("%d.%d.%d.%s", os.Getpid(), w, i, strings.Repeat("x", i%700))
				if pos, err := l.Append(context.Background(), []byte(data)); err == nil {
					os.Stdout.WriteString(fmt.Sprintf("acked %v %s\n", pos[0], data)) // one write: lines stay whole
				}
			}
		}()
	}
	select {}
}

// TestKill kills a writing process again and again: whatever it acknowledged is there.
func TestKill(t *testing.T) {
	dir, acked := t.TempDir(), map[string]string{}
	for round := range 10 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines, stop := bufio.NewScanner(out), 20+rand.IntN(300)
		deadline := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		n := 0
		for lines.Scan() {
			if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "acked" {
				acked[f[1]] = f[2]
				if n++; n == stop {
					must(t, cmd.Process.Kill())
				}
			}
		}
		deadline.Stop()
		_ = cmd.Wait() // it was killed
		if n < stop {
			t.Fatalf("round %d: the child acknowledged only %d", round, n)
		}
		l, rec, got := open(t, dir, wal.Options{FileSize: 4096})
		have := map[string]string{}
		for _, k := range got {
			have[k.at.String()] = string(k.data)
		}
		for at, data := range acked {
			if have[at] != data {
				t.Fatalf("round %d: %s was acknowledged with %.40q and holds %.40q", round, at, data, have[at])
			}
		}
		if rec.Clean {
			t.Errorf("round %d: clean", round)
		}
		closeLog(t, l)
	}
	t.Logf("%d acknowledged frames", len(acked))
}
