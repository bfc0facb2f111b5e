// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/journal"
)

// TestTakeOver: two collectors follow one fleet into one database and share its devices. One is killed, or frozen and thawed, and the other takes its
// devices over within seconds. Nothing is lost, nothing is there twice.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		takeOver(t, "postgres", func(t *testing.T) (sinktest.Subject, string) {
			own := sinktest.NewDatabase(t)
			return sinktest.PostgresAt(t, own, postgres.DefaultSchema), own
		})
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		server := sinktest.MariaDB(t)
		takeOver(t, "mysql", func(t *testing.T) (sinktest.Subject, string) {
			s := sinktest.MySQL(server)(t)
			return s, s.Where
		})
	})
}

// takeOver runs both ways on databases of their own; fresh returns where each is, too.
func takeOver(t *testing.T, kind string, fresh func(t *testing.T) (s sinktest.Subject, where string)) {
	t.Helper()
	const devices, segments, per, every = 10, 110, 4, 100 // a segment of each device every 100 ms
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(2, devices)
			var segs []*journal.Segment
			for i := range devices {
				d := w.device(i)
				d.epoch(nil)
				d.readings(segments-1, per)
				segs = append(segs, d.all...)
			}
			path := w.freeze(t, segs)
			s, where := fresh(t)
			start := time.Now().Add(3 * time.Second)
			env := []string{envWorld + "=" + path, envKind + "=" + kind, envWhere + "=" + where, envStart + "=" + fmt.Sprint(start.UnixMilli()), envEvery + "=" + fmt.Sprint(every)}
			one, two := startChild(t, env...), startChild(t, env...)
			until(t, "both write", func() bool { return one.wrote.Load() > 200 && two.wrote.Load() > 200 })
			before := [2]uint64{one.wrote.Load(), two.wrote.Load()}
			struck := time.Now()
			if how == "killed" {
				one.kill(t)
			} else if err := one.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			after := int64(struck.Sub(start)/time.Millisecond)/every + 1
			t.Logf("%s: struck %v after the start, so seq %d counts", how, struck.Sub(start), after)
			until(t, "the other took over", func() bool { // every device's newest reading was published after the blow
				return s.Count(t, fmt.Sprintf(`SELECT count(*) FROM checkpoint WHERE seq >= %d`, after)) == devices
			})
			took := time.Since(struck)
			if how == "frozen" {
				if err := one.cmd.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				one.wait(t, false)
			}
			two.wait(t, false)
			same(t, stored(t, s), w.made)
			total := one.wrote.Load() + two.wrote.Load()
			t.Logf("%s after %d and %d readings; the other had all devices %.1f s later; %d readings, %d written twice into the same place", how,
				before[0], before[1], took.Seconds(), len(w.made), max(int(total)-len(w.made), 0))
			if took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			if int(total) > len(w.made)*3/2 {
				t.Errorf("%d readings were written to get %d: the work is not shared", total, len(w.made))
			}
		})
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: not within %v", what, within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestSharesAreStable: each device belongs to exactly one of those who are there, and only the devices of one who leaves change hands.
func TestSharesAreStable(t *testing.T) {
	var chains []journal.Chain
	for i := range 200 {
		chains = append(chains, sinktest.Chain(byte(i), 0))
	}
	owners := func(here ...string) map[journal.Chain]string {
		out := map[journal.Chain]string{}
		for _, c := range chains {
			for _, self := range here {
				if collector.Mine(self, here, c.Device) {
					if out[c] != "" {
						t.Errorf("%s and %s both pull %s", out[c], self, c)
					}
					out[c] = self
				}
			}
			if out[c] == "" {
				t.Errorf("nobody pulls %s", c)
			}
		}
		return out
	}
	all := owners("a", "b", "c")
	less := owners("c", "a")
	count := map[string]int{}
	for c, who := range all {
		if count[who]++; who != "b" && less[c] != who {
			t.Errorf("%s went from %s to %s though b left", c, who, less[c])
		}
	}
	if slices.Min([]int{count["a"], count["b"], count["c"]}) < len(chains)/6 {
		t.Errorf("shares %v", count)
	}
	if len(owners("solo")) != len(chains) {
		t.Error("one alone does not pull all")
	}
}
