// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// The child of TestKilled seals until it is killed and says what it sealed.
const (
	childDir    = "OUTBOX_TEST_DIR"
	childReader = "OUTBOX_TEST_READER"
	childFirst  = "OUTBOX_TEST_FIRST"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := sealForever(dir, os.Getenv(childReader), os.Getenv(childFirst)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func sealForever(dir, reader, first string) error {
	raw, err := hex.DecodeString(reader)
	if err != nil {
		return err
	}
	r, err := journal.NewReader(raw)
	if err != nil {
		return err
	}
	var n int
	if _, err := fmt.Sscan(first, &n); err != nil {
		return err
	}
	o := options(dir)
	o.Durability = outbox.Strict
	b, rec, err := outbox.Open(ctx, o)
	if err != nil {
		return err
	}
	say := func(s *journal.Segment, err error) error {
		if err == nil {
			fmt.Println("sealed", s.Chain, s.Seq, s.Hash)
		}
		return err
	}
	for _, name := range []string{"main", "slow"} {
		if err := say(b.StartEpoch(ctx, name, []journal.Reader{r}, journal.Stamp{Boot: boot})); err != nil {
			return err
		}
	}
	for _, left := range rec.Spooled {
		if err := say(b.Seal(ctx, left.Stream, left.Boot, left.Readings)); err != nil {
			return err
		}
	}
	for {
		batch := readings(n, 3)
		if err := b.Spool(ctx, "main", boot, batch); err != nil {
			return err
		}
		fmt.Println("spooled", n, n+3)
		n += 3
		if err := say(b.Seal(ctx, "main", boot, batch)); err != nil {
			return err
		}
		if n%5 == 0 {
			if err := say(b.Note(ctx, "slow", journal.Note{Clock: &journal.ClockNote{Boot: boot, Mono: 1, Wall: 5}}, journal.Stamp{Boot: boot})); err != nil {
				return err
			}
		}
	}
}

// TestKilled kills a device round after round: no place is used twice, nothing that was sealed is missing, and in strict
// durability every reading that counted is sealed once.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	k, rs := readerKey(t)
	said := map[string]string{} // place to hash
	h := newHistory(t)
	next := 0
	for round := range 22 {
		for _, line := range runChild(t, dir, hex.EncodeToString(k.Public()), next, 4+rand.IntN(40)) {
			var chain, hash string
			var seq uint64
			var first, end int
			if n, _ := fmt.Sscanf(line, "spooled %d %d", &first, &end); n == 2 {
				next = end
				continue
			}
			if n, err := fmt.Sscanf(line, "sealed %s %d %s", &chain, &seq, &hash); n != 3 {
				t.Fatalf("child says %q: %v", line, err)
			}
			place := fmt.Sprint(chain, " ", seq)
			if old, ok := said[place]; ok && old != hash {
				t.Fatalf("round %d: %s was sealed as %s, now as %s", round, place, old, hash)
			}
			said[place] = hash
		}
		next += 1000 // what the child counted and could not say any more
	}
	o := options(dir)
	o.Durability = outbox.Strict
	b, rec := open(t, o)
	if rec.Clean || len(rec.Gaps) != 0 {
		t.Errorf("%+v", rec)
	}
	start(t, b, "main", rs)
	for _, left := range rec.Spooled {
		_, err := b.Seal(ctx, left.Stream, left.Boot, left.Readings)
		check(t, err)
	}
	h.add(drain(t, b, receipt(3))...)
	for place, hash := range said {
		if got := h.hash(place); got != hash {
			t.Errorf("%s was sealed as %s, published is %q", place, hash, got)
		}
	}
	values, gaps, after := h.read(k)
	if len(slices.Compact(slices.Clone(values))) != len(values) {
		t.Error("a reading was sealed twice")
	}
	if len(after) < 22 || len(gaps) != 0 || len(said) < 100 {
		t.Errorf("%d continuations, gaps %v, %d segments", len(after), gaps, len(said))
	}
	h.linked(after)
}

// linked fails the test unless all continuations name links that were published.
func (h *history) linked(after map[journal.Chain]*journal.Continuation) {
	h.t.Helper()
	for c, a := range after {
		old := c
		old.Incarnation = a.Incarnation
		if s := h.seen[old][a.Last.Seq]; s == nil || s.Hash != a.Last.Hash {
			h.t.Errorf("%s continues %s seq %d, which is unknown", c, old, a.Last.Seq)
		}
	}
}

func (h *history) hash(place string) string {
	for c, segs := range h.seen {
		for seq, s := range segs {
			if fmt.Sprint(c, " ", seq) == place {
				return s.Hash.String()
			}
		}
	}
	return ""
}

// runChild runs a child, kills it when it has said so many lines and returns all of them.
func runChild(t *testing.T, dir, reader string, first, lines int) []string {
	t.Helper()
	c, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(c, os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childReader+"="+reader, fmt.Sprintf("%s=%d", childFirst, first))
	out, err := cmd.StdoutPipe()
	check(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	check(t, cmd.Start())
	var said []string
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil { // a line that the kill cut in two does not count
			break
		}
		if said = append(said, strings.TrimSpace(line)); len(said) == lines {
			check(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait() // it was killed
	if len(said) < lines {
		t.Fatalf("child said only %q; %s", said, stderr.String())
	}
	return said
}

// small makes a small log, closed properly or not, with something published, and returns what is in it.
func small(t testing.TB, dir string, rs []journal.Reader, clean, slow bool) []*journal.Segment {
	t.Helper()
	b, _ := open(t, options(dir))
	segs := []*journal.Segment{start(t, b, "main", rs), seal(t, b, "main", 0, 2)}
	items, err := b.Take(ctx, 1)
	check(t, err)
	check(t, b.Ack(items[0], receipt(2)))
	segs = append(segs, seal(t, b, "main", 2, 2))
	if slow {
		segs = append(segs, start(t, b, "slow", rs), seal(t, b, "slow", 4, 1), seal(t, b, "main", 5, 1))
	}
	if clean {
		check(t, b.Close())
	}
	return segs
}

// copyLog copies a log without the marker of a clean end, or with it.
func copyLog(t testing.TB, from, to string, change func(name string, data []byte) []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(to, "log"), 0o700))
	files, err := os.ReadDir(filepath.Join(from, "log"))
	check(t, err)
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(from, "log", f.Name()))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(to, "log", f.Name()), change(f.Name(), data), 0o600))
	}
}

// unsynced makes tests of thousands of damaged logs fast: no power cut comes in them.
type unsynced struct{ wal.File }

func (unsynced) Sync() error { return nil }

// goOn opens a damaged log, writes to it, publishes all and checks that it began a new incarnation.
func goOn(t testing.TB, what, dir string, rs []journal.Reader, h *history, before []*journal.Segment) outbox.Recovery {
	t.Helper()
	o := options(dir)
	o.Wrap = func(f wal.File) wal.File { return unsynced{f} }
	b, rec := open(t, o)
	defer b.Close()
	if rec.Clean {
		t.Fatalf("%s: the log counts as intact", what)
	}
	fresh := []*journal.Segment{start(t, b, "main", rs), seal(t, b, "main", 1000, 2), start(t, b, "slow", rs), seal(t, b, "slow", 2000, 1)}
	for _, s := range fresh {
		for _, old := range before {
			if s.Chain == old.Chain {
				t.Fatalf("%s: %s goes on", what, s.Chain)
			}
		}
	}
	h.add(fresh...)
	h.add(drain(t, b, receipt(3))...)
	return rec
}

// TestTruncatedAnywhere cuts the log at every offset.
func TestTruncatedAnywhere(t *testing.T) {
	k, rs := readerKey(t)
	dir := t.TempDir()
	h := newHistory(t)
	before := small(t, dir, rs, true, false)
	h.add(before...)
	data, err := os.ReadFile(filepath.Join(dir, "log", "0000000000000001.wal"))
	check(t, err)
	step := 1
	if testing.Short() {
		step = 13
	}
	const workers = 8 // they wait for the disk most of the time
	t.Run("cut", func(t *testing.T) {
		for w := range workers {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				for cut := w * step; cut < len(data); cut += workers * step {
					to := filepath.Join(dir, fmt.Sprint("cut", w))
					copyLog(t, dir, to, func(name string, data []byte) []byte {
						if strings.HasSuffix(name, ".wal") {
							return data[:cut]
						}
						return data
					})
					goOn(t, fmt.Sprintf("cut at %d", cut), to, rs, h, before)
					check(t, os.RemoveAll(to))
				}
			})
		}
	})
	others := 0
	for c := range h.seen { // opening an epoch takes a millisecond: a tenth of them will do
		if others++; c != before[0].Chain && others%10 != 0 {
			delete(h.seen, c)
		}
	}
	_, gaps, after := h.read(k)
	if len(gaps) != 0 || len(after) < 100 && !testing.Short() {
		t.Errorf("a cut tail makes gaps %v, %d continuations", gaps, len(after))
	}
	h.linked(after)
}

// TestTruncatedInPlace cuts the very log that was closed, so that only its content can tell.
func TestTruncatedInPlace(t *testing.T) {
	_, rs := readerKey(t)
	for _, cut := range []int64{1, 9, 100, 700, 1500} {
		dir := t.TempDir()
		h := newHistory(t)
		before := small(t, dir, rs, true, true)
		h.add(before...)
		log := filepath.Join(dir, "log", "0000000000000001.wal")
		info, err := os.Stat(log)
		check(t, err)
		check(t, os.Truncate(log, info.Size()-cut))
		goOn(t, fmt.Sprintf("cut by %d", cut), dir, rs, h, before)
	}
}

// TestRestoredBackup puts an older copy of the log back, marker and all, after the device went on.
func TestRestoredBackup(t *testing.T) {
	_, rs := readerKey(t)
	dir, backup := t.TempDir(), t.TempDir()
	h := newHistory(t)
	h.add(small(t, dir, rs, true, true)...)
	same := func(_ string, data []byte) []byte { return data }
	copyLog(t, dir, backup, same)
	b, _ := open(t, options(dir))
	h.add(start(t, b, "main", rs), seal(t, b, "main", 50, 5))
	check(t, b.Close())
	check(t, os.RemoveAll(filepath.Join(dir, "log")))
	copyLog(t, backup, dir, same)
	before := []*journal.Segment{}
	for _, segs := range h.seen {
		for _, s := range segs {
			before = append(before, s)
		}
	}
	goOn(t, "backup", dir, rs, h, before)
}

// TestBitFlips: what damage takes is told, and nothing is forked.
func TestBitFlips(t *testing.T) {
	k, rs := readerKey(t)
	told := 0
	for round := range 80 {
		dir := t.TempDir()
		h := newHistory(t)
		before := small(t, dir, rs, round%2 == 0, true)
		h.add(before...)
		to := filepath.Join(t.TempDir(), "x")
		copyLog(t, dir, to, func(name string, data []byte) []byte {
			if strings.HasSuffix(name, ".wal") {
				data[24+rand.IntN(len(data)-24)] ^= 1 << rand.IntN(8)
			}
			return data
		})
		rec := goOn(t, fmt.Sprintf("round %d", round), to, rs, h, before)
		if rec.Dropped == 0 || rec.Reason == "" {
			t.Fatalf("round %d: damage is not reported: %+v", round, rec)
		}
		_, gaps, _ := h.read(k)
		if len(gaps) != len(rec.Gaps) {
			t.Fatalf("round %d: %d gaps are told, found were %v", round, len(gaps), rec.Gaps)
		}
		for _, g := range gaps {
			if g.Reason != journal.GapRecovery || g.Segments != g.To-g.From+1 {
				t.Fatalf("round %d: %+v", round, g)
			}
			told++
		}
		again, rec := open(t, options(to)) // the damage is still there, and known
		if len(rec.Gaps) != 0 {
			t.Fatalf("round %d: told once more: %+v", round, rec)
		}
		check(t, again.Close())
	}
	if told < 10 {
		t.Errorf("only %d gaps in all rounds", told)
	}
}

// TestForeignLog: the outbox of another device or fleet is not published under this one's name.
func TestForeignLog(t *testing.T) {
	_, rs := readerKey(t)
	dir := t.TempDir()
	small(t, dir, rs, true, true)
	o := options(dir)
	o.Signer = key(2)
	b, rec := open(t, o)
	if rec.Clean || rec.Pending != 0 || rec.Skipped != 6 {
		t.Fatalf("%+v", rec)
	}
	if s := start(t, b, "main", rs); s.Seq != 0 || s.Chain.Device != key(2).ID() {
		t.Errorf("%s seq %d", s.Chain, s.Seq)
	}
}
