// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/mysql"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/journal"
)

// What a child process is told in its environment.
const (
	envWorld = "COLLECTOR_TEST_WORLD" // a frozen world
	envKind  = "COLLECTOR_TEST_KIND"  // sqlite, mysql or postgres
	envWhere = "COLLECTOR_TEST_SINK"  // path, or DSN
	envStart = "COLLECTOR_TEST_START" // ms since 1970 when the devices' first segments are published
	envEvery = "COLLECTOR_TEST_EVERY" // ms between a device's segments; 0: all are there
)

// ready is what a child says before it follows.
const ready = "ready to follow"

// within is how long a test waits for what must happen.
const within = 2 * time.Minute

// TestChild is not a test of its own: it is a collector in a process that can be killed. It follows until it has everything, and says how much it wrote.
func TestChild(t *testing.T) {
	path := os.Getenv(envWorld)
	if path == "" {
		return
	}
	sink := collector.NewLazy(func(ctx context.Context) (collector.Sink, error) {
		switch os.Getenv(envKind) {
		case "sqlite":
			return sqlite.Open(ctx, os.Getenv(envWhere))
		case "mysql":
			return mysql.Open(ctx, os.Getenv(envWhere), "")
		}
		return postgres.Open(ctx, os.Getenv(envWhere), "")
	})
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	last := map[journal.Chain]uint64{}
	w := thaw(t, path, func(w *world, segs []frozenSegment) {
		for _, s := range segs {
			last[s.Chain] = max(last[s.Chain], s.Seq)
		}
		wg.Go(func() { w.reveal(ctx, segs) })
	})
	c, err := collector.New(collector.Config{Source: crowded{w}, Sink: sink, Fleet: w.current, Key: w.reader, Reader: w.readerID})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(ready)
	wg.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) { // what it wrote, for who watches
			fmt.Println("wrote", c.Progress().Readings)
			if marks, err := sink.Marks(ctx); err == nil && complete(marks, last) {
				cancel()
			}
		}
	})
	if err := c.Follow(ctx, func(collector.Report) {}); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("wrote", c.Progress().Readings)
}

// reveal publishes each device's segments, one after the other.
func (w *world) reveal(ctx context.Context, segs []frozenSegment) {
	number := func(name string) int64 { n, _ := strconv.ParseInt(os.Getenv(name), 10, 64); return n } // 0 if it is not set
	start, every := time.UnixMilli(number(envStart)), time.Duration(number(envEvery))*time.Millisecond
	byTurn := map[uint64][]frozenSegment{}
	var turns uint64
	for _, s := range segs {
		byTurn[s.Seq] = append(byTurn[s.Seq], s)
		turns = max(turns, s.Seq+1)
	}
	for turn := range turns {
		if wait := time.Until(start.Add(time.Duration(turn) * every)); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		for _, s := range byTurn[turn] {
			for _, h := range w.hubs {
				w.put(h, s.Chain, s.Seq, s.Raw)
			}
		}
	}
}

func complete(marks map[journal.Chain]collector.Mark, last map[journal.Chain]uint64) bool {
	for chain, seq := range last {
		m := marks[chain]
		if m.Link == nil || m.Link.Seq < seq || len(m.Gaps) > 0 {
			return false
		}
	}
	return true
}

// child is a collector in a process.
type child struct {
	cmd   *exec.Cmd
	wrote atomic.Uint64 // readings, as it said last
	ended chan error
	out   []string // before ended only the reader's
}

// start returns when the child begins to follow.
func startChild(t *testing.T, env ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.timeout=5m"), ended: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), env...)
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	go func() {
		var once sync.Once
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			line := lines.Text()
			c.out = append(c.out, line)
			if line == ready {
				once.Do(func() { close(begun) })
			}
			if n, ok := strings.CutPrefix(line, "wrote "); ok {
				wrote, _ := strconv.ParseUint(n, 10, 64) // our own words
				c.wrote.Store(wrote)
			}
		}
		once.Do(func() { close(begun) })
		c.ended <- c.cmd.Wait()
	}()
	select {
	case <-begun:
	case <-time.After(within):
		t.Fatal("the collector does not start")
	}
	return c
}

// kill ends a child with SIGKILL; true if it had ended well by itself.
func (c *child) kill(t *testing.T) bool {
	t.Helper()
	_ = c.cmd.Process.Kill() // it may have ended
	return c.wait(t, true)
}

// wait returns whether the child ended well; killed says that it may have been killed.
func (c *child) wait(t *testing.T, killed bool) bool {
	t.Helper()
	select {
	case err := <-c.ended:
		if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil && !(killed && ok && status.Signal() == syscall.SIGKILL) {
			t.Fatalf("the collector failed by itself: %v\n%s", err, strings.Join(c.out[max(0, len(c.out)-30):], "\n"))
		}
		return err == nil
	case <-time.After(within):
		t.Fatal("the collector does not end")
	}
	return false
}

// rounds is how often kills are tried: 5, or COLLECTOR_ROUNDS (make soak: 100).
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("COLLECTOR_ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("COLLECTOR_ROUNDS=%q: want a number", text)
	}
	return n
}

// load makes a world for kills: three devices of n segments of 25 readings each.
func load(t *testing.T, n int) (w *world, path string) {
	t.Helper()
	w = newWorld(2, 3)
	var segs []*journal.Segment
	for i := range 3 {
		d := w.device(i)
		d.epoch(nil)
		d.readings(n/2, 25)
		d.epoch(nil)
		d.readings(n/2, 25)
		segs = append(segs, d.all...)
	}
	return w, w.freeze(t, segs)
}

// TestKill kills the collector with SIGKILL at random points of a backlog until one is left to finish, again and again: all readings are there, each once.
func TestKill(t *testing.T) {
	t.Parallel()
	w, path := load(t, 600)
	killed, inside := 0, 0
	for round := range rounds(t) {
		s := sinktest.SQLite(t)
		limit := 700 * time.Millisecond
		for {
			c := startChild(t, envWorld+"="+path, envKind+"=sqlite", envWhere+"="+s.Where)
			time.Sleep(rand.N(limit)) // where it is then is chance
			if c.kill(t) {
				break
			}
			killed++
			if n := s.Count(t, `SELECT count(*) FROM reading`); n > 0 && n < int64(len(w.made)) {
				inside++
			}
			limit += limit / 3
		}
		checkAll(t, s, w, round)
	}
	t.Logf("sqlite: %d rounds, the collector was killed %d times, %d of them with a part written; %d readings each round, none lost, none twice",
		rounds(t), killed, inside, len(w.made))
	if inside == 0 {
		t.Error("no kill came in the middle of the work")
	}
}

func checkAll(t *testing.T, s sinktest.Subject, w *world, round int) {
	t.Helper()
	same(t, stored(t, s), w.made)
	if n := s.Count(t, `SELECT count(*) FROM gap`); n != 0 {
		t.Errorf("%d gaps", n)
	}
	if t.Failed() {
		t.Fatalf("round %d", round)
	}
}

// TestKillServer kills the collector and PostgreSQL, each with SIGKILL, at random points of a backlog: all readings are there, each once.
func TestKillServer(t *testing.T) {
	t.Parallel()
	server := sinktest.NewServer(t, "fsync=off")
	w, path := load(t, 600)
	var collectors, servers, inside int
	for round := range rounds(t) {
		c := startChild(t, envWorld+"="+path, envKind+"=postgres", envWhere+"="+server.DSN)
		for done, kills := false, 0; !done; kills++ {
			time.Sleep(rand.N(time.Duration(300+400*kills) * time.Millisecond)) // where they are then is chance
			select {
			case err := <-c.ended:
				c.ended <- err
				done = c.wait(t, false)
				continue
			default:
			}
			if rand.N(2) == 0 {
				server.Kill()
				server.Start(t)
				servers++
			} else {
				if c.kill(t) {
					break
				}
				c = startChild(t, envWorld+"="+path, envKind+"=postgres", envWhere+"="+server.DSN)
				collectors++
			}
			if n := countOrZero(t, server); n > 0 && n < int64(len(w.made)) {
				inside++
			}
		}
		s := sinktest.PostgresAt(t, server.DSN, postgres.DefaultSchema)
		checkAll(t, s, w, round)
		if err := s.Sink.(*postgres.Sink).Drop(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: so far the server was killed %d times, the collector %d times", round, servers, collectors)
	}
	t.Logf("postgres: %d rounds, the server was killed %d times, the collector %d times, %d of them with a part written; %d readings each round, none lost, none twice",
		rounds(t), servers, collectors, inside, len(w.made))
	if servers == 0 || collectors == 0 || inside == 0 {
		t.Error("not both were killed in the middle of the work")
	}
}

// countOrZero counts readings; the tables may not be there yet.
func countOrZero(t *testing.T, server *sinktest.Server) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	_ = conn.QueryRow(t.Context(), `SELECT count(*) FROM streembit.reading`).Scan(&n)
	return n
}
