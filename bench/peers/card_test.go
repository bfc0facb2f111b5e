// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/streembit/edge/bench/peers/load"
)

// card is where the bytes that reach a card are counted.
type card struct {
	dir  string
	stat string // of the block device; "" = the pages that the process dirtied are counted instead
	how  string
}

// newCard makes an ext4 of its own on a loop device, so that nobody else writes to it. That takes root; without it the
// kernel's count of dirtied pages serves, which leaves out what the file system's journal adds.
func newCard(b *testing.B) card {
	b.Helper()
	dir := b.TempDir()
	pages := card{dir: dir, how: "pages dirtied by the process, without the file system's journal (root would count blocks of an ext4 of its own)"}
	if os.Getuid() != 0 {
		return pages
	}
	image, mount := filepath.Join(dir, "card.img"), filepath.Join(dir, "card")
	must(b, os.Mkdir(mount, 0o700))
	for _, args := range [][]string{{"truncate", "-s", "1G", image}, {"mkfs.ext4", "-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", image},
		{"mount", "-o", "loop,noatime", image, mount}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			b.Logf("no file system of its own: %v: %v: %s", args, err, out)
			return pages
		}
	}
	b.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", mount).CombinedOutput(); err != nil {
			b.Errorf("umount: %v: %s", err, out)
		}
	})
	var st syscall.Stat_t
	must(b, syscall.Stat(mount, &st))
	dev := uint64(st.Dev) //nolint:unconvert // its type differs by architecture
	number := fmt.Sprintf("%d:%d", dev>>8&0xfff, dev&0xff|dev>>12&0xfff00)
	return card{dir: mount, stat: filepath.Join("/sys/dev/block", number, "stat"),
		how: "blocks written to the loop device of an ext4 of its own, journal included"}
}

// written makes the file system write all it has, and returns what its device got so far, in bytes.
func (c card) written(b *testing.B) int64 {
	b.Helper()
	if c.stat == "" {
		return 0
	}
	must(b, exec.Command("sync", "-f", c.dir).Run())
	raw, err := os.ReadFile(c.stat)
	must(b, err)
	sectors, err := strconv.ParseInt(strings.Fields(string(raw))[6], 10, 64)
	must(b, err)
	return sectors * 512
}

// benchCard writes as a device does that makes a reading a second, without waiting for the seconds to pass: a batch of
// 60 or of 10 readings is sealed, fsynced, published and acknowledged, then the next one. The plain way fsyncs each.
func benchCard(b *testing.B, e extent, r *report) {
	c := newCard(b)
	r.note("card: %s; in the outbox, one stream, published to 3 hubs; what else a device writes in a day is not in it", c.how)
	var sides []side
	const plain = "append + fsync of each reading"
	appender := startClient(b, load.Spec{Role: "append", Dir: c.dir}, nil)
	sides = append(sides, side{plain, appender, load.Task{Readings: e.of(1200, 1)}})
	s := newSwarm(b, 3, "")
	s.Start(s.Hubs...)
	device := startClient(b, load.Spec{Role: "device", States: []string{s.Device.State}, Fleet: fleetFile(s), Dir: filepath.Join(c.dir, "outbox")}, pids(s))
	device.everywhere(3)
	name := func(n int) string { return fmt.Sprintf("streembit 1 reading/s, %d s batches", n) }
	for _, n := range []int{60, 10} {
		sides = append(sides, side{name(n), device, load.Task{Do: "publish", Segment: n, Readings: e.of(3600, n), Window: 1, Settle: true}})
	}
	bytes := map[string][]float64{}
	for range e.rounds {
		for _, s := range sides {
			before := c.written(b)
			got := s.c.do(s.task)
			n := c.written(b) - before
			if c.stat == "" {
				n = got.Pages
			}
			r.add(s.name, got)
			bytes[s.name] = append(bytes[s.name], float64(n)/float64(got.Readings))
		}
	}
	for _, n := range []int{60, 10} {
		r.judge(goal{what: "bytes to the card per reading", load: name(n), ours: spreadOf(bytes[name(n)]...),
			peer: plain, theirs: spreadOf(bytes[plain]...), unit: "B", aim: map[int]float64{60: 1.0 / 30}[n]})
	}
}
