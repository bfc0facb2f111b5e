// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

// logLine is a line of streembitd's log, as far as the tests look at it.
type logLine struct {
	Level    string `json:"level"`
	Msg      string `json:"msg"`
	Clean    bool   `json:"clean"`
	Dropped  int64  `json:"dropped_bytes"`
	Reason   string `json:"reason"`
	Unsealed int    `json:"unsealed_readings"`
}

// lastLine returns the newest line of a member's log with this message.
func lastLine(t *testing.T, m *swarm.Member, msg string) logLine {
	t.Helper()
	lines := strings.Split(m.Log.String(), "\n")
	slices.Reverse(lines)
	for _, text := range lines {
		var l logLine
		if json.Unmarshal([]byte(text), &l) == nil && l.Msg == msg {
			return l
		}
	}
	t.Fatalf("%s never logged %q:\n%s", m.Name, msg, m.Log.Tail(20))
	return logLine{}
}

// newestLog returns the newest file of the device's outbox and its size.
func newestLog(t *testing.T, s *swarm.Swarm) (path string, size int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Device.State, "outbox", "log", "*.wal"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("the outbox has no log")
	}
	slices.Sort(files)
	path = files[len(files)-1]
	info, err := os.Stat(path)
	must(t, err)
	return path, info.Size()
}

// A device is killed and the end of its outbox's log torn or spoilt: the next start says what it dropped, begins a new
// incarnation and goes on. What was acknowledged before is there, and no reader sees a fork.
func TestCorruptOutbox(t *testing.T) {
	s := swarm.New(t, 3, strings.ReplaceAll(swarm.FastSensors, "300ms", "100ms"))
	s.Start(s.Hubs...)
	s.Start(s.Device)
	for name, damage := range map[string]func(t *testing.T, path string, size int64){
		"torn": func(t *testing.T, path string, size int64) { must(t, os.Truncate(path, size-7)) },
		"torn far": func(t *testing.T, path string, size int64) { // segments that were acknowledged go with it
			must(t, os.Truncate(path, size-size/3))
		},
		"flipped": func(t *testing.T, path string, size int64) {
			for at := size - 3; at > max(size-4000, size/2); at -= 500 {
				must(t, flip(path, at))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.AwaitReceipts(readingSegments(s) + 8)
			s.Kill(s.Device)
			before := chainsOf(s)
			path, size := newestLog(t, s)
			damage(t, path, size)
			s.Start(s.Device)
			l := lastLine(t, s.Device, "outbox opened")
			if l.Level != "WARN" || l.Clean || l.Dropped == 0 || !strings.Contains(l.Reason, filepath.Base(path)) {
				t.Errorf("it does not say what it dropped: %+v", l)
			}
			s.AwaitReceipts(readingSegments(s) + 3)
			if after := chainsOf(s); len(after) != len(before)+1 {
				t.Errorf("%d incarnations before, %d after", len(before), len(after))
			}
		})
	}
	s.Kill(s.Device)
	rows, stderr, code := pullAll(t, s)
	requireAll(t, s.Receipts(), rows)
	if !strings.Contains(stderr, " forks=0 ") || !strings.Contains(stderr, " bad=0 ") || code != 0 {
		t.Errorf("pull exited with %d: %s", code, stderr)
	}
	for _, h := range s.Hubs { // they have seen everything that left the device
		v, err := s.Status(h)
		must(t, err)
		st := v["store"].(map[string]any)
		if st["forks"].(float64) != 0 || st["refused"].(map[string]any)["fork"] != nil {
			t.Errorf("%s saw a fork: %v", h.Name, st)
		}
	}
}

func readingSegments(s *swarm.Swarm) (n int) {
	for _, r := range s.Receipts() {
		if r.Readings > 0 {
			n++
		}
	}
	return n
}

func chainsOf(s *swarm.Swarm) map[string]bool {
	chains := map[string]bool{}
	for _, r := range s.Receipts() {
		chains[r.Chain] = true
	}
	return chains
}

// slowBatch samples ten times a second and seals nothing for an hour; eager is the same with batches of a moment.
const (
	door = `
[[sensor]]
name = "door"
driver = "gpio"
pin = "GPIO17"
interval = "100ms"
`
	slowBatch = "[[stream]]\nname = \"main\"\nbatch_age = \"1h\"\n" + door
	eager     = "[[stream]]\nname = \"main\"\nbatch_age = \"300ms\"\n" + door
)

// durability is a line of the config's [outbox] table, which Configure leaves open.
func durability(d string) string { return fmt.Sprintf("durability = %q\n", d) }

// Readings that were sampled and not sealed when the device is killed are there after the restart if durability is strict,
// and, the control, gone if it is balanced.
func TestUnsealedReadings(t *testing.T) {
	for d, kept := range map[string]bool{"strict": true, "balanced": false} {
		t.Run(d, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			s := swarm.New(t, 1, durability(d)+slowBatch)
			s.Start(s.Hubs...)
			s.Start(s.Device)
			const n = 10
			awaitReads(t, s, n)
			sampled := awaitReads(t, s, 2*n) - n // of the newest the fsync may be under way
			if r := s.Receipts(); len(r) != 0 {
				t.Fatalf("sealed before its time: %+v", r[0])
			}
			killed := time.Now()
			s.Kill(s.Device)
			s.Configure(s.Device, durability(d)+eager)
			s.Start(s.Device)
			s.AwaitReceipts(3)
			s.Kill(s.Device)

			rows, stderr, code := pullAll(t, s)
			if code != 0 {
				t.Fatalf("pull exited with %d: %s", code, stderr)
			}
			early := 0
			for _, r := range rows {
				at, err := time.Parse(time.RFC3339, r.Time)
				must(t, err)
				if at.Before(killed) {
					early++
				}
			}
			unsealed := lastLine(t, s.Device, "outbox opened").Unsealed
			if kept && (early < sampled || unsealed < sampled) {
				t.Errorf("%d readings were sampled before the kill; %d of them pulled, %d found at the restart", sampled, early, unsealed)
			}
			if !kept && (early != 0 || unsealed != 0) {
				t.Errorf("balanced kept %d readings (%d found): the test shows nothing", early, unsealed)
			}
		})
	}
}

// awaitReads waits until the device's only sensor was read n times, and returns how often it was.
func awaitReads(t *testing.T, s *swarm.Swarm, n int) (reads int) {
	t.Helper()
	swarm.WaitFor(t, fmt.Sprintf("%d reads", n), func() error {
		v, err := s.Status(s.Device)
		if err != nil {
			return err
		}
		sensor := v["device"].(map[string]any)["sensors"].([]any)[0].(map[string]any)
		if reads = int(sensor["reads"].(float64)); reads < n {
			return fmt.Errorf("%d so far", reads)
		}
		return nil
	})
	return reads
}
