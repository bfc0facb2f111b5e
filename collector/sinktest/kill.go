// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	stdatomic "sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// The load of the kills: chains that grow by batches of segments, from where the sink says that each stands, as a collector does.
const (
	killChains = 3
	killBatch  = 4 // segments
	killRows   = 5 // readings of a segment
	killPace   = 2 * time.Millisecond
)

// grow writes the next batch of a chain; end is the seq after its last.
func grow(ctx context.Context, s collector.Sink, c journal.Chain, end uint64) (done bool, err error) {
	marks, err := s.Marks(ctx)
	if err != nil {
		return false, err
	}
	from := uint64(0)
	if l := marks[c].Link; l != nil {
		from = l.Seq + 1
	}
	if from >= end {
		return true, nil
	}
	return false, s.Write(ctx, batch(c, from, min(from+killBatch, end)-1, killRows))
}

// remoteServerKilled kills the server again and again under load.
func remoteServerKilled(t *testing.T, r *Remote) {
	s := r.open(t, t.TempDir())
	var end, failed, wrote stdatomic.Int64
	end.Store(1 << 40)
	var wg sync.WaitGroup
	var ends [killChains]uint64
	for i := range killChains {
		wg.Go(func() {
			for t.Context().Err() == nil {
				done, err := grow(t.Context(), s, Chain(byte(i), 1), uint64(end.Load()))
				if err != nil {
					failed.Add(1)
				} else {
					wrote.Add(1)
				}
				if done {
					break
				}
				time.Sleep(killPace)
			}
			if l := mark(t, s, Chain(byte(i), 1)).Link; l != nil {
				ends[i] = l.Seq + 1
			}
		})
	}
	for range Rounds() {
		before := wrote.Load()
		WaitFor(t, "the load to go on", func() error {
			if wrote.Load() < before+killChains {
				return errors.New("no write succeeds")
			}
			return nil
		})
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // when it is killed is left to chance
		r.kill(t)
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		r.restart(t)
	}
	end.Store(0)
	wg.Wait()
	r.complete(t, "server", ends[:], failed.Load())
}

// complete compares what the chains have with what the server has.
func (r *Remote) complete(t testing.TB, killed string, ends []uint64, failed int64) {
	t.Helper()
	n := 0
	for _, e := range ends {
		if e == 0 {
			t.Error("a chain did not grow")
		}
		n += int(e) * killRows
	}
	once := r.arrived(t, n)
	want := map[string]string{}
	for i, e := range ends {
		c := Chain(byte(i), 1).String()
		for _, row := range Rows(0, e-1, killRows) {
			want[c+"/"+strconv.FormatUint(row.Seq, 10)+"/"+strconv.Itoa(row.Index)] = fmt.Sprint(row.Value)
		}
	}
	for _, d := range once {
		if want[d.ID] != d.Value {
			t.Errorf("%s: %q, want %q", d.ID, d.Value, want[d.ID])
		}
		delete(want, d.ID)
	}
	if len(want) > 0 {
		t.Errorf("%d of %d readings are lost", len(want), n)
	}
	r.ordered(t, once)
	all := len(r.Got(t))
	t.Logf("%s killed %d times: %d readings written, %d lost, %d sent again, %d writes failed", killed, Rounds(), n, len(want), all-len(once), failed)
}

// The environment of a child process that writes and is killed.
const (
	childAddr = "STREEMBIT_SINKTEST_ADDR"
	childDir  = "STREEMBIT_SINKTEST_DIR"
	childEnd  = "STREEMBIT_SINKTEST_END"
	ready     = "ready to write"
)

// Child writes in a process of its own, which is killed; each package with a Remote has a test TestChild that calls it. Run by itself
// it does nothing.
func Child(t *testing.T, open func(ctx context.Context, addr, dir string) (collector.Sink, error)) {
	addr := os.Getenv(childAddr)
	if addr == "" {
		return
	}
	end, err := strconv.ParseUint(os.Getenv(childEnd), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), addr, os.Getenv(childDir))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(ready)
	var wg sync.WaitGroup
	for i := range killChains {
		wg.Go(func() {
			for {
				done, err := grow(t.Context(), s, Chain(byte(i), 1), end)
				if err != nil {
					t.Error(err)
				}
				if done || err != nil {
					return
				}
				time.Sleep(killPace)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// remoteCollectorKilled kills the writing process again and again; the last one may end.
func remoteCollectorKilled(t *testing.T, r *Remote) {
	dir := t.TempDir()
	end := uint64(0)
	for range Rounds() {
		end += 4000 // more than it writes before it is killed
		p := r.child(t, dir, end)
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond) // when it is killed is left to chance
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait() // killed, as it should be
		end = r.farthest(t, dir)
	}
	end += killBatch
	if err := r.child(t, dir, end).Wait(); err != nil {
		t.Fatal(err)
	}
	r.complete(t, "collector", []uint64{end, end, end}, 0)
}

// farthest is the seq after the longest chain's.
func (r *Remote) farthest(t testing.TB, dir string) (end uint64) {
	t.Helper()
	s := r.open(t, dir)
	for i := range killChains {
		if l := mark(t, s, Chain(byte(i), 1)).Link; l != nil {
			end = max(end, l.Seq+1)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return end
}

// child starts a process that writes and returns once it does.
func (r *Remote) child(t testing.TB, dir string, end uint64) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childAddr+"="+r.addr(), childDir+"="+dir, childEnd+"="+strconv.FormatUint(end, 10))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), ready) {
			t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
			return cmd
		}
	}
	t.Fatalf("the writing process ended at once: %v", cmd.Wait())
	return nil
}
